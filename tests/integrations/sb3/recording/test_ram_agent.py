"""Agents that read the console's memory: what they see, how they learn, and how they are saved and play again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from pretrainrl.agent_cards import agent_names
from pretrainrl.cli.collect import collect
from pretrainrl.errors import InputError
from pretrainrl.integrations.minari import collect_dataset, open_dataset
from pretrainrl.integrations.sb3 import AtariVecEnv
from pretrainrl.integrations.sb3.envs.atari_vec_env import RecordedAtariVecEnv
from pretrainrl.integrations.sb3.recording.learners import learner_preset, make_learner
from pretrainrl.integrations.sb3.recording.ram_agent import RAM_SPACE, RamExtractor, VecRamObservation


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))


def test_agents_see_memory_before_and_after_a_step() -> None:
    games = RecordedAtariVecEnv("breakout", 2, seed=0, clip_reward=False)
    env: Any = VecRamObservation(games)
    last = env.reset()
    assert (last.shape, last.dtype) == ((2, 2, 128), np.uint8)
    assert np.array_equal(last[:, 0], last[:, 1])
    points, ended = np.zeros(2), 0
    for _ in range(400):
        observations, rewards, dones, infos = env.step(np.array([1, np.random.randint(4)]))
        assert np.array_equal(observations[:, 1], games.games.ram)
        points += rewards
        for i in range(2):
            if "episode" in infos[i]:
                final = infos[i]["terminal_observation"]
                assert np.array_equal(final[0], last[i, 1])
                # Byte 77 of Breakout counts the points, a decimal digit in each half.
                assert (final[1, 77] >> 4) * 10 + (final[1, 77] & 15) == points[i]
                assert np.array_equal(observations[i, 0], observations[i, 1])  # of the next game
                points[i], ended = 0, ended + 1
            else:
                assert np.array_equal(observations[i, 0], last[i, 1])
                if dones[i]:
                    assert np.array_equal(infos[i]["terminal_observation"], observations[i])
        last = observations
    assert ended


def test_only_recorded_games_tell_their_memory() -> None:
    with pytest.raises(InputError, match="RecordedAtariVecEnv tells its memory, not a AtariVecEnv"):
        VecRamObservation(AtariVecEnv("pong", 1))


def test_features_are_bytes_movements_and_bits() -> None:
    rng = np.random.default_rng(0)
    memory = rng.integers(0, 256, (3, 2, 128)).astype(np.uint8)
    encoded = RamExtractor(RAM_SPACE).encode(torch.as_tensor(memory).float()).numpy()
    for row, (before, after) in zip(encoded, memory.astype(int), strict=True):
        moved = after - before
        expected = [*before, *after, *np.where(abs(moved) > 64, 0, moved)]
        expected += [byte >> bit & 1 for byte in after for bit in range(8)]
        assert np.array_equal(row, expected)


def test_other_observations_are_refused() -> None:
    env = AtariVecEnv("pong", 1)
    with pytest.raises(InputError, match="memory before and after a step"):
        RamExtractor(env.observation_space)


@pytest.mark.parametrize("kind", [name for name in agent_names("collect") if name.endswith("-ram")])
def test_it_learns_and_standardizes_by_what_it_saw_first(kind: str) -> None:
    env: VecEnv = RecordedAtariVecEnv("pong", 2, seed=0)
    preset = learner_preset(kind, 600, 2)
    preset = preset.with_settings(n_steps=64) if kind == "ppo-ram" else preset
    agent = make_learner(kind, env, preset, seed=0, device="cpu")
    before = {name: value.clone() for name, value in agent.policy.named_parameters()}
    agent.learn(600)
    extractors = [module for module in agent.policy.modules() if isinstance(module, RamExtractor)]
    assert extractors
    assert all(extractor.standardize is not None and extractor.standardize.is_fitted for extractor in extractors)
    assert any(not torch.equal(before[name], value) for name, value in agent.policy.named_parameters())


def test_a_saved_agent_plays_what_it_has_learned(tmp_path: Path) -> None:
    """From learning to expert play, with a recording of each, as `make recordings` does it."""
    collect(["pong"], agent="ppo-ram", steps=1024, n_envs=2, kind="mixed", save_agent=tmp_path, recording=tmp_path)
    assert isinstance(PPO.load(tmp_path / "pong.zip"), PPO)
    agent = str(tmp_path / "pong.zip")
    collect(["pong"], agent=agent, steps=200, n_envs=2, kind="expert", recording=tmp_path)
    collect(["pong"], agent=agent, greedy=True, steps=200, n_envs=2, kind="greedy")
    assert (tmp_path / "pong-expert-v0.rec").exists() and (tmp_path / "pong-mixed-v0.rec").exists()
    drawn, greedy = (next(iter(open_dataset(f"pretrainrl/atari/pong-{kind}-v0"))) for kind in ("expert", "greedy"))
    assert not np.array_equal(drawn.actions, greedy.actions)
    assert "greedy" not in open_dataset("pretrainrl/atari/pong-expert-v0").metadata["collection"]
    assert open_dataset("pretrainrl/atari/pong-greedy-v0").metadata["collection"]["greedy"] is True
    card = (tmp_path / "pong-expert-v0.toml").read_text()
    assert "pretrainrl collect pong --agent pong.zip --steps 200 --keep-every 1 --n-envs 2 --seed 0" in card


def test_only_agents_that_learn_are_saved_and_only_saved_ones_are_greedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="save_agent is for agents that learn"):
        collect_dataset("pong", 50, save_agent=tmp_path / "pong.zip")
    with pytest.raises(InputError, match="greedy is for agents"):
        collect_dataset("pong", 50, greedy=True)
    with pytest.raises(InputError, match="greedy is for saved agents"):
        collect_dataset("pong", 50, agent="ppo-ram", greedy=True)
    assert not (tmp_path / "datasets").exists()
