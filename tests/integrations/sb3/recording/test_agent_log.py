"""Agents that learn and agents that play: their logs are resumable to the bit, and unfit agents are refused."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch
from sb3_agents import CHANNEL_LAST, RandomFrames
from stable_baselines3.common.base_class import BaseAlgorithm

from pretrainrl.agent_cards import AgentPreset
from pretrainrl.data.episode import Episode
from pretrainrl.errors import DatasetError, InputError, UnknownNameError
from pretrainrl.integrations import sb3
from pretrainrl.integrations.minari import collect_dataset, open_dataset
from pretrainrl.integrations.sb3 import AtariVecEnv
from pretrainrl.integrations.sb3.recording import agent_log
from pretrainrl.integrations.sb3.recording.agent_log import check_games, find_agent
from pretrainrl.integrations.sb3.recording.learners import learner_preset, load_state, make_learner, save_state
from pretrainrl.integrations.sb3.recording.saved_agent import algorithm_of

TOY: dict[str, Any] = {"n_envs": 2, "segment_steps": 128, "seed": 3}  # 256 transitions a segment
STEPS = 380
OURS = ("Rainbow", "BehaviorCloning")


class Stopped(Exception):
    """Stands for Ctrl-C, a full disk, a bug."""


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, and a replay buffer that is soon full."""

    def light_preset(name: str, steps: int, n_envs: int) -> AgentPreset:
        preset = learner_preset(name, steps, n_envs)
        return preset.with_settings(batch_size=4, buffer_size=200) if name == "qrdqn" else preset

    monkeypatch.setattr(agent_log, "learner_preset", light_preset)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Batches are so small that two threads mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stop_after(steps: int) -> Any:
    """A progress callback that raises once `steps` transitions are experienced."""
    count = 0

    def progress(new: int) -> None:
        nonlocal count
        count += new
        if count >= steps:
            raise Stopped

    return progress


def same(first: list[Episode], second: list[Episode]) -> bool:
    return len(first) == len(second) and all(
        a.metadata == b.metadata and np.array_equal(a.frames, b.frames) and np.array_equal(a.actions, b.actions)
        for a, b in zip(first, second, strict=True)
    )


def saved(folder: Path, algorithm: type[BaseAlgorithm], game: str = "breakout", **settings: Any) -> Path:
    policy = "CnnLstmPolicy" if algorithm is sb3_contrib.RecurrentPPO else "CnnPolicy"
    agent = algorithm(policy, AtariVecEnv(game, 2), seed=0, device="cpu", **settings)
    if hasattr(agent, "exploration_rate"):
        agent.exploration_rate = 0.1
    agent.save(folder / "saved.zip")
    return folder / "saved.zip"


@pytest.mark.parametrize("name", ["qrdqn", "ppo"])
@pytest.mark.usefixtures("light")
def test_interrupted_log_ends_as_an_uninterrupted_one(name: str, folders: Path) -> None:
    whole = open_dataset(collect_dataset("breakout", STEPS, agent=name, **TOY).id)
    assert list((folders / "home" / "collect").iterdir()) == []
    for steps in (100, 300, 270):  # in the first segment, and twice in the second
        with pytest.raises(Stopped):
            collect_dataset("breakout", STEPS, agent=name, version=1, resume=True, progress=stop_after(steps), **TOY)
    parts = open_dataset(collect_dataset("breakout", STEPS, agent=name, version=1, resume=True, **TOY).id)
    assert whole.minari.total_steps == parts.minari.total_steps == STEPS
    assert whole.id.endswith(f"breakout-{name}-v0")
    assert same(list(whole), list(parts))
    facts = whole.metadata["collection"]
    assert (facts["agent"], facts["steps"], facts["num_envs"]) == (name, STEPS, 2)
    assert facts["learning"].keys() == learner_preset(name, STEPS, 2).flat().keys()
    assert "Stable-Baselines3" in whole.metadata["algorithm_name"]
    assert list((folders / "home" / "collect").iterdir()) == []


def test_agent_learns_while_it_is_logged() -> None:
    """Its weights, optimiser, counters and replay at a segment's end depend on what it experienced."""
    env = AtariVecEnv("breakout", 2, seed=0)
    preset = learner_preset("qrdqn", 400, 2)
    learner: Any = make_learner("qrdqn", env, preset, seed=0, device="cpu")
    before = {key: value.clone() for key, value in learner.policy.state_dict().items()}
    learner.learn(60)
    changed = [key for key, value in learner.policy.state_dict().items() if not torch.equal(value, before[key])]
    assert any("quantile_net.quantile_net" in key for key in changed)
    assert learner.exploration_rate < 1


def test_state_is_all_of_it(tmp_path: Path) -> None:
    env = AtariVecEnv("breakout", 2, seed=0)
    preset = learner_preset("qrdqn", 400, 2)
    agents: list[Any] = [make_learner("qrdqn", env, preset, seed=seed, device="cpu") for seed in (0, 1)]
    one, other = agents
    one.learn(60)
    save_state(one, tmp_path)
    load_state(other, tmp_path)
    other.set_logger(one.logger)  # made by learn()
    for agent in (one, other):
        agent.set_random_seed(5)
        agent.train(gradient_steps=3, batch_size=8)
    for a, b in zip(one.policy.state_dict().values(), other.policy.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert (other.num_timesteps, other._n_calls, other.exploration_rate) == (60, 30, one.exploration_rate)
    (tmp_path / "agent.pt").write_bytes(b"half")
    with pytest.raises(InputError, match="damaged"):
        load_state(other, tmp_path)


def test_unfinished_collection_is_not_thrown_away() -> None:
    with pytest.raises(Stopped):
        collect_dataset("breakout", STEPS, agent="ppo", progress=stop_after(300), **TOY)
    with pytest.raises(DatasetError, match="--resume"):
        collect_dataset("breakout", STEPS, agent="ppo", **TOY)
    with pytest.raises(Stopped):  # other settings are another collection
        collect_dataset("breakout", STEPS, agent="ppo", progress=stop_after(10), **{**TOY, "seed": 4})


@pytest.mark.parametrize("algorithm", ["DQN", "QRDQN", "PPO", "A2C", "TRPO", "RecurrentPPO", "MaskablePPO", *OURS])
def test_saved_agents_are_recognised_without_unpickling(tmp_path: Path, algorithm: str) -> None:
    made: Any = next(
        getattr(module, algorithm) for module in (stable_baselines3, sb3_contrib, sb3) if hasattr(module, algorithm)
    )
    settings: dict[str, Any] = {"buffer_size": 10} if "DQN" in algorithm or algorithm == "Rainbow" else {}
    agent = saved(tmp_path, made, **settings)
    with zipfile.ZipFile(agent) as archive:
        names = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(names["data"])
    for value in data.values():
        if isinstance(value, dict) and ":serialized:" in value:
            value[":serialized:"] = "broken"
    names["data"] = json.dumps(data).encode()
    with zipfile.ZipFile(agent, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    assert algorithm_of(agent) is made
    player = find_agent(str(agent))
    assert player.algorithm.startswith(
        f"{algorithm} of {'pretrainrl' if algorithm in OURS else 'Stable-Baselines3'}, as saved"
    )
    check_games(player, ["breakout"])
    with pytest.raises(InputError, match=f"the {algorithm} agent .* cannot be loaded"):
        check_games(find_agent(str(agent), trust_pickle=True), ["breakout"])


def test_only_names_of_this_package_are_looked_up(tmp_path: Path) -> None:
    """A file that names another class is refused, rather than guessed to be of one that has the same attributes."""
    agent = saved(tmp_path, sb3.Rainbow, buffer_size=10)
    with zipfile.ZipFile(agent) as archive:
        names = {name: archive.read(name) for name in archive.namelist()}
    for recorded in ("IQN", "os:system", 3, ["Rainbow"]):
        data = {**json.loads(names["data"]), "algorithm": recorded}
        with zipfile.ZipFile(agent, "w") as archive:
            archive.writestr("data", json.dumps(data))
            archive.writestr("policy.pth", b"")
        with pytest.raises(InputError, match=r"an algorithm that cannot be played here; those that can are .*Rainbow"):
            algorithm_of(agent)


@pytest.mark.parametrize(
    "algorithm", [sb3_contrib.QRDQN, stable_baselines3.PPO, sb3_contrib.RecurrentPPO, sb3.Rainbow, sb3.BehaviorCloning]
)
def test_saved_agent_plays_and_is_resumed(tmp_path: Path, algorithm: type[BaseAlgorithm]) -> None:
    replays = algorithm in (sb3_contrib.QRDQN, sb3.Rainbow)
    settings: dict[str, Any] = {"buffer_size": 100, "n_steps": 3} if replays else {}
    agent = saved(tmp_path, algorithm, **settings)
    name = str(agent.with_suffix(""))  # as Stable-Baselines3 allows it
    whole = open_dataset(collect_dataset("breakout", STEPS, agent=name, **TOY).id)
    with pytest.raises(Stopped):
        collect_dataset("breakout", STEPS, agent=name, version=1, progress=stop_after(300), **TOY)
    parts = open_dataset(collect_dataset("breakout", STEPS, agent=name, version=1, resume=True, **TOY).id)
    assert whole.id == "pretrainrl/atari/breakout-agent-v0"
    assert same(list(whole), list(parts))
    facts = whole.metadata["collection"]
    assert facts["agent"] == "saved.zip"
    assert len(facts["agent_sha256"]) == 64
    assert algorithm.__name__ in whole.metadata["algorithm_name"]


def test_agents_that_do_not_fit(tmp_path: Path) -> None:
    agent = saved(tmp_path, stable_baselines3.PPO, "breakout")
    with pytest.raises(InputError, match=r"acts in Discrete\(4\), but pong has Discrete\(6\)"):
        check_games(find_agent(str(agent)), ["breakout", "pong"])
    with pytest.raises(InputError, match=r"acts in Discrete\(4\), but pong"):
        collect_dataset("pong", 100, agent=str(agent))
    features = stable_baselines3.PPO("MlpPolicy", "CartPole-v1", device="cpu")
    features.save(tmp_path / "cartpole.zip")
    with pytest.raises(InputError, match=r"observes Box\(.*\(4,\).*but breakout has Box\(0, 255, \(4, 84, 84\)"):
        check_games(find_agent(str(tmp_path / "cartpole.zip")), ["breakout"])
    stable_baselines3.SAC("MlpPolicy", "Pendulum-v1", device="cpu", buffer_size=1).save(tmp_path / "sac.zip")
    with pytest.raises(InputError, match="cannot be played here"):
        find_agent(str(tmp_path / "sac.zip"))


def test_channel_last_training_is_no_obstacle(tmp_path: Path) -> None:
    """Stable-Baselines3 transposes such frames, and saves the space that the network sees."""
    agent = stable_baselines3.DQN("CnnPolicy", RandomFrames(CHANNEL_LAST), device="cpu", buffer_size=1)
    agent.save(tmp_path / "last.zip")
    freeway = [game for game in ("freeway",) if AtariVecEnv(game, 1).action_space.n == 3]
    check_games(find_agent(str(tmp_path / "last.zip")), freeway)


def test_what_is_no_agent(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'qrdqn'"):
        find_agent("qrdnq")
    with pytest.raises(UnknownNameError, match="path of a saved agent"):
        find_agent("")
    with pytest.raises(InputError, match="No such file"):
        find_agent(str(tmp_path / "absent.zip"))
    (tmp_path / "page.zip").write_text("<html>")
    with pytest.raises(InputError, match="not an agent saved by Stable-Baselines3"):
        find_agent(str(tmp_path / "page.zip"))
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(InputError, match="not an agent saved by Stable-Baselines3"):
        find_agent(str(tmp_path / "other.zip"))
    with pytest.raises(InputError, match="cannot read the agent"):
        find_agent(str(tmp_path))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"keep_every": 0}, "keep_every must be in 1..380"),
        ({"keep_every": 601}, "no episode is left of 380 steps"),
        ({"ram": True}, "ram is for random play"),
        ({"repeat_probability": 0.5}, "repeat_probability is for random play"),
        ({"segment_steps": 100}, "multiple of 128"),
        ({"sticky_actions": 2.0}, "action_repeat_probability"),
        ({"n_envs": 0}, "n_envs"),
    ],
)
def test_bad_settings(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        collect_dataset("breakout", STEPS, agent="qrdqn", **{**TOY, **wrong})
