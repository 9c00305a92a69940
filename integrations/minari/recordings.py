"""Recordings become datasets, and datasets recordings."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

import h5py
import minari
import numpy as np

from pretrainrl.data.packing import PackedEpisode, content_sha256
from pretrainrl.data.recording import RecordedEpisode, Recording
from pretrainrl.data.replay_worker import episode_file, play_share
from pretrainrl.dataset_cards import RECORDINGS, RecordingCard, Returns
from pretrainrl.errors import DatasetError, InputError, UnknownNameError, WeightsError
from pretrainrl.games import all_scores
from pretrainrl.integrations.minari.metadata import (
    NAMESPACE,
    Summary,
    check_dataset,
    check_id,
    dataset_folder,
    datasets_root,
    read_errors,
)
from pretrainrl.integrations.minari.readable import MAIN_FILE
from pretrainrl.integrations.minari.write import exists_error, sweep, write_dataset
from pretrainrl.paths import absolute_folders, home, output_file, resolve_path, writable_folder
from pretrainrl.runs.interrupt import InterruptedRunError
from pretrainrl.runs.lock import lock_path, locked
from pretrainrl.runs.pool import cores, show_jobs
from pretrainrl.weights import fetch, file_sha256

SUFFIX = ".rec"
_BYTES_A_TRANSITION = 300  # of a dataset with its frames; 230 on average
_OWN_KEYS = ("id", "total_steps")
# Metadata of a collection, and the options of `pretrainrl collect` that give them.
_OPTIONS = {
    "agent": "--agent",
    "steps": "--steps",
    "keep_every": "--keep-every",
    "num_envs": "--n-envs",
    "seed": "--seed",
    "sticky_actions": "--sticky-actions",
    "repeat_probability": "--repeat-probability",
}


def recorded_ids() -> list[str]:
    """Return the ids of the datasets whose recordings are registered, sorted."""
    return [f"{NAMESPACE}/{name}" for name in RECORDINGS.names()]


def matching_recordings(patterns: Sequence[str]) -> dict[str, str]:
    """Return what `build_dataset` takes, and the id that comes of it, for all recordings that `patterns` name.

    Args:
        patterns: Ids with wildcards, with or without their namespace, or files of recordings.

    Raises:
        UnknownNameError: A pattern names no recording.
        DatasetError: A file is no recording.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        if pattern.startswith("hf://") or pattern.endswith(SUFFIX):
            found[pattern] = open_recording(pattern).dataset_id
            continue
        names = RECORDINGS.names(pattern.removeprefix(f"{NAMESPACE}/"))
        if not names:
            raise UnknownNameError.of("recording", pattern, RECORDINGS.names())
        found.update({f"{NAMESPACE}/{name}": f"{NAMESPACE}/{name}" for name in names})
    return found


def is_recorded(name: str) -> bool:
    """Whether the recording of the dataset `name` is registered."""
    return name.startswith(f"{NAMESPACE}/") and name.removeprefix(f"{NAMESPACE}/") in RECORDINGS.names()


def registered_recording(name: str) -> Recording:
    """Read the registered recording of the dataset `name`.

    Raises:
        UnknownNameError: No such recording is registered; the nearest ones are named.
        DatasetError: It cannot be had, or is not what its card says.
    """
    card = RECORDINGS.get(name.removeprefix(f"{NAMESPACE}/"))
    try:
        file = fetch(card.sources, card.sha256, card.bytes)
        recording = Recording.parse(file.content, str(file.path))
    except WeightsError as error:
        raise DatasetError(f"recording {card.name}: {error}") from error
    if recording.content_sha256 != card.content_sha256:
        raise DatasetError(
            f"the card of {card.name} promises the content {card.content_sha256}, and its recording {recording.content_sha256}"
        )
    return recording


def record_dataset(name: str) -> Recording:
    """Return the recording of the local dataset `name`, which `collect` or a recording has made.

    Raises:
        DatasetError: It is missing or damaged, or was made otherwise, so that its play is not known.
    """
    summary = check_dataset(name)
    with read_errors(name):
        return _record(summary)


def _record(summary: Summary) -> Recording:
    name, facts = summary.id, summary.metadata
    unknown = DatasetError(f"how {name} was played is not recorded; only what `pretrainrl collect` plays from now on is")
    if "content_sha256" not in facts:
        raise unknown
    with h5py.File(dataset_folder(name) / "data" / MAIN_FILE, "r") as file:
        if any("delays" not in file[f"episode_{index}"].get("infos", ()) for index in range(len(file))):
            raise unknown
        episodes = [
            RecordedEpisode(
                np.asarray(file[f"episode_{index}/actions"][:], np.uint8),
                np.asarray(file[f"episode_{index}/infos/delays"][:], np.uint8),
                {key: value for key, value in episode.items() if key not in _OWN_KEYS},
            )
            for index, episode in enumerate(summary.episodes)
        ]
    return Recording(
        dataset_id=name,
        game=facts["game"],
        rom_md5=facts["rom_md5"],
        ale_py_version=facts["ale_py_version"],
        content_sha256=facts["content_sha256"],
        algorithm=facts["algorithm_name"],
        sticky_actions=facts["sticky_actions"],
        metadata={key: facts[key] for key in ("collection",) if key in facts},
        episodes=episodes,
    )


def write_recording(
    name: str, path: str | Path, *, play: str | None = None, command: str | None = None, limitations: Sequence[str] = ()
) -> RecordingCard:
    """Write the recording of the local dataset `name` to the file `path`, and its card beside it, `<path>.toml`.

    Args:
        name: Minari id.
        path: File to write, `<game>-<kind>-v<version>.rec` by custom.
        play: Sentence on who played; by default the dataset's `algorithm_name`.
        command: Command that made the dataset; by default the one of `collect` with the settings that the dataset holds.
        limitations: Sentences on what it is not good for.

    Returns:
        The card. To register it, put both files into `registry/recordings/`, or name the card in an entry point of the group
        `pretrainrl.recordings`.

    Raises:
        DatasetError: The dataset is missing or damaged, or its play is not known.
        InputError: A file cannot be written.
    """
    path = output_file(path)
    recording = record_dataset(name)
    recording.write(path)
    card = RecordingCard(
        name=name.rsplit("/", 1)[-1],
        play=play or recording.algorithm,
        transitions=recording.transitions,
        returns=returns_of(recording),
        limitations=tuple(limitations),
        command=command or command_of(recording),
        sources=(str(path.resolve()),),
        sha256=file_sha256(path),
        bytes=path.stat().st_size,
        content_sha256=recording.content_sha256,
        rom_md5=recording.rom_md5,
        ale_py_version=recording.ale_py_version,
    )
    card.write(path.with_suffix(".toml"))
    return card


def command_of(recording: Recording) -> str:
    """Return the call of `pretrainrl collect` that made a dataset."""
    settings = recording.metadata.get("collection", {})
    options = [f"{option} {settings[key]}" for key, option in _OPTIONS.items() if key in settings]
    flags = [f"--{key}" for key in ("greedy", "ram") if settings.get(key)]
    kind, version = recording.dataset_id.rsplit("/", 1)[-1].removeprefix(f"{recording.game}-").rsplit("-v", 1)
    return " ".join(["pretrainrl collect", recording.game, *options, *flags, f"--kind {kind} --version {version}"])


def returns_of(recording: Recording) -> Returns | None:
    """Summarize the returns of the episodes that were played to their end; None where all of them were cut."""
    whole = [float(each.metadata["return"]) for each in recording.episodes if each.metadata["ends_by"] != "cut"]
    if not whole:
        return None
    scores, mean = all_scores().get(recording.game), float(np.mean(whole))
    normalized = scores.normalize(mean) if scores else None
    return Returns(
        episodes=len(whole),
        mean=round(mean, 3),
        least=min(whole),
        greatest=max(whole),
        normalized=None if normalized is None else round(normalized, 4),
    )


@absolute_folders()
def build_dataset(
    source: str | Path | Recording, *, name: str | None = None, jobs: int | None = None, progress: bool = False
) -> minari.MinariDataset:
    """Play a recording again, and write what is seen as the Minari dataset that it was.

    What was played before an interruption is kept and not played again. The dataset is the same, frame by frame, on any number
    of processes. Of several processes that want it at once one plays, and the others wait.

    Args:
        source: Id of a registered recording, the recording itself, or its file: a path or `hf://...`.
        name: Id of the dataset; by default that of the dataset that was recorded.
        jobs: Number of processes; by default one for each core.
        progress: Whether a progress bar is shown.

    Raises:
        UnknownNameError: No such recording is registered.
        InputError: The disk has too little room, or the folder cannot be written to.
        DatasetError: The id is taken, the recording is damaged, or the game plays otherwise here than where it was recorded.
        InterruptedRunError: SIGINT or SIGTERM asked to stop while the game was played.
        PretrainRLError: A process was killed.
    """
    recording = source if isinstance(source, Recording) else open_recording(source)
    name = name or recording.dataset_id
    check_id(name)
    if dataset_folder(name).exists():
        raise exists_error(name)
    recording.check_game()
    _check_room(name, recording.transitions)
    folder = _folder_of(recording)
    writable_folder(folder.parent)
    with locked(lock_path(folder)):
        if dataset_folder(name).exists():  # another process was faster
            return minari.load_dataset(name)
        return _build(recording, name, jobs or cores(), progress)


def is_built(source: str | Path, name: str) -> bool:
    """Whether the dataset `name` of a recording is here already. What a killed process left of building it is then removed."""
    if not dataset_folder(name).exists():
        return False
    sweep(name)
    if not str(source).startswith("hf://"):
        folder = _folder_of(open_recording(source))
        if folder.exists() or lock_path(folder).exists():
            with locked(lock_path(folder), wait=False) as free:
                if free:
                    shutil.rmtree(folder, ignore_errors=True)
    return True


def _build(recording: Recording, name: str, jobs: int, progress: bool) -> minari.MinariDataset:
    with _played(recording, name, jobs, progress) as episodes:
        found = content_sha256(episode.sha256 for episode in episodes())
        if found != recording.content_sha256:
            raise DatasetError(
                f"{name} was recorded with ale-py {recording.ale_py_version} and has the content {recording.content_sha256}; "
                f"played with ale-py {version('ale-py')} it has {found}; nothing is kept; install ale-py "
                f"{recording.ale_py_version}"
            )
        return write_dataset(
            name,
            episodes(),
            sticky_actions=recording.sticky_actions,
            algorithm=recording.algorithm,
            metadata=recording.metadata,
        )


def open_recording(source: str | Path) -> Recording:
    """Read a recording.

    Args:
        source: Id of a registered recording's dataset, or the recording's file: a path or `hf://...`.

    Raises:
        UnknownNameError: No such recording is registered.
        DatasetError: The recording cannot be found or read.
    """
    text = str(source)
    if isinstance(source, str) and not text.startswith("hf://") and not text.endswith(SUFFIX):
        return registered_recording(text)
    if text.startswith("hf://"):
        try:
            file = fetch([text])
            return Recording.parse(file.content, str(file.path))
        except WeightsError as error:
            raise DatasetError(f"recording {text}: {error}") from error
    return Recording.read(resolve_path(source))


@contextmanager
def _played(recording: Recording, name: str, jobs: int, progress: bool) -> Iterator[Callable[[], Iterator[PackedEpisode]]]:
    """Play the episodes, and yield a function that reads them from files; only after an interruption are these kept."""
    folder = writable_folder(_folder_of(recording))
    file = folder / f"play{SUFFIX}"
    recording.write(file)
    ram = bool(recording.metadata.get("collection", {}).get("ram"))
    try:
        _play(file, folder, jobs, ram, f"{name}: played again", recording.transitions, progress)
        yield lambda: (
            PackedEpisode.read(episode_file(folder, index), recording.game, episode.metadata)
            for index, episode in enumerate(recording.episodes)
        )
    except DatasetError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _play(file: Path, folder: Path, jobs: int, ram: bool, title: str, transitions: int, progress: bool) -> None:
    """Play all episodes that are not in `folder` yet, in as many processes as `jobs` says."""
    shares = [str(share) for share in range(jobs)]
    work = partial(play_share, file, folder, jobs, ram)
    try:
        show_jobs(work, shares, jobs, total=transitions, unit="transitions", title=title, disable=not progress)
    except InterruptedRunError as error:
        raise InterruptedRunError(f"{title}: interrupted; the next call goes on with what was played") from error


def _folder_of(recording: Recording) -> Path:
    return home() / "recordings" / recording.content_sha256[:16]


def _check_room(name: str, transitions: int) -> None:
    needed = transitions * _BYTES_A_TRANSITION
    root = writable_folder(datasets_root())
    if (free := min(shutil.disk_usage(root).free, shutil.disk_usage(writable_folder(home())).free)) < needed:
        raise InputError(f"{name} needs {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free in {root}")
