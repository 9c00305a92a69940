"""What others recorded: shards of arrays, TFRecords, and HDF5 files, damaged or made by an attacker."""

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
from atari_pb_data import write_files
from dqn_shards import log_of, numbered, write_shard
from episode_records import example, features_of, write_records
from mutate import damage
from trials import CHANGED, SAME, Fault, Target, Trial, mutated

from pretrainrl.data import hdf5
from pretrainrl.data.episode import Episode
from pretrainrl.data.sources import find_sources

LENGTHS = (5, 4, 3)
SECRET = 77  # what lies in a file that a crafted HDF5 file points to


def meaning(episodes: Iterable[Episode]) -> list[str]:
    """Digest of each episode's arrays."""
    return [
        hashlib.sha256(
            b"".join(
                np.ascontiguousarray(getattr(episode, name)).tobytes()
                for name in ("frames", "actions", "rewards", "terminations", "truncations")
            )
        ).hexdigest()
        for episode in episodes
    ]


def read(format: str, place: Path, **options: Any) -> list[str]:
    """Read what is there as the importers do."""
    [source] = find_sources(format, place, ["pong"], runs=[1], checkpoints=[1], steps=200, **options)
    source.check()
    found = meaning(source.episodes())
    source.metadata()
    return found


def verdict(found: list[str], whole: list[str], *, covered: bool) -> str:
    """Compare what was read with what was written; `covered` tells whether a checksum should have noticed."""
    if found == whole:
        return SAME
    if covered and not set(found) <= set(whole):
        raise Fault("damage accepted", "episodes differ, and a checksum covers them")
    return CHANGED


def one_of(rng: Random, folder: Path) -> Path:
    """Choose a file of a folder."""
    return rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))


def prepare_shards(folder: Path) -> None:
    """Write a shard in each of two forms."""
    log = log_of(numbered(LENGTHS))
    write_shard(folder / "gz", log, add_count=len(log["action"]) - 1)
    write_shard(folder / "npy", log, layout="atari-pb", suffix=".npy")


def start_shards(folder: Path) -> Trial:
    """Arrays of the DQN Replay Dataset: the files are damaged, or the arrays in them before they are compressed."""
    whole = {form: read("dqn-replay", folder / form, verify=True) for form in ("gz", "npy")}

    def trial(rng: Random, scratch: Path) -> str:
        form = rng.choice(("gz", "gz", "npy"))
        place = mutated(scratch, folder / form)
        path, inside = one_of(rng, place), form == "gz" and rng.random() < 0.5
        content = path.read_bytes()
        path.write_bytes(gzip.compress(damage(rng, gzip.decompress(content)), 1) if inside else damage(rng, content))
        return verdict(read("dqn-replay", place, verify=True), whole[form], covered=form == "gz" and not inside)

    return trial


def prepare_records(folder: Path) -> None:
    """Write a file of records, compressed and not."""
    records = [example(features_of(episode, number)) for number, episode in enumerate(numbered(LENGTHS))]
    for form, compress in (("gz", True), ("plain", False)):
        write_records(folder / form / "Pong" / "run_1-00001-of-00050", records, compress)


def start_records(folder: Path) -> Trial:
    """TFRecords of RL Unplugged: the files are damaged, or the messages in them before their checksums are computed."""
    whole = {form: read("rl-unplugged", folder / form, verify=True) for form in ("gz", "plain")}
    records = [example(features_of(episode, number)) for number, episode in enumerate(numbered(LENGTHS))]

    def trial(rng: Random, scratch: Path) -> str:
        form, inside = rng.choice(("gz", "plain")), rng.random() < 0.4
        place = mutated(scratch, folder / form)
        path = one_of(rng, place)
        if inside:
            changed = list(records)
            number = rng.randrange(len(changed))
            changed[number] = damage(rng, changed[number])
            write_records(path, changed, form == "gz")
        else:
            path.write_bytes(damage(rng, path.read_bytes()))
        return verdict(read("rl-unplugged", place, verify=True), whole[form], covered=not inside)

    return trial


def prepare_hdf5(folder: Path) -> None:
    """Write Atari-PB's files, and beside them a file that must not be read."""
    write_files(folder / "files", {39: [[log_of(numbered(LENGTHS))]]})
    with h5py.File(folder / "secret.h5", "w") as file:
        file["data"] = np.full((1, 1, 1, 30), SECRET, np.uint8)
    (folder / "secret.bin").write_bytes(bytes([SECRET]) * 300_000)


def fork_readers() -> None:
    """Let HDF5 files be looked at in a forked process rather than in a new one, which takes a hundred times as long."""

    def run(command: list[str], timeout: float, **_: Any) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryFile("w+", dir=".") as output:
            child = os.fork()
            if not child:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                sys.argv = command[3:]  # after the interpreter, -I and -c, in the place of the script's name
                try:
                    hdf5.main()
                    sys.stdout.flush()
                finally:
                    os._exit(0 if sys.exc_info()[0] is None else 1)
            due = time.monotonic() + timeout
            while not (ended := os.waitpid(child, os.WNOHANG))[0]:
                if time.monotonic() > due:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    raise subprocess.TimeoutExpired(command, timeout)
                time.sleep(0.001)
            output.seek(0)
            text = output.read()
        return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(ended[1]), text, text)

    vars(hdf5)["_SECONDS"] = 5  # not 60, or trials that are refused after them would take all the time
    vars(hdf5)["subprocess"] = SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired, DEVNULL=subprocess.DEVNULL)


def start_hdf5(folder: Path) -> Trial:
    """Atari-PB's HDF5 files: damaged, or crafted to point elsewhere or to be huge."""
    fork_readers()
    whole = read("atari-pb", folder / "files")

    def trial(rng: Random, scratch: Path) -> str:
        place = mutated(scratch, folder / "files")
        path = one_of(rng, place)
        if rng.random() < 0.5:
            path.write_bytes(damage(rng, path.read_bytes()))
            return verdict(read("atari-pb", place), whole, covered=False)
        outside = craft(rng, path, "data", folder)
        found = read("atari-pb", place)
        if outside and found != whole:
            raise Fault("ran code", f"{outside}: another file was read through an HDF5 file")
        return verdict(found, whole, covered=False)

    return trial


def craft(rng: Random, path: Path, name: str, secrets: Path) -> str | None:
    """Put something else in the place of one array of an HDF5 file; returns what it is if it points to another file."""
    kind = rng.choice(sorted(_CRAFTS))
    with h5py.File(path, "r+") as file:
        shape, dtype = file[name].shape, file[name].dtype
        attributes = dict(file[name].attrs)
        del file[name]
        _CRAFTS[kind](file, name, shape, dtype, secrets)
        if isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Dataset):
            file[name].attrs.update(attributes)
    return kind if kind in ("external link", "external storage", "virtual") else None


def _external_storage(file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any, secrets: Path) -> None:
    size = int(np.prod(shape)) * dtype.itemsize
    file.create_dataset(name, shape, dtype, external=[(str(secrets / "secret.bin"), 0, size)])


def _virtual(file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any, secrets: Path) -> None:
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(str(secrets / "secret.h5"), "data", shape=shape, dtype=dtype)
    file.create_virtual_dataset(name, layout)


def _set(value: Callable[[tuple[int, ...], Any], Any]) -> Callable[..., None]:
    def craft(file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any, secrets: Path) -> None:
        file[name] = value(shape, dtype)

    return craft


def _sized(grow: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Callable[..., None]:
    """A dataset that takes no room on the disk and as much in memory as its shape says."""

    def craft(file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any, secrets: Path) -> None:
        size = grow(shape)
        file.create_dataset(name, size, dtype, chunks=tuple(min(each, 64) for each in size), compression="gzip")

    return craft


_CRAFTS: dict[str, Callable[..., None]] = {
    "external link": lambda file, name, shape, dtype, secrets: file.__setitem__(
        name, h5py.ExternalLink(str(secrets / "secret.h5"), "data")
    ),
    "external storage": _external_storage,
    "virtual": _virtual,
    "soft link": lambda file, name, shape, dtype, secrets: file.__setitem__(name, h5py.SoftLink("/nowhere")),
    "link to itself": lambda file, name, shape, dtype, secrets: file.__setitem__(name, h5py.SoftLink(f"/{name}")),
    "empty": _set(lambda shape, dtype: h5py.Empty(dtype)),
    "scalar": _set(lambda shape, dtype: np.zeros((), dtype)),
    "text": _set(lambda shape, dtype: "text"),
    "other type": _set(lambda shape, dtype: np.zeros(shape, np.complex64)),
    "floats": _set(lambda shape, dtype: np.full(shape, np.nan, np.float32)),
    "objects": _set(lambda shape, dtype: np.array([b"a", b"bc"], object)),
    "records": _set(lambda shape, dtype: np.zeros(3, [("a", "i4"), ("b", "f4")])),
    "no rows": _set(lambda shape, dtype: np.zeros((0, *shape[1:]), dtype)),
    "group": lambda file, name, shape, dtype, secrets: file.create_group(name),
    "many rows": _sized(lambda shape: (10**10, *shape[1:])),
    "huge rows": _sized(lambda shape: (*shape[:-1], 10**10)),
    "one axis more": _sized(lambda shape: (*shape, 10**6)),
}

SHARDS = Target("shards", prepare_shards, start_shards)
RECORDS = Target("tfrecords", prepare_records, start_records)
HDF5 = Target("hdf5", prepare_hdf5, start_hdf5, seconds=90)
