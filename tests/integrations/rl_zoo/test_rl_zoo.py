"""The zoo's own scripts, run at toy size: Rainbow, encoders by name, log folders that its plots read."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.monitor import load_results

from pretrainrl import make_encoder
from pretrainrl.errors import UnknownNameError
from pretrainrl.integrations.hub.description import describe
from pretrainrl.integrations.rl_zoo.command_line import main, with_settings
from pretrainrl.integrations.rl_zoo.frozen import frozen
from pretrainrl.integrations.sb3 import NeckExtractor, Rainbow
from pretrainrl.integrations.sb3.encoding import policies
from pretrainrl.integrations.sb3.rainbow import CnnPolicy

if importlib.util.find_spec("rl_zoo3") is None:  # importing it would patch Gymnasium for the tests of others
    pytest.skip('needs pip install "pretrainrl[zoo]"', allow_module_level=True)

OURS, ZOO = "pretrainrl.integrations.rl_zoo", "rl_zoo3"
PONG = "PongNoFrameskip-v4"
# Several scripts in one process, each as `python -m` would run it: importing the zoo takes seconds.
SCRIPT = """
import json, runpy, sys
for module, *arguments in json.loads(sys.argv[1]):
    print("=" * 8, module, *arguments, flush=True)
    sys.argv = [module, *arguments]
    sys.modules.pop("pretrainrl.integrations.rl_zoo.rainbow", None)  # whose dictionary the zoo has written into
    runpy.run_module(module, run_name="__main__")
"""
YAML = """
atari:
  policy: pretrainrl.integrations.sb3.encoding.policies.DQNEncoderPolicy
  policy_kwargs: {policy_kwargs}
  env_wrapper: stable_baselines3.common.atari_wrappers.AtariWrapper
  frame_stack: 4
  n_timesteps: 60
  buffer_size: 80
  learning_starts: 36
"""
IN_DOCS = re.findall(r"```yaml\n(.*?)```", (Path(__file__).parents[3] / "docs" / "rl-zoo.md").read_text(), re.DOTALL)


def words(options: dict[str, Any]) -> list[str]:
    found = []
    for key, value in options.items():
        option = f"-{key}" if len(key) == 1 or key == "params" else f"--{key.replace('_', '-')}"
        found += [option, *map(str, value if isinstance(value, list) else [value])]
    return found


def train(algo: str, module: str = ZOO, env: str = PONG, logs: str = "logs", **options: Any) -> list[str]:
    size: dict[str, Any] = (
        {"env_kwargs": "max_episode_steps:160", "eval_freq": 30, "n": 60} if env == PONG else {"eval_freq": 100, "n": 300}
    )
    common: dict[str, Any] = {"algo": algo, "env": env, "f": logs, "seed": 0, "device": "cpu", "eval_episodes": 2}
    script = [f"{ZOO}.train"] if module == ZOO else [OURS, "train"]
    return [*script, *words({**common, **size, **options})]


def enjoy(env: str = PONG, steps: int = 60) -> list[str]:
    return [OURS, "enjoy", *words({"algo": "rainbow", "env": env, "f": "logs", "n": steps, "device": "cpu"}), "--no-render"]


def python(script: str, folder: Path, *arguments: str) -> str:
    """Run a script in its own process, as the zoo patches Gymnasium when it is imported."""
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    environment: dict[str, Any] = {**os.environ, "MPLBACKEND": "Agg"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the zoo has trained and played."""
    folder = tmp_path_factory.mktemp("zoo")
    string = YAML.format(policy_kwargs="\"dict(encoder='random.nature', features_dim=16)\"")
    for name, text in zip(("string", "inside", "in_front"), (string, *IN_DOCS), strict=True):
        (folder / f"{name}.yml").write_text(text)
    small = ["learning_starts:36", "buffer_size:80"]
    search = [*words({"n_trials": 1, "n_evaluations": 1}), "-optimize", "--no-optim-plots"]
    commands = [
        train("rainbow", OURS, "CartPole-v1", params=["learning_starts:50"]),
        enjoy("CartPole-v1", 100),
        [*train("rainbow", OURS, "CartPole-v1", logs="search", n=200), *search],
        train("rainbow", OURS, params=[*small, "policy_kwargs:{'net_arch':[8]}"]),
        *(train("dqn", conf_file=f"{name}.yml", logs=name, params=small) for name in ("string", "inside")),
        train("qrdqn", conf_file="in_front.yml", logs="in_front", params=small),
        train("rainbow", OURS, conf_file=f"{OURS}.frozen", params=small),
        enjoy(),
        *(train(algo, conf_file=f"{OURS}.frozen", params=small) for algo in ("dqn", "qrdqn")),
        train("ppo", conf_file=f"{OURS}.frozen", params=["n_steps:16", "batch_size:16", "n_envs:2", "n_epochs:1"]),
    ]
    (folder / "output.txt").write_text(python(SCRIPT, folder, json.dumps(commands)))
    return folder


def run_of(here: Path, logs: str, algo: str, number: int = 1) -> Path:
    return here / logs / algo / f"{PONG}_{number}"


@pytest.mark.slow
def test_rainbow_leaves_the_zoos_log_folder(here: Path) -> None:
    run = here / "logs" / "rainbow" / "CartPole-v1_1"
    evaluations = np.load(run / "evaluations.npz")
    assert evaluations["timesteps"].tolist() == [100, 200, 300]
    assert evaluations["results"].shape == (3, 2)
    assert 0 < load_results(str(run)).l.sum() <= 300
    assert {path.name for path in (run / "CartPole-v1").iterdir()} == {"args.yml", "config.yml", "command.txt"}
    agent = Rainbow.load(run / "best_model.zip", device="cpu")
    assert (agent.v_min, agent.v_max, agent.noisy, agent.learning_starts) == (0, 100, False, 50)


@pytest.mark.slow
def test_enjoy_plays_what_was_trained(here: Path) -> None:
    played = [part for part in (here / "output.txt").read_text().split("=" * 8) if part.startswith(f" {OURS} enjoy")]
    assert len(played) == 2
    assert "Mean reward" in played[0]
    assert "Atari Episode Score" in played[1], "the agent on feature maps has not played an episode"


@pytest.mark.slow
def test_search_tries_rainbows_arguments(here: Path) -> None:
    [report] = (here / "search" / "rainbow").glob("report_CartPole-v1_1-trials*.csv")
    header, trial = report.read_text().splitlines()
    assert {"params_n_steps", "params_per_alpha", "params_noisy"} <= set(header.split(","))
    assert "COMPLETE" in trial


@pytest.mark.slow
def test_rainbow_on_atari_is_the_zoos_atari(here: Path) -> None:
    agent = Rainbow.load(run_of(here, "logs", "rainbow") / f"{PONG}.zip", device="cpu")
    assert type(agent.policy) is CnnPolicy
    assert agent.observation_space.shape == (4, 84, 84)
    assert agent.policy.net_args["net_arch"] == [8]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("logs", "encoder", "neck", "width"), [("string", "random.nature", "mlp", 16), ("inside", "siammae", "spatial_mlp", 512)]
)
def test_yaml_names_an_encoder(here: Path, logs: str, encoder: str, neck: str, width: int) -> None:
    path = run_of(here, logs, "dqn") / f"{PONG}.zip"
    agent = DQN.load(path, device="cpu")
    assert type(agent.policy) is policies.DQNEncoderPolicy
    assert agent.policy.encoder_arguments["encoder"] == encoder
    assert (agent.policy.encoder_arguments["neck"], agent.q_net.features_extractor.features_dim) == (neck, width)
    assert agent.policy.net_arch == []
    assert len(np.load(path.with_name("evaluations.npz"))["timesteps"]) == 2


@pytest.mark.slow
def test_yaml_wraps_in_an_encoder(here: Path) -> None:
    agent: Any = QRDQN.load(run_of(here, "in_front", "qrdqn") / f"{PONG}.zip", device="cpu")
    assert agent.observation_space.source.encoder == make_encoder("siammae").name
    assert isinstance(agent.quantile_net.features_extractor, NeckExtractor)
    assert describe(agent)["observed_encoder"]["sha256"] == make_encoder("siammae").sha256, "it can be pushed to the hub"


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "number", "algorithm"), [("rainbow", 2, Rainbow), ("dqn", 1, DQN), ("qrdqn", 1, QRDQN)])
def test_settings_on_frozen_maps(here: Path, algo: str, number: int, algorithm: Any) -> None:
    run = run_of(here, "logs", algo, number)
    agent = algorithm.load(run / f"{PONG}.zip", device="cpu")
    assert isinstance(agent.policy, policies.EncoderPolicy)
    assert isinstance(next(agent.policy.children()).features_extractor, NeckExtractor)
    assert agent.num_timesteps == 60
    assert (run / "evaluations.npz").is_file()


@pytest.mark.slow
def test_the_zoos_own_readers(here: Path) -> None:
    """Its plots read Rainbow's folder; its schedules, which are in PPO's zip, are described for the hub without pickle."""
    python(
        """
import pickle, sys
import numpy as np
from rl_zoo3 import linear_schedule
from rl_zoo3.plots import all_plots, plot_train
from stable_baselines3 import PPO
from pretrainrl.integrations.hub.json_codec import from_json, to_json

where = ["-a", "rainbow", "-e", "CartPole-v1", "-f", "logs"]
for plot, arguments in ((all_plots, ["-o", "results", "--no-display"]), (plot_train, [])):
    sys.argv = ["plot", *where, *arguments]
    plot()
[curve] = pickle.load(open("results.pkl", "rb"))["CartPole-v1"].values()
assert curve["timesteps"].tolist() == [100, 200, 300] and len(curve["mean"]) == 3

agent = PPO.load("logs/ppo/PongNoFrameskip-v4_1/PongNoFrameskip-v4.zip", device="cpu")
schedule = from_json(to_json(agent.lr_schedule, "learning_rate"))
progress = np.linspace(0, 1, 5)
assert np.allclose([schedule(at) for at in progress], [agent.lr_schedule(at) for at in progress])
assert schedule(1) == 2.5e-4 and schedule(0) == 0
""",
        here,
    )


# --- the scripts


def test_default_settings_are_for_rainbow_alone() -> None:
    ours = ["--conf-file", f"{OURS}.rainbow"]
    for arguments in (["--algo", "rainbow"], ["--algo=rainbow", "--env", "x"], ["-f", "logs", "--algo", "rainbow", "-P"]):
        assert with_settings(arguments) == [*arguments, *ours]
    for arguments in (
        [],
        ["--algo", "dqn"],
        ["--algo", "rainbow", "-conf", "x.yml"],
        ["--algo", "rainbow", "--conf-file=x.yml"],
    ):
        assert with_settings(arguments) == arguments


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", *train("rainbow", OURS, params=["policy_kwargs:dict(encoder='siamme')"])]
    (tmp_path / "conf.yml").write_text(YAML.format(policy_kwargs="{encoder: siamme}").replace("DQNEnc", "RainbowEnc"))
    command += ["--conf-file", "conf.yml"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: unknown encoder 'siamme'; did you mean 'siammae'"), result.stderr


def test_without_the_zoo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rl_zoo3", None)
    monkeypatch.setattr("sys.argv", ["rl_zoo", "train"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err == 'error: rl_zoo3 is not installed; run: pip install "pretrainrl[zoo]"\n'


def test_settings_name_their_algorithm() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'rainbow'"):
        frozen("rainbo")
    [_, wrapper] = frozen("dqn", "curl")["vec_env_wrapper"]
    assert wrapper == {"pretrainrl.integrations.sb3.VecEncodeObservation": {"encoder": "curl"}}
    study = frozen("dqn", "curl", neck="spatial_mlp")
    assert study["policy_kwargs"] == {"encoder": None, "neck": "spatial_mlp"}
    [_, wrapper] = study["vec_env_wrapper"]
    assert wrapper == {"pretrainrl.integrations.sb3.VecEncodeObservation": {"encoder": "curl", "features": "map"}}
