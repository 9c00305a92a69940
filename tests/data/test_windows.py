"""Windows: equal to a slow reference, in an order that only (seed, step) decides."""

import threading
import warnings
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import pytest
import torch
from ale_py.vector_env import AtariVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from window_reference import key, numbered, random_episodes, reference, rows

from pretrainrl.data.cache_files import Codec
from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.emulator import StickyGame
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import Batch, Returns, WindowSpec
from pretrainrl.errors import InputError


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FrameCache:
    return FrameCache.build(numbered([30, 7, 1, 22, 40]), tmp_path_factory.mktemp("data") / "cache")


@pytest.mark.parametrize("codec", ["raw", "lz4"])
@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    future=st.integers(0, 5),
    steps=st.integers(0, 6),
    stack=st.integers(1, 5),
    returns=st.none() | st.builds(Returns, st.none() | st.integers(1, 25), st.sampled_from([1.0, 0.99, 0.5, 0.0])),
    seed=st.integers(0, 2**40),
)
def test_windows_are_those_of_the_reference(
    codec: Codec, lengths: list[int], future: int, steps: int, stack: int, returns: Returns | None, seed: int
) -> None:
    spec, episodes = WindowSpec(future, steps, stack, returns), random_episodes(lengths, seed)
    expected = sorted(reference(episodes, spec), key=key)
    with TemporaryDirectory() as folder:
        cache = FrameCache.build(episodes, Path(folder) / "cache", codec=codec)
        if not expected:
            with pytest.raises(InputError, match="shorter"):
                WindowSampler(cache, spec, 1)
            return
        sampler = WindowSampler(cache, spec, 3 if len(expected) % 3 == 0 else 1, seed=seed)
        assert len(sampler) == sampler.steps_per_epoch * sampler.batch_size == len(expected)
        drawn = sorted((row for batch in sampler.batches(0, sampler.steps_per_epoch) for row in rows(batch)), key=key)
    assert [*map(key, drawn)] == [*map(key, expected)]
    for ours, theirs in zip(drawn, expected, strict=True):
        np.testing.assert_allclose(ours[7], theirs[7], rtol=1e-6, atol=1e-6)


def test_both_codecs_give_the_same(tmp_path: Path) -> None:
    episodes = list(collect_episodes("breakout", 400, n_envs=2, seed=3))
    caches = [FrameCache.build(episodes, tmp_path / codec, codec=codec) for codec in get_args(Codec)]
    samplers = [WindowSampler(cache, WindowSpec(future=3, steps=3), 64) for cache in caches]
    for step in range(samplers[0].steps_per_epoch + 2):
        raw, compressed = (sampler.batch(step) for sampler in samplers)
        assert torch.equal(raw.frames, compressed.frames)
        assert torch.equal(raw.actions, compressed.actions)
    sizes = [(cache.folder / "frames").stat().st_size for cache in caches]
    assert sizes[1] < sizes[0] / 10


def test_every_window_of_every_game_is_as_likely_as_any_other(tmp_path: Path) -> None:
    """A game's share of the batches is its share of the transitions."""
    episodes = numbered([60, 20, 60, 20])
    sampler = WindowSampler(FrameCache.build(episodes, tmp_path / "cache"), WindowSpec(steps=1), 16)
    games = torch.cat([sampler.batch(step).games for step in range(sampler.steps_per_epoch)])
    assert games.bincount().tolist() == [40, 120]  # boxing, pong


def test_impossible_returns() -> None:
    for wrong in ({"steps": 0}, {"discount": 1.1}, {"discount": -0.1}):
        with pytest.raises(InputError, match="returns need"):
            Returns(**wrong)


def test_batches_made_by_hand_are_valid_and_without_returns() -> None:
    frames, steps = torch.zeros(2, 5, 84, 84, dtype=torch.uint8), torch.zeros(2, 3)
    batch = Batch(frames, steps.long(), steps, steps.bool(), torch.zeros(2, dtype=torch.int64))
    assert batch.valid.shape == (2, 5) and batch.valid.all()
    assert batch.taken.shape == (2, 3) and batch.taken.all()
    assert batch.returns.shape == (2, 0)


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    future=st.integers(0, 4),
    steps=st.integers(0, 4),
    repeated=st.sets(st.integers(0, 3)),
)
def test_repeated_final_frames_are_never_offered(lengths: list[int], future: int, steps: int, repeated: set[int]) -> None:
    """Where the final observation is unknown, windows are those of the same episode without it."""
    spec, episodes = WindowSpec(future, steps), numbered(lengths)
    for number in repeated & set(range(len(episodes))):
        episode = episodes[number]
        episode.frames[-1], episode.metadata["final_observation"] = 255, "repeated"
    expected = [window for window in reference(episodes, spec) if not (window[0][:, 40, 40] == 255).any()]
    with TemporaryDirectory() as folder:
        cache = FrameCache.build(episodes, Path(folder) / "cache")
        if not expected:
            with pytest.raises(InputError, match="shorter"):
                WindowSampler(cache, spec, 1)
            return
        sampler = WindowSampler(cache, spec, 1)
        drawn = [row for step in range(len(sampler)) for row in rows(sampler.batch(step))]
    assert sorted(map(key, drawn)) == sorted(map(key, expected))


def test_a_repeated_final_frame_may_stand_where_a_termination_cuts_the_bootstrap(tmp_path: Path) -> None:
    """A value learner never looks at it there, and would else not see how an episode ends."""
    episodes = random_episodes([9, 9], seed=0)
    for episode, lost in zip(episodes, (True, False), strict=True):
        episode.terminations[-1], episode.truncations[-1] = lost, not lost
        episode.metadata["final_observation"] = "repeated"
    cache = FrameCache.build(episodes, tmp_path / "frames")
    windows = {
        bootstraps: len(WindowSampler(cache, WindowSpec(future=3, steps=3, bootstraps=bootstraps), 1))
        for bootstraps in (False, True)
    }
    assert windows == {False: 6 + 6, True: 9 + 6}
    sampler = WindowSampler(cache, WindowSpec(future=3, steps=3, bootstraps=True), 15)
    assert int(sampler.batch(0).terminations.any(1).sum()) == 3


def test_shapes_and_dtypes(cache: FrameCache) -> None:
    batch = WindowSampler(cache, WindowSpec(future=3, steps=2), 8).batch(0)
    assert (batch.frames.shape, batch.frames.dtype) == ((8, 7, 84, 84), torch.uint8)
    assert (batch.actions.shape, batch.actions.dtype) == ((8, 2), torch.int64)
    assert (batch.rewards.shape, batch.rewards.dtype) == ((8, 2), torch.float32)
    assert (batch.terminations.shape, batch.terminations.dtype) == ((8, 2), torch.bool)
    assert (batch.games.shape, batch.games.dtype) == ((8,), torch.int64)
    assert batch.frames.is_contiguous()
    assert WindowSampler(cache, WindowSpec(), 8).batch(0).actions.shape == (8, 0)


def test_observation_at_an_offset(cache: FrameCache) -> None:
    batch = WindowSampler(cache, WindowSpec(future=3), 16).batch(0)
    times = batch.frames[:, :, 83, 83].long()
    now = times[:, 3]  # time + 1 of the newest frame of the stack at t
    for offset in range(4):
        assert torch.equal(batch.observation(offset)[:, -1, 83, 83], now + offset)
    assert torch.equal(batch.observation(), batch.frames[:, :4])
    offsets = torch.arange(16) % 4
    picked = batch.observation(offsets)
    for i, offset in enumerate(offsets.tolist()):
        assert torch.equal(picked[i], batch.frames[i, offset : offset + 4])
    for wrong in (-1, 4):
        with pytest.raises(InputError, match="outside the window"):
            batch.observation(wrong)


def test_stack_is_part_of_the_batch(cache: FrameCache) -> None:
    batch = WindowSampler(cache, WindowSpec(stack=2), 4).batch(0).to("cpu")
    assert batch.observation().shape == (4, 2, 84, 84)


def test_order_is_a_function_of_seed_and_step(cache: FrameCache) -> None:
    spec = WindowSpec(future=1, steps=1)
    first, second = (WindowSampler(cache, spec, 16, seed=7) for _ in range(2))
    steps = list(range(3 * first.steps_per_epoch))
    forwards = {step: first.batch(step).frames for step in steps}
    for step in reversed(steps):
        assert torch.equal(second.batch(step).frames, forwards[step])
    other = WindowSampler(cache, spec, 16, seed=8)
    assert not torch.equal(other.batch(0).frames, forwards[0])
    assert not torch.equal(forwards[first.steps_per_epoch], forwards[0])  # epochs differ


def test_every_window_at_most_once_per_epoch(cache: FrameCache) -> None:
    sampler = WindowSampler(cache, WindowSpec(future=1, steps=1), 16)
    keys = [key(row) for step in range(sampler.steps_per_epoch) for row in rows(sampler.batch(step))]
    assert len(set(keys)) == len(keys) == len(sampler) // 16 * 16 < len(sampler)


def test_two_threads_may_read(cache: FrameCache) -> None:
    """As when the loop looks at a batch while the next ones are read ahead, perhaps of the next epoch."""
    sampler = WindowSampler(cache, WindowSpec(), 16)
    later = sampler.steps_per_epoch
    expected = [sampler.batch(step).frames for step in range(2 * later)]
    wrong: list[int] = []

    def read(start: int) -> None:
        for step in [*range(start, start + later)] * 20:
            if not torch.equal(sampler.batch(step).frames, expected[step]):
                wrong.append(step)

    threads = [threading.Thread(target=read, args=(start,)) for start in (0, later)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_batch_of_a_single_process(cache: FrameCache, world_size: int) -> None:
    spec = WindowSpec(future=2, steps=1)
    whole = WindowSampler(cache, spec, 4 * world_size, seed=1)
    ranks = [WindowSampler(cache, spec, 4, seed=1, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step in range(whole.steps_per_epoch + 1):
        expected, parts = whole.batch(step), [rank.batch(step) for rank in ranks]
        assert ranks[0].steps_per_epoch == whole.steps_per_epoch
        for rank, part in enumerate(parts):
            assert torch.equal(part.frames, expected.frames[rank::world_size])
            assert torch.equal(part.rewards, expected.rewards[rank::world_size])


def test_reading_ahead_changes_nothing(cache: FrameCache) -> None:
    sampler = WindowSampler(cache, WindowSpec(future=1), 16)
    ahead = list(sampler.batches(3, 14, depth=2))
    assert len(ahead) == 11
    for step, batch in enumerate(ahead, 3):
        assert torch.equal(batch.frames, sampler.batch(step).frames)
    assert list(sampler.batches(5, 5)) == []


def window_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("windows")]


def test_closing_ends_the_thread(cache: FrameCache) -> None:
    batches = WindowSampler(cache, WindowSpec(), 8).batches(0, 1_000_000)
    next(batches)
    assert len(window_threads()) == 1
    batches.close()  # type: ignore[attr-defined]
    assert window_threads() == []


def test_errors_of_the_thread_reach_the_caller(cache: FrameCache, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = WindowSampler(cache, WindowSpec(), 8)
    read = sampler.read
    calls = iter(range(100))
    monkeypatch.setattr(sampler, "read", lambda windows: 1 / 0 if next(calls) == 2 else read(windows))
    batches = sampler.batches(0, 10)
    next(batches), next(batches)
    with pytest.raises(ZeroDivisionError):
        next(batches)
    assert window_threads() == []


def test_no_warnings_and_no_global_random_numbers(cache: FrameCache) -> None:
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WindowSampler(FrameCache.open(cache.folder), WindowSpec(future=3, steps=3), 8).batch(0).observation(2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("wrong", [{"future": -1}, {"steps": -1}, {"stack": 0}])
def test_impossible_specs(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="window needs"):
        WindowSpec(**wrong)


def test_impossible_samplers(cache: FrameCache) -> None:
    with pytest.raises(InputError, match="batch of 1000 is larger than the data, 105 windows"):
        WindowSampler(cache, WindowSpec(), 1000)
    with pytest.raises(InputError, match="larger than the data"):
        WindowSampler(cache, WindowSpec(), 60, world_size=2)
    with pytest.raises(InputError, match="every episode is shorter than the 41 steps"):
        WindowSampler(cache, WindowSpec(future=41), 1)
    for wrong in ({"batch_size": 0}, {"seed": -1}, {"rank": 2, "world_size": 2}, {"rank": -1}):
        with pytest.raises(InputError, match="sampler needs"):
            WindowSampler(cache, WindowSpec(), **{"batch_size": 4, **wrong})


def test_stacks_are_those_of_the_vector_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack at every time of real episodes, zero frames after a reset included, is what ALE stacks itself."""
    monkeypatch.setattr("pretrainrl.data.collect.StickyGame", partial(StickyGame, noop_max=0))
    recorded = list(collect_episodes("breakout", 600, n_envs=1, seed=2, sticky_actions=0.0))
    assert len(recorded) > 1
    sampler = WindowSampler(FrameCache.build(recorded, tmp_path / "cache"), WindowSpec(), 1)
    stacks = sampler.read(torch.arange(len(sampler))).observation()
    game = AtariVectorEnv("breakout", 1, stack_num=4, repeat_action_probability=0.0, noop_max=0, use_fire_reset=False)
    seen = []
    for episode in recorded:
        observation, _ = game.reset(seed=np.array([0]))
        for action in episode.actions:
            seen.append(observation[0].copy())
            observation, *_ = game.step(np.array([action]))
        seen.append(observation[0].copy())
    assert not seen[0][:3].any() and seen[0][3].any()
    assert np.array_equal(stacks, np.stack(seen))
