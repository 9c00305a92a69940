"""Collected episodes: how many, how they end, and that they are what ALE shows."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from plain_ale import plain_ale

from pretrainrl.data.collect import collect_episodes, single_env
from pretrainrl.data.emulator import StickyGame
from pretrainrl.data.episode import Episode
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.games import find_game


def episode(**changes: object) -> Episode:
    arrays: dict[str, Any] = {
        "frames": np.zeros((3, 84, 84), np.uint8),
        "actions": np.zeros(2, np.int64),
        "rewards": np.zeros(2, np.float32),
        "terminations": np.zeros(2, np.bool_),
        "truncations": np.zeros(2, np.bool_),
    }
    return Episode(**{**arrays, "game": "pong", **changes})


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("frames", np.zeros((2, 84, 84), np.uint8)),  # the final observation is missing
        ("frames", np.zeros((3, 4, 84, 84), np.uint8)),
        ("frames", np.zeros((3, 84, 84), np.float32)),
        ("actions", np.zeros(2, np.int32)),
        ("rewards", np.zeros(3, np.float32)),
        ("truncations", np.zeros(2, np.uint8)),
    ],
)
def test_episode_refuses_other_arrays(name: str, array: np.ndarray) -> None:
    assert len(episode()) == 2
    with pytest.raises(InputError, match=name):
        episode(**{name: array})


def test_episode_needs_a_transition() -> None:
    with pytest.raises(InputError, match="at least one"):
        episode(actions=np.zeros(0, np.int64))


@pytest.mark.parametrize(("steps", "n_envs"), [(1, 3), (700, 3), (401, 8)])
def test_steps_are_exact(steps: int, n_envs: int) -> None:
    counted: list[int] = []
    episodes = list(collect_episodes("breakout", steps, n_envs=n_envs, progress=counted.append))
    assert sum(len(episode) for episode in episodes) == sum(counted) == steps
    for episode in episodes:
        ends = episode.terminations | episode.truncations
        assert ends[-1] and not ends[:-1].any()
        assert episode.terminations[-1] == (episode.metadata["ends_by"] == "game_over")
        assert episode.metadata["return"] == episode.rewards.sum()
    cut = [episode.metadata["env"] for episode in episodes if episode.metadata["ends_by"] == "cut"]
    assert sorted(set(cut)) == cut  # at most one per environment


def test_same_seed_same_episodes() -> None:
    first, again, other = (list(collect_episodes("boxing", 300, n_envs=2, seed=seed)) for seed in (3, 3, 4))
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.frames, b.frames)
        assert np.array_equal(a.actions, b.actions)
        assert a.metadata == b.metadata
    assert not np.array_equal(first[0].actions, other[0].actions)


def test_policy_repeats_as_often_as_asked() -> None:
    for probability in (0.0, 0.75):
        (episode,) = collect_episodes("freeway", 1000, n_envs=1, repeat_probability=probability)
        repeated = np.mean(episode.actions[1:] == episode.actions[:-1])
        by_chance = (1 - probability) / 3  # Freeway has three actions
        assert repeated == pytest.approx(probability + by_chance, abs=0.05)
        assert set(episode.actions.tolist()) == {0, 1, 2}


def test_episodes_are_what_the_game_showed() -> None:
    """Play the recorded no-ops, actions and delays in ALE itself: frames, rewards and ends come out the same, across games."""
    recorded = list(collect_episodes("breakout", 1200, n_envs=2, seed=5))
    for env in range(2):
        mine = [episode for episode in recorded if episode.metadata["env"] == env]
        assert [episode.metadata["episode"] for episode in mine] == list(range(len(mine)))
        assert len(mine) > 1
        for episode in mine:
            shown = list(plain_ale("breakout", episode.metadata["noops"], episode.actions, episode.infos["delays"]))
            frames, rewards, overs = zip(*shown, strict=True)
            assert np.array_equal(frames, episode.frames)
            assert np.array_equal(rewards[1:], episode.rewards)
            assert np.array_equal(overs[1:], episode.terminations)


@pytest.mark.parametrize("game", ["breakout", "ms_pacman"])
@pytest.mark.parametrize("sticky_actions", [0.0, 0.25])
def test_single_environment_preprocesses_as_the_vector_one(game: str, sticky_actions: float) -> None:
    """The same actions and the same random numbers give the same frames from reset to game over."""
    # Gymnasium derives ALE's seed from its own; take one that the vector environment accepts as it is.
    seed, ale_seed = next(
        (seed, words[1]) for seed in range(100) if (words := np.random.SeedSequence(seed).generate_state(2))[1] < 2**31
    )
    single = single_env(find_game(game), sticky_actions, noop_max=0)
    vector = AtariVectorEnv(
        game,
        1,
        stack_num=1,
        noop_max=0,
        repeat_action_probability=sticky_actions,
        reward_clipping=False,
        use_fire_reset=False,
    )
    frame, _ = single.reset(seed=seed)
    frames, _ = vector.reset(seed=np.array([ale_seed], np.int64))
    rng = np.random.default_rng(0)
    ended = False
    while not ended:
        assert np.array_equal(frame, frames[0, 0])
        action = int(rng.integers(single.action_space.n))  # type: ignore[attr-defined]
        frame, reward, ended, _, _ = single.step(action)
        frames, rewards, terminations, _, _ = vector.step(np.array([action]))
        assert (reward, ended) == (rewards[0], terminations[0])
    assert np.array_equal(frame, frames[0, 0])


def test_ram_belongs_to_its_frame() -> None:
    episodes = list(collect_episodes("breakout", 500, n_envs=2, ram=True))
    assert sum(len(episode) for episode in episodes) == 500
    assert any(episode.terminations[-1] for episode in episodes)
    for episode in episodes:
        ram = episode.infos["ram"]
        assert (ram.shape, ram.dtype) == ((len(episode) + 1, 128), np.uint8)
        # Byte 77 of Breakout counts the points, a decimal digit in each half.
        points = (ram[:, 77] >> 4) * 10 + (ram[:, 77] & 15)
        assert np.array_equal(np.diff(points.astype(int)), episode.rewards)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"n_envs": 0},
        {"seed": -1},
        {"repeat_probability": 1.0},
        {"repeat_probability": -0.1},
        {"sticky_actions": 1.5},
    ],
)
def test_numbers_are_checked_at_the_call(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        collect_episodes("pong", **{"steps": 10, **wrong})  # type: ignore[arg-type]


def test_unknown_game_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="breakout"):
        collect_episodes("breakuot", 10)


def test_time_limit_truncates_and_play_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pretrainrl.data.collect.StickyGame", partial(StickyGame, max_episode_steps=10))
    episodes = list(collect_episodes("pong", 25, n_envs=1))
    assert [len(episode) for episode in episodes] == [10, 10, 5]
    assert [episode.metadata["ends_by"] for episode in episodes] == ["time_out", "time_out", "cut"]
    for episode in episodes:
        assert episode.truncations[-1]
        assert not episode.terminations.any()
