"""What an agent experiences is logged as it happened: whole games, raw scores, one frame a step."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from plain_ale import plain_ale

from pretrainrl.data.episode import Episode
from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.envs.atari_vec_env import RecordedAtariVecEnv
from pretrainrl.integrations.sb3.recording.experience_log import ExperienceLog

ENVS, SEGMENT, STEPS = 2, 500, 2301  # the third segment is short, and its last step half logged


@cache
def play(game: str = "breakout", keep_every: int = 1, first_segment: int = 0, begun: int = 0) -> tuple[list[Episode], Any]:
    """Play at random, each segment with random numbers of its own; returns episodes and all that the agent saw."""
    env = RecordedAtariVecEnv(game, ENVS, clip_reward=False, action_repeat_probability=0.25)
    log = ExperienceLog(env, steps=STEPS, segment_steps=SEGMENT, seed=7, keep_every=keep_every)
    log.go_to(first_segment, begun)
    log.reset()
    seen = []
    while not log.finished:
        if log.at_segment_start:
            rng = np.random.default_rng(log.segment)
        seen.append(log.step(rng.integers(env.action_space.n, size=ENVS)))
    log.close()
    return log.take(), seen


def test_episodes_are_what_the_game_showed() -> None:
    """Play the recorded actions again, in ALE itself: the same frames, scores and ends."""
    episodes, _ = play()
    assert sum(map(len, episodes)) == STEPS
    assert sum(episode.metadata["ends_by"] == "game_over" for episode in episodes) > 4
    streams: dict[tuple[int, int], list[Episode]] = {}
    for episode in episodes:
        streams.setdefault((episode.metadata["segment"], episode.metadata["env"]), []).append(episode)
    assert sorted(streams) == [(segment, env) for segment in range(3) for env in range(ENVS)]
    for mine in streams.values():
        assert [episode.metadata["episode"] for episode in mine] == list(range(len(mine)))
        ends = [episode.metadata["ends_by"] for episode in mine]
        assert set(ends[:-1]) <= {"game_over"}
        for episode in mine:
            shown = plain_ale("breakout", episode.metadata["noops"], episode.actions, episode.infos["delays"])
            frames, rewards, overs = zip(*shown, strict=True)
            assert np.array_equal(frames, episode.frames)
            assert np.array_equal(rewards[1:], episode.rewards)
            assert np.array_equal(overs[1:], episode.terminations)
            assert episode.metadata["return"] == episode.rewards.sum()
            assert episode.truncations[-1] == (episode.metadata["ends_by"] == "cut")


def test_agent_sees_clipped_rewards_and_lost_lives() -> None:
    episodes, seen = play("mspacman")
    assert max(episode.rewards.max() for episode in episodes) >= 10
    assert {float(reward) for _, rewards, _, _ in seen for reward in rewards} == {0.0, 1.0}
    dones = sum(int(dones.sum()) for _, _, dones, _ in seen)
    assert dones > len(episodes) + 2  # lives end no episode


def test_segments_end_in_truncations() -> None:
    _, seen = play()
    for last in (SEGMENT - 1, 2 * SEGMENT - 1):
        observations, _, dones, infos = seen[last]
        assert dones.all()
        for i, info in enumerate(infos):
            assert "terminal_observation" in info
            assert not observations[i, :-1].any()  # another game has begun
            assert "episode" in info or info["TimeLimit.truncated"]


@pytest.mark.parametrize("keep_every", [2, 5])
def test_one_of_every_n_is_kept_whole(keep_every: int) -> None:
    def key(episode: Episode) -> tuple[int, ...]:
        return tuple(episode.metadata[name] for name in ("segment", "env", "episode"))

    every = {key(episode): episode for episode in play()[0]}
    kept, _ = play(keep_every=keep_every)
    assert 0 < len(kept) <= len(every) / keep_every + 1
    for episode in kept:
        same = every[key(episode)]
        assert np.array_equal(episode.frames, same.frames)
        assert episode.metadata == same.metadata
    # In the order in which they begin; environments that begin at the same time in that of their numbers.
    begun = sorted(every.values(), key=lambda e: (e.metadata["segment"], e.metadata["steps_before"], e.metadata["env"]))
    assert {key(episode) for episode in kept} == {key(episode) for episode in begun[::keep_every]}


def test_steps_before_is_the_agents_age() -> None:
    episodes, _ = play()
    for episode in episodes:
        facts = episode.metadata
        before = [e for e in episodes if (e.metadata["segment"], e.metadata["env"]) == (facts["segment"], facts["env"])]
        lengths = sum(len(e) for e in before if e.metadata["episode"] < facts["episode"])
        assert facts["steps_before"] == ENVS * (SEGMENT * facts["segment"] + lengths)


def test_a_segment_depends_on_nothing_before() -> None:
    whole, _ = play()
    after = [episode for episode in whole if episode.metadata["segment"] >= 1]
    alone, _ = play(first_segment=1, begun=len(whole) - len(after))
    assert len(alone) == len(after)
    for a, b in zip(alone, after, strict=True):
        assert np.array_equal(a.frames, b.frames)
        assert a.metadata == b.metadata


def test_bad_input() -> None:
    env = RecordedAtariVecEnv("pong", 1, clip_reward=False)
    wrongs: list[dict[str, Any]] = [{"steps": 0}, {"segment_steps": 0}, {"keep_every": 0}, {"seed": -1}]
    for wrong in wrongs:
        with pytest.raises(InputError, match=next(iter(wrong))):
            ExperienceLog(env, **{"steps": 10, "segment_steps": 5, **wrong})
    with pytest.raises(InputError, match="clip_reward=False"):
        ExperienceLog(RecordedAtariVecEnv("pong", 1), steps=1, segment_steps=1)
