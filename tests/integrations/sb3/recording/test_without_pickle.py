"""Saved agents are loaded without unpickling anything, unless the caller says that the file is to be trusted."""

import base64
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from sb3_agents import ALGORITHMS, RandomFrames

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.encoding.extractor import policy_kwargs
from pretrainrl.integrations.sb3.recording.ram_agent import RAM_SPACE, RamExtractor
from pretrainrl.integrations.sb3.recording.saved_agent import load_agent

LOADS = "stable_baselines3.common.save_util.cloudpickle.loads"


def saved(folder: Path, algorithm: str, space: Any, **arguments: Any) -> tuple[Any, Path]:
    cls, policy, _, settings = ALGORITHMS[algorithm]
    env = RandomFrames(space)
    agent = cls(arguments.pop("policy", policy), env, device="cpu", **{**settings, "seed": 0, **arguments})
    agent.save(folder / "agent.zip")
    return agent, folder / "agent.zip"


@pytest.mark.parametrize(
    ("algorithm", "arguments"),
    [
        ("DQN", {}),
        ("QRDQN", {"policy_kwargs": {"n_quantiles": 7, "optimizer_kwargs": {"eps": 1e-4}}}),
        ("PPO", {"policy_kwargs": {"net_arch": [8], "activation_fn": torch.nn.ReLU}, "learning_rate": lambda left: left}),
        ("A2C", {}),
        ("TRPO", {}),
        ("RecurrentPPO", {}),
        ("Rainbow", {}),
        ("Rainbow", {"policy_kwargs": policy_kwargs("random.nature", features_dim=16)}),
        ("DQN", {"policy_kwargs": policy_kwargs("random.nature", features_dim=16)}),
        ("PPO", {"policy": "MlpPolicy", "policy_kwargs": {"features_extractor_class": RamExtractor}}),
    ],
)
def test_the_same_agent(algorithm: str, arguments: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ram = arguments.get("policy") == "MlpPolicy"
    space = RAM_SPACE if ram else Box(0, 255, (4, 84, 84), np.uint8)
    agent, path = saved(tmp_path, algorithm, space, **arguments)
    monkeypatch.setattr(LOADS, lambda *_: pytest.fail("unpickled"))
    loaded = load_agent(path, "cpu")
    assert type(loaded) is type(agent)
    assert (loaded.observation_space, loaded.action_space) == (agent.observation_space, agent.action_space)
    mine, theirs = loaded.policy.state_dict(), agent.policy.state_dict()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)
    frames = np.random.default_rng(0).integers(0, 256, (6, *space.shape), np.uint8)
    assert np.array_equal(loaded.predict(frames, deterministic=True)[0], agent.predict(frames, deterministic=True)[0])


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def poisoned(path: Path, out: Path, key: str, **changes: Any) -> None:
    """Copy an agent's file, with a pickle that makes a folder under `key` of its data, and other data changed."""
    pickled = base64.b64encode(cloudpickle.dumps(Payload(out.parent / "ran"))).decode()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "data":
                data = {**json.loads(content), **changes}
                data[key] = {**(data[key] if isinstance(data.get(key), dict) else {}), ":serialized:": pickled, ":type:": "x"}
                content = json.dumps(data).encode()
            new.writestr(name, content)


@pytest.mark.parametrize(
    "key", ["policy_class", "policy_kwargs", "observation_space", "action_space", "lr_schedule", "anything"]
)
def test_nothing_is_run(key: str, tmp_path: Path) -> None:
    _, path = saved(tmp_path, "A2C", Box(0, 255, (4, 84, 84), np.uint8))
    poisoned(path, tmp_path / "poisoned.zip", key)
    try:
        load_agent(tmp_path / "poisoned.zip", "cpu")
    except InputError as error:
        assert "--trust-pickle" in str(error)
    assert not (tmp_path / "ran").exists()
    if key not in ("lr_schedule",):  # which is left out even then
        with pytest.raises((InputError, FileExistsError)) if key != "anything" else pytest.MonkeyPatch.context():
            load_agent(tmp_path / "poisoned.zip", "cpu", trust_pickle=True)
        assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"n_steps": 10**30},
        {"n_envs": -1},
        {"policy_kwargs": {"net_arch": "os:system"}},
        {"policy_kwargs": {"features_extractor_class": "<class 'os.system'>"}},
        {"policy_kwargs": {"net_arch": [10**12]}},
        {"policy_kwargs": []},
        {"observation_space": {":type:": "<class 'gymnasium.spaces.box.Box'>", "_shape": [-1], "low": "[0]", "high": "[1]"}},
        {"action_space": {":type:": "<class 'gymnasium.spaces.discrete.Discrete'>", "n": "x"}},
        {"action_space": 3},
        {"use_sde": "x", "tensorboard_log": "/tmp/elsewhere", "__class__": "x", "predict": "x", "policy": "x"},
    ],
)
def test_damaged_data_are_one_error(changes: dict[str, Any], tmp_path: Path) -> None:
    _, path = saved(tmp_path, "A2C", Box(0, 255, (4, 84, 84), np.uint8))
    poisoned(path, tmp_path / "poisoned.zip", "anything", **changes)
    try:
        load_agent(tmp_path / "poisoned.zip", "cpu")
    except InputError as error:
        assert "\n" not in str(error)


def test_an_unknown_policy_needs_trust(tmp_path: Path) -> None:
    class Own(ALGORITHMS["A2C"][0].policy_aliases["CnnPolicy"]):  # type: ignore[misc]
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)

    _, path = saved(tmp_path, "A2C", Box(0, 255, (4, 84, 84), np.uint8), policy=Own)
    with pytest.raises(InputError, match=r"policy_class only as pickled Python.*--trust-pickle"):
        load_agent(path, "cpu")
    assert load_agent(path, "cpu", trust_pickle=True).policy.__class__.__name__ == "Own"
