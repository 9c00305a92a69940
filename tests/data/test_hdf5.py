"""HDF5 files that refer to others, promise too much or are damaged: refused in bounded time, with a typed error."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pretrainrl.data import hdf5
from pretrainrl.data.hdf5 import DamagedFileError, check_hdf5
from pretrainrl.errors import DatasetError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def frames(file: h5py.File, rows: int = 70) -> None:
    file.create_dataset("frames", data=np.zeros((rows, 84, 84), np.uint8), chunks=(min(64, rows), 84, 84), compression="gzip")
    file.attrs["text"] = "text"


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "u1")
    layout[:] = h5py.VirtualSource("other.hdf5", "data", (3,))
    file.create_virtual_dataset("data", layout)


def circle(file: h5py.File) -> None:
    group = file.create_group("infos")
    group["infos"] = group


def twice(file: h5py.File) -> None:
    file["again"] = file.create_dataset("data", data=np.zeros(3))


def external(file: h5py.File) -> None:
    file.create_dataset("data", (3,), "u1", external=[("/etc/hostname", 0, 3)])


def inflated(file: h5py.File) -> None:
    data = file.create_dataset("data", (1, 84, 84), "u1", chunks=(1, 84, 84), compression="gzip")
    packed = zlib.compressobj(9)
    block = bytes(1 << 26)
    content = b"".join(packed.compress(block) for _ in range(80)) + packed.flush()  # 5 GiB
    data.id.write_direct_chunk((0, 0, 0), content)


def empty_attribute(file: h5py.File) -> None:
    file.create_group("episode_0").attrs["seed"] = h5py.Empty("f")


BAD: list[tuple[Callable[[h5py.File], Any], str]] = [
    (virtual, "takes its values from another file"),
    (external, "takes its values from another file"),
    (lambda file: file.__setitem__("data", h5py.ExternalLink("other.hdf5", "/data")), "is a link"),
    (lambda file: file.__setitem__("data", h5py.SoftLink("/other")), "is a link"),
    (circle, "linked twice"),
    (twice, "linked twice"),
    (lambda file: file.create_dataset("data", data=h5py.Empty("f")), "is empty"),
    (empty_attribute, "attribute seed of /episode_0 is empty"),
    (lambda file: file.create_dataset("data", (3,), h5py.ref_dtype), "holds object"),
    (lambda file: file.create_dataset("data", data=np.zeros(3, [("a", "f4")])), "numbers, texts and bytes"),
    (lambda file: file.create_dataset("data", (10**9, 84, 84), "u1", chunks=(64, 84, 84)), "bytes large"),
    (lambda file: file.create_dataset("data", (10**13,), "u1"), "bytes large"),
    (lambda file: file.create_dataset("data", (9, 9), "i4", chunks=(3, 3), scaleoffset=4), "HDF5's filter 6"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_what_is_never_read(tmp_path: Path, make: Callable[[h5py.File], Any], message: str) -> None:
    path = tmp_path / "data.hdf5"
    with h5py.File(path, "w") as file:
        frames(file)
        make(file)
    with pytest.raises(DatasetError, match=message) as error:
        check_hdf5(path)
    assert str(path) in str(error.value)
    assert not isinstance(error.value, DamagedFileError)


@pytest.mark.heavy  # five gigabytes are compressed
def test_what_unpacks_to_more_than_it_says(tmp_path: Path) -> None:
    path = tmp_path / "data.hdf5"
    with h5py.File(path, "w") as file:
        inflated(file)
    with pytest.raises(DatasetError, match="filter returned failure"):
        check_hdf5(path)


def test_a_good_file_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.hdf5"
    with h5py.File(path, "w") as file:
        frames(file)
        file.create_dataset("jpeg", (2,), h5py.vlen_dtype(np.uint8))
        file.create_dataset("text", data=["a", "b"])
        file.create_dataset("shuffled", data=np.arange(9), chunks=(3,), shuffle=True, fletcher32=True, compression="lzf")
    check_hdf5(path)
    monkeypatch.setattr(hdf5, "_SECONDS", -100)
    check_hdf5(path)
    with h5py.File(path, "a") as file:
        file["more"] = 1
    with pytest.raises(DatasetError, match="did not come to an end"):
        check_hdf5(path)


def test_a_file_that_is_locked_or_cut(tmp_path: Path) -> None:
    path = tmp_path / "data.hdf5"
    with h5py.File(path, "w") as file:
        frames(file)
        file.flush()
        with pytest.raises(DatasetError, match="perhaps another program is writing it") as error:
            check_hdf5(path)
        assert not isinstance(error.value, DamagedFileError)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DamagedFileError, match="truncated"):
        check_hdf5(path)
    path.unlink()
    with pytest.raises(DamagedFileError, match="missing"):
        check_hdf5(path)


def test_changed_bytes_never_end_the_process(tmp_path: Path) -> None:
    """What the other process could read is read here, all of it."""
    path, rng = tmp_path / "data.hdf5", np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        frames(file, 3)
        file.create_dataset("actions", data=np.arange(50), chunks=(10,), compression="gzip")
    content = path.read_bytes()
    for _ in range(12):
        changed = bytearray(content)
        for place in rng.integers(len(content), size=3):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        try:
            check_hdf5(path)
        except DatasetError as error:
            assert json.dumps(str(error))
            continue
        with h5py.File(path) as file:
            assert all(isinstance(file[name][()], np.ndarray) for name in file)
