"""Fine-tuning of real games at toy size: what it leaves, that a killed run goes on as if nothing had been, what it refuses."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetuned import evaluations, games, learnt, same
from sb3_contrib import QRDQN
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import load_results

from pretrainrl.errors import DatasetError, InputError, UnknownNameError, WeightsError
from pretrainrl.finetuning import finetune, segments
from pretrainrl.finetuning.config import FinetuneRecord
from pretrainrl.finetuning.evaluation import evaluate
from pretrainrl.finetuning.segments import FinetuneSegments
from pretrainrl.integrations.minari import collect_dataset
from pretrainrl.integrations.sb3 import BehaviorCloning, Rainbow
from pretrainrl.integrations.sb3.replay import observation_store
from pretrainrl.networks.optimization import WarmupCosine, require_finite
from pretrainrl.networks.standardize import Standardize

DATASET = "pretrainrl/atari/pong-random-v0"
ARGUMENTS: dict[str, dict[str, Any]] = {
    "rainbow": {"steps": 90, "n_envs": 2, "checkpoint_every": 40, "eval_freq": 30},
    "qrdqn": {"steps": 90, "n_envs": 2, "checkpoint_every": 40, "eval_freq": 30},
    "ppo": {"steps": 384, "n_envs": 1, "checkpoint_every": 1, "eval_freq": 200},
    "bc": {"epochs": 4, "n_envs": 2, "checkpoint_every": 2, "eval_freq": 1, "dataset": DATASET},
}
COMMON: dict[str, Any] = {"features": "pooled", "eval_episodes": 3, "max_episode_steps": 15, "progress": False}
CLASSES: dict[str, Any] = {"rainbow": Rainbow, "qrdqn": QRDQN, "ppo": PPO, "bc": BehaviorCloning}
# Steps of the environment, or updates, after which a run is killed: within a later segment than the first.
KILLED_AT = {"rainbow": 31, "qrdqn": 31, "ppo": 200, "bc": 4}


@pytest.fixture(scope="module", autouse=True)
def _dataset(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("finetuning")))
        collect_dataset("pong", steps=256, n_envs=2)
        collect_dataset("breakout", steps=64, n_envs=2)
        yield


def run(algorithm: str, out: Path, **changes: Any) -> Path:
    arguments: dict[str, Any] = {**COMMON, **ARGUMENTS[algorithm], **changes}
    return finetune(algorithm, "pong", "random.nature", out=out, **arguments).folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of runs that nothing has interrupted."""
    out = tmp_path_factory.mktemp("whole")
    return {algorithm: run(algorithm, out) for algorithm in ARGUMENTS}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ARGUMENTS)
def test_killed_and_resumed(algorithm: str, whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent, its optimizer and all scores are those of a run that was not interrupted, bit for bit."""
    step, calls = FinetuneSegments._on_step, [0]

    def dying(self: FinetuneSegments) -> bool:
        calls[0] += 1
        if calls[0] == KILLED_AT[algorithm]:
            raise MemoryError
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(FinetuneSegments, "_on_step", dying)
        with pytest.raises(MemoryError):
            run(algorithm, tmp_path)
    folder = tmp_path / algorithm / "ALE-Pong-v5_1"
    assert len(list((folder / "checkpoints").iterdir())) == 1
    with pytest.raises(InputError, match="is not empty; go on with that run by --resume"):
        run(algorithm, tmp_path)
    assert run(algorithm, tmp_path, resume=True) == folder
    assert same(learnt(folder), learnt(whole[algorithm]))
    assert same(learnt(folder, "best_model.zip"), learnt(whole[algorithm], "best_model.zip"))
    found, expected = evaluations(folder), evaluations(whole[algorithm])
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
    if algorithm != "bc":
        assert games(folder) == games(whole[algorithm])
    assert len(list((folder / "checkpoints").iterdir())) == 1  # from which the run can be extended


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ARGUMENTS)
def test_files(algorithm: str, whole: dict[str, Path]) -> None:
    folder, arguments = whole[algorithm], ARGUMENTS[algorithm]
    names = {"ALE-Pong-v5.zip", "best_model.zip", "checkpoints", "config.toml", "evaluations.npz"}
    assert {path.name for path in folder.iterdir()} == names | ({"0.monitor.csv"} if algorithm != "bc" else set())
    scores = evaluations(folder)
    assert set(scores) == {"timesteps", "results", "ep_lengths"}  # those of EvalCallback
    assert scores["results"].shape == scores["ep_lengths"].shape == (len(scores["timesteps"]), 3)
    assert (scores["ep_lengths"] == 15).all()
    record = FinetuneRecord.read(folder / "config.toml")
    assert record.run.seed == 0 and record.run.n_envs == arguments["n_envs"] and len(record.encoder_sha256) == 64
    assert "torch" in record.versions and record.settings["learning_rate"]
    loaded = CLASSES[algorithm].load(folder / "ALE-Pong-v5")
    assert loaded.action_space.n == 6 and loaded.num_timesteps == scores["timesteps"][-1]


@pytest.mark.slow
def test_timesteps(whole: dict[str, Path]) -> None:
    """Evaluations come when they are due, after whole rollouts, and at the end."""
    found = {algorithm: evaluations(folder)["timesteps"].tolist() for algorithm, folder in whole.items()}
    assert found == {"rainbow": [30, 60, 90], "qrdqn": [30, 60, 90], "ppo": [256, 384], "bc": [256, 512, 768, 1024]}


@pytest.mark.slow
def test_monitor_has_whole_games_only(whole: dict[str, Path]) -> None:
    folder = whole["rainbow"]
    lines = (folder / "0.monitor.csv").read_text().splitlines()
    assert json.loads(lines[0].removeprefix("#"))["env_id"] == "ALE/Pong-v5"
    # Segments of 20 steps of each game, the last of 5, in which games last 15.
    assert [length for _, length in games(folder)] == ["15"] * 4
    times = [float(row["t"]) for row in csv.DictReader(lines[1:])]
    assert times == sorted(times)
    pytest.importorskip("pandas")
    frame = load_results(str(folder))
    assert frame["l"].tolist() == [15] * 4 and {"r", "t"} < set(frame.columns)


@pytest.mark.slow
def test_the_zoo_reads_them(whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own commands find the runs, and the scores in them."""
    pytest.importorskip("rl_zoo3")
    import matplotlib

    matplotlib.use("agg")
    from rl_zoo3.plots.all_plots import all_plots
    from rl_zoo3.plots.plot_train import plot_train

    out = str(whole["rainbow"].parent.parent)
    algorithms = sorted(ARGUMENTS)
    arguments = ["-a", *algorithms, "-e", "ALE-Pong-v5", "-f", out, "-l", "random", "-o", str(tmp_path / "scores")]
    monkeypatch.setattr("sys.argv", ["all_plots", *arguments, "--no-display"])
    all_plots()
    found = pickle.loads((tmp_path / "scores.pkl").read_bytes())["ALE-Pong-v5"]
    for algorithm in algorithms:
        curve, scores = found[f"{algorithm.upper()}-random"], evaluations(whole[algorithm])
        assert curve["timesteps"].tolist() == scores["timesteps"].tolist()
        assert curve["mean"] == pytest.approx(scores["results"].mean(axis=1))
    monkeypatch.setattr("sys.argv", ["plot_train", "-a", "rainbow", "-e", "ALE-Pong-v5", "-f", out, "-w", "2"])
    plot_train()
    (line,) = matplotlib.pyplot.gcf().axes[0].lines
    assert line.get_xdata().tolist() == [30, 45, 60]  # after so many steps of each game, the second of four and on
    matplotlib.pyplot.close("all")


@pytest.mark.slow
def test_schedules_are_those_of_the_whole_run(whole: dict[str, Path]) -> None:
    """In the end nothing is left of what falls during learning, however many segments there were."""
    rainbow, ppo, clone = (CLASSES[name].load(whole[name] / "ALE-Pong-v5") for name in ("rainbow", "ppo", "bc"))
    assert rainbow._current_progress_remaining == ppo._current_progress_remaining == clone._current_progress_remaining == 0
    assert rainbow.exploration_rate == pytest.approx(0.01)
    assert learnt(whole["ppo"])["policy.optimizer.pth"]["param_groups"][0]["lr"] == 0
    assert learnt(whole["bc"])["policy.optimizer.pth"]["param_groups"][0]["lr"] == WarmupCosine(1e-3)(1 / 4)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["rainbow", "ppo", "bc"])
def test_learning_does_not_notice_evaluations(algorithm: str, whole: dict[str, Path], tmp_path: Path) -> None:
    seldom = run(algorithm, tmp_path, eval_freq=1000, eval_episodes=1)
    assert len(evaluations(seldom)["timesteps"]) == 1
    assert same(learnt(seldom), learnt(whole[algorithm]))


@pytest.mark.slow
def test_a_finished_run_is_left_alone(whole: dict[str, Path]) -> None:
    folder = whole["bc"]
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert run("bc", folder.parent.parent, resume=True) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times


@pytest.mark.slow
def test_seeds_have_folders_of_their_own(whole: dict[str, Path]) -> None:
    other = run("bc", whole["bc"].parent.parent, seed=1)
    assert other.name == "ALE-Pong-v5_2"
    assert not same(learnt(other), learnt(whole["bc"]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "features", "neck"),
    [
        ("bc", "map", "spatial_mlp"),
        ("bc", "pixels", "spatial_mlp"),
        ("rainbow", "pixels", "spatial_mlp"),
        ("rainbow", "pixels", "mlp"),
        ("bc", "pixels", "spatial"),
        ("qrdqn", "flat", "mlp"),
        ("ppo", "pixels", "spatial_mlp"),
    ],
)
def test_features(algorithm: str, features: str, neck: str, tmp_path: Path) -> None:
    size: dict[str, Any] = {"bc": {"epochs": 1}, "ppo": {"steps": 128, "eval_freq": 1000}}.get(
        algorithm, {"steps": 36, "eval_freq": 1000}
    )
    folder = run(algorithm, tmp_path, features=features, neck=neck, eval_episodes=1, **size)
    agent: Any = CLASSES[algorithm].load(folder / "ALE-Pong-v5")
    assert agent.observation_space.shape == {"map": (64, 7, 7), "pixels": (4, 84, 84), "flat": (3136,)}[features]
    if algorithm in ("rainbow", "bc"):
        assert agent.augment is (features == "pixels")
    assert agent.policy_kwargs["features_extractor_kwargs"]["neck"] == neck
    assert [each.is_fitted for each in agent.policy.modules() if isinstance(each, Standardize)] == [True] * (
        0 if neck == "spatial_mlp" else 1 if algorithm == "bc" else 2
    )


BAD: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "algorithm": (UnknownNameError, r"unknown algorithm 'rainbo'; did you mean 'rainbow'", {"algorithm": "rainbo"}),
    "game": (UnknownNameError, r"unknown game 'pongg'; did you mean 'pong'", {"game": "pongg"}),
    "encoder": (UnknownNameError, r"unknown encoder 'siamae'; did you mean 'siammae", {"encoder": "siamae"}),
    "features": (UnknownNameError, r"unknown kind of features 'maps'; did you mean 'map'", {"features": "maps"}),
    "neck": (UnknownNameError, r"unknown neck 'spatial_mpl'; did you mean 'spatial_mlp'", {"neck": "spatial_mpl"}),
    "flat places": (InputError, r"neck 'spatial' reads feature maps; .* not 'flat'", {"neck": "spatial", "features": "flat"}),
    "no dataset": (InputError, r"bc learns from a dataset; give the id", {"algorithm": "bc", "dataset": None}),
    "dataset": (InputError, r"rainbow learns by playing: dataset is not for it", {"dataset": DATASET}),
    "epochs": (InputError, r"ppo learns by playing: epochs is not for it, got 3", {"algorithm": "ppo", "epochs": 3}),
    "steps": (InputError, r"bc learns for a number of epochs: steps is not for it", {"algorithm": "bc", "steps": 3}),
    "no such dataset": (DatasetError, r"pong-random-v7", {"algorithm": "bc", "dataset": DATASET.replace("v0", "v7")}),
    "other game": (
        InputError,
        r"the environment is pong, but pretrainrl/atari/breakout-random-v0 is of breakout",
        {"algorithm": "bc", "dataset": DATASET.replace("pong", "breakout")},
    ),
    "n_envs": (InputError, r"n_envs must be in 1\.\.4096, got 0", {"n_envs": 0}),
    "seed": (InputError, r"seed must be in 0\.\.2147483647, got -1", {"seed": -1}),
    "checkpoint_every": (InputError, r"checkpoint_every must be in 1\.\.\d+, got 0", {"checkpoint_every": 0}),
    "device": (InputError, r"unknown device 'gpu'; expected 'auto', 'cpu' or 'cuda'", {"device": "gpu"}),
    "weights": (WeightsError, r"absent\.safetensors", {"weights": "absent.safetensors"}),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_leaves_nothing(case: str, tmp_path: Path) -> None:
    error, match, changes = BAD[case]
    algorithm = changes.get("algorithm", "rainbow")
    arguments: dict[str, Any] = {"game": "pong", "encoder": "random.nature", **ARGUMENTS.get(algorithm, {}), **changes}
    with pytest.raises(error, match=match):
        finetune(**{"algorithm": algorithm, **arguments}, out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_too_large_a_buffer_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation_store, "free_memory", lambda: 2**20)
    with pytest.raises(InputError, match=r"needs 0\.\d+ GiB of memory"):
        run("rainbow", tmp_path / "out", steps=50_000)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_killed_in_the_last_evaluation(whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is learnt again."""
    times: list[Any] = []

    def dying(*arguments: Any) -> Any:
        times.append(arguments)
        if len(times) == 4:
            raise MemoryError
        return evaluate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(segments, "evaluate", dying)
        with pytest.raises(MemoryError):
            run("bc", tmp_path)
    monkeypatch.setattr(FinetuneSegments, "_on_step", lambda self: pytest.fail("it has learnt all"))
    folder = run("bc", tmp_path, resume=True)
    assert same(learnt(folder), learnt(whole["bc"]))
    found, expected = evaluations(folder), evaluations(whole["bc"])
    assert all(np.array_equal(found[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_other_runs_are_not_gone_on_with(whole: dict[str, Path], tmp_path: Path) -> None:
    out = whole["bc"].parent.parent
    with pytest.raises(InputError, match=r"of other settings: eval_freq was 1 and is now 2; choose another folder with --out"):
        run("bc", out, eval_freq=2, resume=True)
    with pytest.raises(InputError, match=r"encoder was random\.nature and is now random\.impala; encoder_sha256 was"):
        finetune("bc", "pong", "random.impala", out=out, resume=True, **COMMON, **ARGUMENTS["bc"])
    (tmp_path / "bc" / "ALE-Pong-v5_1").mkdir(parents=True)
    (tmp_path / "bc" / "ALE-Pong-v5_1" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no run to go on with"):
        run("bc", tmp_path, resume=True)


@pytest.mark.slow
def test_damaged_checkpoint(tmp_path: Path) -> None:
    folder = run("bc", tmp_path)
    agent = folder / "ALE-Pong-v5.zip"
    content = agent.read_bytes()
    middle = len(content) // 2
    agent.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    with pytest.raises(InputError, match="another checksum"):
        run("bc", tmp_path, resume=True)
    agent.unlink()
    (state,) = folder.glob("checkpoints/*/agent.pt")
    state.write_bytes(b"damaged")
    with pytest.raises(InputError, match="is damaged"):
        run("bc", tmp_path, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["bc", "rainbow"])
def test_what_is_not_finite_is_not_saved(algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, calls = FinetuneSegments._on_step, [0]

    def breaking(self: FinetuneSegments) -> bool:
        calls[0] += 1
        if calls[0] == KILLED_AT[algorithm]:
            next(self.model.policy.parameters()).data[0] = float("inf")
        return step(self)

    monkeypatch.setattr(FinetuneSegments, "_on_step", breaking)
    with pytest.raises(InputError, match=r"policy\.\S+ is not finite after [\d,]+ steps; lower|priorities must be finite"):
        run(algorithm, tmp_path)
    folder = tmp_path / algorithm / "ALE-Pong-v5_1"
    (state,) = folder.glob("checkpoints/*/agent.pt")
    for found in (torch.load(state, weights_only=True)["parameters"], learnt(folder, "best_model.zip")):
        require_finite(found, "in the file", "")
    assert not (folder / "ALE-Pong-v5.zip").exists()
