"""Windows that the end of an episode cuts: what they lack is masked, and the last transitions are read as often as others."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from window_reference import key, numbered, random_episodes, reference, rows

from pretrainrl.cards import OBJECTIVES
from pretrainrl.data.episode import Episode
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import Returns, WindowSpec
from pretrainrl.objectives import make_objective
from pretrainrl.registry import import_target


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    future=st.integers(0, 5),
    steps=st.integers(0, 6),
    stack=st.integers(1, 4),
    kind=st.sampled_from(["cut", "bootstraps"]),
    repeated=st.sets(st.integers(0, 4)),
    seed=st.integers(0, 2**40),
)
def test_cut_windows_are_those_of_the_reference(
    lengths: list[int], future: int, steps: int, stack: int, kind: str, repeated: set[int], seed: int
) -> None:
    spec = WindowSpec(future, steps, stack, Returns(3, 0.9), **{kind: True})
    episodes = random_episodes(lengths, seed)
    for number in repeated & set(range(len(episodes))):
        episodes[number].frames[-1], episodes[number].metadata["final_observation"] = 255, "repeated"
    expected = sorted(reference(episodes, spec), key=key)
    if not expected:
        return
    with TemporaryDirectory() as folder:
        sampler = WindowSampler(FrameCache.build(episodes, Path(folder) / "cache"), spec, 1)
        drawn = sorted(rows(sampler.read(torch.arange(len(sampler)))), key=key)
    assert [*map(key, drawn)] == [*map(key, expected)]
    for ours, theirs in zip(drawn, expected, strict=True):
        np.testing.assert_allclose(ours[7], theirs[7], rtol=1e-6, atol=1e-6)


def _chain(length: int, number: int, *, lost: bool) -> Episode:
    """An episode whose last step alone is rewarded; the first pixels of a frame tell which episode and time it is of."""
    (episode,) = numbered([length])
    episode.frames[:, 0, 0] = number + 1
    episode.rewards[:] = np.arange(length) == length - 1
    episode.terminations[-1], episode.truncations[-1] = lost, not lost
    return episode


@pytest.mark.parametrize("repeated", [False, True])
def test_a_table_learns_the_right_values_from_the_windows_of_cql(tmp_path: Path, repeated: bool) -> None:
    """Value iteration on the windows alone: 0.9801, 0.99 and 1 before a reward that ends the game."""
    lengths = [3, 1, 2, 9]
    episodes = [_chain(length, number, lost=True) for number, length in enumerate(lengths)]
    for episode in episodes if repeated else []:
        episode.frames[-1], episode.metadata["final_observation"] = episode.frames[-2], "repeated"
    window = import_target(OBJECTIVES.get("cql_m").target).window
    sampler = WindowSampler(FrameCache.build(episodes, tmp_path / "cache"), window, 1)
    batch = sampler.read(torch.arange(len(sampler)))
    table = torch.full((len(episodes) + 1, max(lengths) + 2), 5.0)

    def state(observation: Tensor) -> tuple[Tensor, Tensor]:
        return observation[:, -1, 0, 0].long(), observation[:, -1, 83, 83].long()

    now, later = state(batch.observation(0)), state(batch.observation(3))
    for _ in range(10):
        goes_on = ~batch.terminations.any(1)
        table[now] = batch.returns[:, 0] + goes_on * 0.99**3 * table[later]
    for number, length in enumerate(lengths):
        expected = 0.99 ** torch.arange(length - 1, -1, -1.0)
        torch.testing.assert_close(table[number + 1, 1 : length + 1], expected)


def test_a_truncation_cuts_no_window_that_bootstraps(tmp_path: Path) -> None:
    """What would follow is worth something, and the observation that tells is not there."""
    sampler = WindowSampler(
        FrameCache.build([_chain(9, 0, lost=False)], tmp_path / "cache"), WindowSpec(3, 3, bootstraps=True), 1
    )
    batch = sampler.read(torch.arange(len(sampler)))
    assert len(sampler) == 7 and bool(batch.taken.all()) and not batch.terminations.any()


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("name", ["dt", "spr", "spr_idm"])
def test_the_last_transitions_have_their_full_share(name: str, lost: bool, tmp_path: Path) -> None:
    window = import_target(OBJECTIVES.get(name).target).window
    sampler = WindowSampler(FrameCache.build([_chain(30, 0, lost=lost)], tmp_path / "cache"), window, 1)
    batch = sampler.read(torch.arange(len(sampler)))
    times = batch.actions[batch.taken]  # actions of these episodes are times
    assert times.bincount()[window.steps :].tolist() == [window.steps] * (30 - window.steps)


@pytest.mark.parametrize("name", ["dt", "spr", "spr_idm", "cql_m", "cql_d"])
def test_what_is_past_the_end_has_no_influence(name: str, tmp_path: Path) -> None:
    objective = make_objective(name, encoder="nature", num_games=1, preset="nano", augmentation=False)
    episodes = [_chain(12, number, lost=name != "spr") for number in range(2)]
    for episode in episodes:
        episode.frames[:, 20:60] = np.random.default_rng(0).integers(256, size=(13, 40, 84))
    sampler = WindowSampler(FrameCache.build(episodes, tmp_path / "cache"), objective.window, 1)
    batch = sampler.read(torch.arange(len(sampler)))
    assert not batch.taken.all()
    past = torch.cat([torch.zeros(len(batch.frames), batch.stack, dtype=torch.bool), ~batch.valid[:, batch.stack :]], 1)
    with torch.no_grad():
        loss, _ = objective.loss(batch)
        batch.frames[past] = 200
        batch.actions[~batch.taken] = 3
        changed, _ = objective.loss(batch)
    torch.testing.assert_close(changed, loss)


def test_cut_windows_alone_are_no_loss_but_zero(tmp_path: Path) -> None:
    """Nothing is predicted of an episode of one step, and nothing becomes NaN."""
    objective = make_objective("spr", encoder="nature", num_games=1, preset="nano")
    episodes = [_chain(1, number, lost=True) for number in range(4)]
    sampler = WindowSampler(FrameCache.build(episodes, tmp_path / "cache"), objective.window, 4)
    assert objective.loss(sampler.batch(0))[0].item() == 0
