"""Datasets: lossless, whole or not at all, and ordinary ones to Minari."""

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest

from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.episode import Episode
from pretrainrl.dataset_cards import RECORDINGS
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.integrations.minari import (
    cache_datasets,
    collect_dataset,
    local_ids,
    open_dataset,
    write_dataset,
)

NAME, OTHER = "pretrainrl/atari/breakout-random-v0", "pretrainrl/atari/breakout-random-v7"


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return list(collect_episodes("breakout", 500, n_envs=2, ram=True))


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of datasets and caches for each test, not there yet."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    return tmp_path / "datasets"


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def assert_same(first: Episode, second: Episode) -> None:
    for name in ("frames", "actions", "rewards", "terminations", "truncations"):
        a, b = getattr(first, name), getattr(second, name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b), name
    assert (first.game, first.metadata, first.infos.keys()) == (second.game, second.metadata, second.infos.keys())
    for name, array in first.infos.items():
        assert np.array_equal(array, second.infos[name])


def test_round_trip_is_lossless_and_silent(episodes: list[Episode]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        write_dataset(NAME, iter(episodes), metadata={"collection": {"seed": 0}})
        dataset = open_dataset(NAME)
        read = list(dataset)
    assert len(dataset) == len(episodes)
    assert dataset.games == ("breakout",)
    assert dataset.metadata["collection"] == {"seed": 0}
    for ours, theirs in zip(episodes, read, strict=True):
        assert_same(ours, theirs)


def test_plain_minari_reads_it(episodes: list[Episode]) -> None:
    write_dataset(NAME, episodes)
    dataset = minari.load_dataset(NAME)
    assert dataset.total_steps == 500
    assert dataset.total_episodes == len(episodes)
    assert dataset.observation_space == gymnasium.spaces.Box(0, 255, (84, 84), np.uint8)
    assert dataset.action_space == gymnasium.spaces.Discrete(4)
    for ours, theirs in zip(episodes, dataset.iterate_episodes(), strict=True):
        assert np.array_equal(ours.frames, theirs.observations)
        assert np.array_equal(ours.infos["ram"], theirs.infos["ram"])
        assert dataset.observation_space.contains(theirs.observations[0])
    assert len(dataset.sample_episodes(2)) == 2
    over = dataset.filter_episodes(lambda episode: bool(episode.terminations[-1]))
    assert len(over) == sum(episode.terminations[-1] for episode in episodes) > 0
    (facts,) = dataset.storage.get_episode_metadata([0])
    assert facts["seed"] == episodes[0].metadata["seed"]
    assert facts["final_observation"] == "true"
    assert list(minari.list_local_datasets()) == [NAME]


def test_one_process_writes_a_dataset(episodes: list[Episode], root: Path) -> None:
    """Whoever comes second is told before it has played for hours."""

    def meanwhile() -> Iterator[Episode]:
        with pytest.raises(InputError, match=rf"{NAME} is in use by process \d+ on"):
            write_dataset(NAME, iter([]))
        yield episodes[0]

    assert len(write_dataset(NAME, meanwhile())) == 1
    assert not list(root.glob(".*"))


def test_it_can_be_appended_to_with_plain_minari(episodes: list[Episode]) -> None:
    dataset = write_dataset(NAME, episodes[:1])
    before = open_dataset(NAME).fingerprint
    last = episodes[-1]
    arrays: dict[str, Any] = {
        "actions": last.actions,
        "rewards": last.rewards,
        "observations": last.frames,
        "infos": last.infos,
    }
    ends: dict[str, Any] = {"terminations": last.terminations, "truncations": last.truncations}
    dataset.update_dataset_from_buffer([minari.data_collector.EpisodeBuffer(**arrays, **ends)])
    _, appended = open_dataset(NAME)
    assert np.array_equal(appended.frames, last.frames)
    assert open_dataset(NAME).fingerprint != before


def test_files_are_chunked_along_time(episodes: list[Episode], root: Path) -> None:
    write_dataset(NAME, episodes)
    folder = root / NAME / "data"
    with h5py.File(folder / "main_data.hdf5") as file:
        for number, episode in enumerate(episodes):
            observations = file[f"episode_{number}/observations"]
            assert observations.chunks == (min(64, len(episode) + 1), 84, 84)
            assert (observations.compression, observations.compression_opts) == ("gzip", 6)
            assert observations.maxshape == (None, 84, 84)
    frames = sum(len(episode) + 1 for episode in episodes)
    assert (folder / "main_data.hdf5").stat().st_size / frames < 400  # raw: 7,056
    assert json.loads((folder / "metadata.json").read_text())["jpeg_encoding"] is False


def test_metadata_says_how_to_see_the_same(episodes: list[Episode]) -> None:
    metadata = write_dataset(NAME, episodes).storage.metadata
    assert (metadata["game"], metadata["rom"]) == ("breakout", "breakout")
    assert metadata["rom_md5"] == "f34f08e5eb96e500e851a80be3277a56"
    assert metadata["action_meanings"] == ["NOOP", "FIRE", "RIGHT", "LEFT"]
    assert metadata["sticky_actions"] == 0.25
    assert metadata["preprocessing"]["frame_skip"] == 4
    assert metadata["preprocessing"]["reward_clipping"] == "none"
    assert metadata["author"] and metadata["description"] and metadata["algorithm_name"]


def test_environment_is_recovered_in_a_new_process(episodes: list[Episode]) -> None:
    write_dataset(NAME, episodes, sticky_actions=0.1)
    script = f"""
import minari
env = minari.load_dataset({NAME!r}).recover_environment()
observation, _ = env.reset(seed=0)
observation, *_ = env.step(1)
print(observation.shape, observation.dtype, env.action_space, env.unwrapped.spec.kwargs["repeat_action_probability"])
"""
    run = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", script], capture_output=True, text=True)
    assert run.stdout == "(84, 84) uint8 Discrete(4) 0.1\n", run.stderr


def test_command_line_of_minari_lists_it(episodes: list[Episode]) -> None:
    write_dataset(NAME, episodes)
    minari_command = Path(sys.executable).with_name("minari")
    run = subprocess.run([minari_command, "list", "local"], capture_output=True, text=True, check=True)
    assert NAME in run.stdout
    assert "pretrainrl/atari" in minari.namespace.list_local_namespaces()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("overwrite", [False, True])
def test_interruption_leaves_nothing(episodes: list[Episode], root: Path, error: type[BaseException], overwrite: bool) -> None:
    if overwrite:
        write_dataset(NAME, episodes[:1])
    before = files(root) if overwrite else []

    def failing() -> Iterator[Episode]:
        yield episodes[0]
        raise error

    with pytest.raises(error):
        write_dataset(NAME, failing(), overwrite=overwrite)
    assert files(root) == before
    write_dataset(NAME, episodes, overwrite=overwrite)  # the id is free
    assert len(open_dataset(NAME)) == len(episodes)


def test_existing_id_is_kept_unless_told(episodes: list[Episode], root: Path) -> None:
    write_dataset(NAME, episodes[:1])
    with pytest.raises(DatasetError, match=f"{NAME} exists at {root / NAME}"):
        write_dataset(NAME, episodes)
    assert len(open_dataset(NAME)) == 1
    write_dataset(NAME, episodes, overwrite=True)
    assert len(open_dataset(NAME)) == len(episodes)
    assert [path.name for path in root.iterdir()] == ["pretrainrl"]


def test_id_taken_meanwhile(episodes: list[Episode], root: Path) -> None:
    def slow() -> Iterator[Episode]:
        with pytest.raises(InputError, match="is in use by process"):
            write_dataset(NAME, episodes[:1])
        shutil.copytree(root / OTHER, root / NAME)  # from elsewhere
        yield from episodes

    write_dataset(OTHER, episodes[:1])
    with pytest.raises(DatasetError, match="exists"):
        write_dataset(NAME, slow())
    assert len(list((root / NAME / "data").iterdir())) > 0
    assert [path.name for path in root.iterdir()] == ["pretrainrl"]


@pytest.mark.parametrize(
    "name",
    ["breakout", "breakout-random-v0", "pretrainrl/atari/breakout-random", "pretrainrl/atari/breakout-v0", "../breakout-a-v0",
     "/tmp/breakout-a-v0", "a/breakout-a-v0", "pretrainrl/atari/breakout-random-vx", "pretrainrl//breakout-random-v0", ""],
)  # fmt: skip
def test_malformed_ids(episodes: list[Episode], root: Path, name: str) -> None:
    with pytest.raises(InputError, match="is not a dataset id; ids look like pretrainrl/atari/<game>-<kind>-v<version>"):
        write_dataset(name, episodes)
    assert not root.exists()


def test_episodes_must_fit_the_dataset(episodes: list[Episode], root: Path) -> None:
    with pytest.raises(InputError, match="no episodes"):
        write_dataset(NAME, [])
    with pytest.raises(InputError, match="'pong' does not belong"):
        write_dataset(NAME, [replace(episodes[0], game="pong")])
    with pytest.raises(InputError, match=r"0\.\.3"):
        write_dataset(NAME, [replace(episodes[0], actions=episodes[0].actions + 1)])
    assert files(root) == []


def test_unwritable_root(episodes: list[Episode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file" / "datasets"))
    with pytest.raises(InputError, match="cannot write"):
        write_dataset(NAME, episodes)


def test_missing_dataset_names_the_nearest(episodes: list[Episode], root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match=r"did you mean .*pong-expert-v0"):
        open_dataset("pretrainrl/atari/pong-expart-v0")
    monkeypatch.setattr(RECORDINGS, "_items", {})
    with pytest.raises(DatasetError, match="there: none"):
        open_dataset(NAME)
    write_dataset(NAME, episodes[:1])
    assert local_ids() == [NAME]
    with pytest.raises(DatasetError, match=f"did you mean {NAME}"):
        open_dataset("pretrainrl/atari/breakuot-random-v0")


@pytest.mark.parametrize("name", ["main_data.hdf5", "metadata.json"])
@pytest.mark.parametrize("damage", ["truncated", "deleted"])
def test_damaged_dataset(episodes: list[Episode], root: Path, name: str, damage: str) -> None:
    write_dataset(NAME, episodes)
    path = root / NAME / "data" / name
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    with pytest.raises(DatasetError, match=f"{NAME} cannot be read.*delete {root / NAME}"):
        list(open_dataset(NAME))
    with pytest.raises(DatasetError, match="cannot be read"):
        cache_datasets([NAME])


def foreign_dataset(name: str, shape: tuple[int, ...], **options: bool) -> None:
    """A dataset as other programs make them."""
    rng = np.random.default_rng(0)
    buffer = minari.data_collector.EpisodeBuffer(
        observations=rng.integers(256, size=(4, *shape), dtype=np.uint8),
        actions=np.zeros(3, np.int64),
        rewards=np.zeros(3),
        terminations=np.array([False, False, True]),
        truncations=np.zeros(3, bool),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            name,
            [buffer],
            env=gymnasium.spec("ALE/Pong-v5"),
            observation_space=gymnasium.spaces.Box(0, 255, shape, np.uint8),
            action_space=gymnasium.spaces.Discrete(6),
            **options,
        )


def test_lossy_and_other_shapes_are_refused() -> None:
    foreign_dataset("other/jpeg-v0", (84, 84))
    foreign_dataset("other/colour-v0", (210, 160, 3))
    foreign_dataset("other/stacked-v0", (4, 84, 84), jpeg_encoding=False)
    for name, reason in [("jpeg", "JPEG"), ("colour", "210, 160, 3"), ("stacked", "4, 84, 84")]:
        with pytest.raises(DatasetError, match=f"other/{name}-v0 holds.*{reason}.*lossless uint8 frames of shape"):
            open_dataset(f"other/{name}-v0")


def test_fitting_datasets_of_others_are_read() -> None:
    foreign_dataset("other/pong-v0", (84, 84), jpeg_encoding=False)
    (episode,) = open_dataset("other/pong-v0")
    assert episode.game == "pong"
    assert len(episode) == 3


def test_cache_is_built_once_per_content(episodes: list[Episode], tmp_path: Path) -> None:
    write_dataset(NAME, episodes)
    other = "pretrainrl/atari/pong-random-v0"
    collect_dataset("pong", 60, n_envs=2)
    cache = cache_datasets([other, NAME])
    assert cache.games == ("breakout", "pong")
    assert cache.num_transitions == 560
    assert cache.folder.parent == tmp_path / "home" / "frames"
    built = (cache.folder / "manifest.json").stat().st_mtime_ns
    again = cache_datasets([NAME, other, NAME])
    assert again.folder == cache.folder
    assert (cache.folder / "manifest.json").stat().st_mtime_ns == built
    assert cache_datasets([NAME]).folder != cache.folder
    write_dataset(NAME, episodes[:1], overwrite=True)
    assert cache_datasets([NAME, other]).folder != cache.folder
    with pytest.raises(InputError, match="at least one"):
        cache_datasets([])


def test_collect_dataset_records_its_arguments_and_repeats_itself(root: Path) -> None:
    fingerprints = []
    for _ in range(2):
        collect_dataset("pong", 50, n_envs=2, seed=9, repeat_probability=0.5, overwrite=True)
        dataset = open_dataset("pretrainrl/atari/pong-random-v0")
        fingerprints.append(dataset.fingerprint)
    assert fingerprints[0] == fingerprints[1]
    assert dataset.metadata["collection"] == {
        "agent": "random",
        "keep_every": 1,
        "steps": 50,
        "num_envs": 2,
        "seed": 9,
        "repeat_probability": 0.5,
        "sticky_actions": 0.25,
        "ram": False,
    }


def test_without_minari_the_error_says_what_to_install() -> None:
    """As on Python 3.10, for which there is no Minari that stores frames without loss."""
    script = """
import sys
sys.modules["minari"] = None
from pretrainrl.integrations.minari import write_dataset
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "MissingExtraError: datasets need Minari and Python 3.11 or newer; run: pip install" in run.stderr
