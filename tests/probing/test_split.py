"""No episode on both sides, whatever the episodes are."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrainrl.errors import InputError
from pretrainrl.probing.samples import GAP, TEST_SHARE, split_episodes


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=2, max_size=12), seed=st.integers(0, 5))
def test_sides_share_no_episode(lengths: list[int], seed: int):
    episodes = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    times = torch.cat([torch.arange(length) for length in lengths])
    split = split_episodes(episodes, times, seed=seed)
    assert len(split.train) and len(split.test)
    assert sorted([*split.train.tolist(), *split.test.tolist()]) == list(range(sum(lengths)))
    assert not set(episodes[split.train].tolist()) & set(episodes[split.test].tolist())
    again = split_episodes(episodes, times, seed=seed)
    assert torch.equal(split.test, again.test)
    if min(lengths) <= TEST_SHARE * sum(lengths):
        assert len(split.test) <= TEST_SHARE * sum(lengths)


def test_the_seed_decides_which_episodes():
    episodes = torch.arange(200) // 10
    sides = {tuple(split_episodes(episodes, torch.arange(200) % 10, seed=seed).test.tolist()) for seed in range(5)}
    assert len(sides) > 1 and all(len(side) == 50 for side in sides)


@settings(deadline=None)
@given(length=st.integers(300, 3000), every=st.integers(1, 3))
def test_a_lone_episode_is_cut_with_a_gap(length: int, every: int):
    times = torch.arange(0, length, every)
    split = split_episodes(torch.zeros_like(times), times)
    distance = (times[split.train][:, None] - times[split.test]).abs()
    assert distance.min() >= GAP
    assert 0.2 < len(split.test) / len(times) < 0.3


def test_a_short_lone_episode_is_refused():
    with pytest.raises(InputError, match="too short to be split"):
        split_episodes(torch.zeros(60, dtype=torch.int64), torch.arange(60))
    with pytest.raises(InputError, match="no observations"):
        split_episodes(torch.zeros(0), torch.zeros(0))
