"""Array files: read as far as asked for, and every kind of damage is told in one line."""

import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dqn_shards import npy

from pretrainrl.data.sources.array_file import ArrayFile, open_array, read_number
from pretrainrl.errors import DatasetError

FRAMES = np.random.default_rng(0).integers(256, size=(40, 84, 84), dtype=np.uint8)


def opened(path: Path) -> ArrayFile:
    return ArrayFile(path, (84, 84), (np.uint8,))


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture(params=["gzip", "plain"])
def compress(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    return gzip.compress if request.param == "gzip" else bytes


def header(text: str, length: int | None = None, version: int = 1) -> bytes:
    size = (len(text) if length is None else length).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode()


def described(descr: str, shape: str = "(3, 84, 84)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


@pytest.mark.parametrize(
    "content",
    [
        header(described("'|u1'", "(-3, 84, 84)")),
        header(described("'|u1'", "(True, 84, 84)")),
        header(described("'|u1'", f"({'9' * 5000}, 84, 84)")),
        header("(" * 9000),
        header("[" * 9000),
        header("'" * 3),
        header("  x\n y\n"),
        header("{}", length=60_000) + bytes(60_000),
        header("{}", length=(1 << 32) - 1, version=2) + bytes(60_000),
        header(described("['a']")),
        header(described("'<m8[s]'")),
        header(described("('|u1', (9999999999,))")),
        header(described("'|u1'"), version=3),
    ],
)
def test_crafted_headers(tmp_path: Path, compress: Callable[[bytes], bytes], content: bytes) -> None:
    with pytest.raises(DatasetError, match=str(tmp_path / "a")):
        ArrayFile(written(tmp_path / "a", compress(content)), (84, 84), (np.uint8, np.integer))


def test_more_rows_than_memory(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    content = header(described("'|u1'", f"({10**15}, 84, 84)")) + bytes(7056)
    file = opened(written(tmp_path / "a", compress(content)))
    with pytest.raises(DatasetError, match="takes more memory than there is"):
        file.read(10**15)
    with pytest.raises(DatasetError, match="truncated"):
        file.verify()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(DatasetError, match=r"cannot read .*a directory or a device"):
        opened(tmp_path / "a")


@pytest.mark.parametrize("shape", [(40, 84, 84), (40, 84, 84, 1), (40, 1, 84, 84)])
def test_rows_in_order(tmp_path: Path, compress: Callable[[bytes], bytes], shape: tuple[int, ...]) -> None:
    """The name tells nothing: people unpack files and keep their names, or the other way round."""
    file = opened(written(tmp_path / "observation.gz", compress(npy(FRAMES.reshape(shape)))))
    assert (file.rows, file.dtype) == (40, np.uint8)
    parts = [file.read(3), file.read(0), file.read(30)]
    out = np.empty((9, 84, 84), np.uint8)
    file.read_into(out[:7])
    assert np.array_equal(np.concatenate([*parts, out[:7]]), FRAMES)
    assert file.position == 40
    file.verify()


@pytest.mark.parametrize("format_version", [(1, 0), (2, 0)])
def test_versions_of_the_format(tmp_path: Path, format_version: tuple[int, int]) -> None:
    with (tmp_path / "a").open("wb") as file:
        np.lib.format.write_array(file, FRAMES, version=format_version)
    assert np.array_equal(opened(tmp_path / "a").read(40), FRAMES)


def test_it_stops_where_it_is_told(tmp_path: Path) -> None:
    """A truncated file is good for what comes before the end; how much that is, the error says."""
    content = gzip.compress(npy(FRAMES))
    path = written(tmp_path / "observation.gz", content[: len(content) // 2])
    assert np.array_equal(opened(path).read(15), FRAMES[:15])
    with pytest.raises(DatasetError, match=r"is truncated: it ends after ([0-9]+) complete rows of 40") as error:
        opened(path).read(40)
    [rows] = [int(word) for word in str(error.value).split("after ")[1].split()[:1]]
    assert 15 <= rows <= 21
    file = opened(path)
    assert np.array_equal(np.concatenate([file.read(10), file.read(rows - 10)]), FRAMES[:rows])
    with pytest.raises(DatasetError, match=f"after {rows} complete rows"):
        file.read(1)
    with pytest.raises(DatasetError, match="truncated"):
        opened(path).verify()


def test_truncated_plain_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.npy", npy(FRAMES)[: -7056 * 3 - 1])
    assert len(opened(path).read(36)) == 36
    with pytest.raises(DatasetError, match="after 36 complete rows of 40"):
        opened(path).read(38)


@pytest.mark.parametrize("cut", [4, 8])
def test_only_the_end_of_the_stream_is_missing(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path / "a.gz", gzip.compress(npy(FRAMES))[:-cut])
    assert len(opened(path).read(39)) == 39
    with pytest.raises(DatasetError, match="end of the gzip stream is missing"):
        opened(path).read(40)


def test_bad_checksum_is_noticed_at_the_end(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(npy(FRAMES)))
    content[-8] ^= 1
    path = written(tmp_path / "a.gz", bytes(content))
    assert np.array_equal(np.load(gzip.GzipFile(path)), FRAMES)  # NumPy does not notice
    assert len(opened(path).read(39)) == 39  # nothing can be known yet
    for read in (lambda file: file.read(40), lambda file: file.verify()):
        with pytest.raises(DatasetError, match=r"is damaged.*CRC check failed.*download it again"):
            read(opened(path))


def test_flipped_byte_is_found_by_verify(tmp_path: Path) -> None:
    stored = zlib.compressobj(0, wbits=31)  # not compressed, so that only the checksum can tell
    content = bytearray(stored.compress(npy(FRAMES)) + stored.flush())
    content[len(content) // 2] ^= 1
    file = opened(written(tmp_path / "a.gz", bytes(content)))
    file.read(10)
    with pytest.raises(DatasetError, match="CRC"):
        file.verify()


def test_broken_stream(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(npy(FRAMES)))
    content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    with pytest.raises(DatasetError, match="is damaged near row"):
        opened(written(tmp_path / "a.gz", bytes(content))).read(40)


def test_more_than_the_header_says(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    with pytest.raises(DatasetError, match="more in it than the 40 rows"):
        opened(written(tmp_path / "a", compress(npy(FRAMES) + b"x"))).verify()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.gz is empty"),
        (b"<!DOCTYPE html><title>403 Forbidden</title>", "begins with b'<!DOCTYPE html.*probably an error page"),
        (gzip.compress(b"<html>"), "holds no NumPy array"),
        (gzip.compress(npy(FRAMES)[:50]), "only a part of its header"),
        (gzip.compress(npy(FRAMES))[:12], "only a part of its header"),
        (gzip.compress(b"\x93NUMPY\x09\x00" + npy(FRAMES)[8:]), "holds no NumPy array"),
        (gzip.compress(npy(FRAMES[:, :, :80])), r"has shape \(40, 84, 80\) instead of \(rows, 84, 84\)"),
        (gzip.compress(npy(FRAMES.reshape(10, 4, 84, 84))), r"has shape \(10, 4, 84, 84\) instead of"),
        (npy(np.array(3)), r"has shape \(\) instead of"),
        (npy(FRAMES.astype(np.float32)), "holds float32 instead of uint8"),
        (npy(FRAMES.astype(np.int8)), "holds int8 instead of uint8"),
        (npy(np.asfortranarray(FRAMES)), "array in Fortran order"),
    ],
    ids=range(12),  # compressed bytes hold the time, and would name the tests anew each time
)
def test_other_content(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as error:
        opened(written(tmp_path / "a.gz", content))
    assert "\n" not in str(error.value) and str(tmp_path / "a.gz") in str(error.value)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    class Touches:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (mark,)

    np.save(tmp_path / "a.npy", np.array([Touches()], object), allow_pickle=True)
    for path in (tmp_path / "a.npy", written(tmp_path / "a.gz", gzip.compress((tmp_path / "a.npy").read_bytes()))):
        with pytest.raises(DatasetError, match="pickled Python objects, which are never loaded"):
            opened(path)
    assert not mark.exists()


def test_header_is_checked_before_anything_is_allocated(tmp_path: Path) -> None:
    """A header that promises more than there is memory for: what is read is what is asked for."""
    with (tmp_path / "a").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (40_000_000_000, 84, 84)})
        file.write(FRAMES.tobytes())
    assert np.array_equal(opened(tmp_path / "a").read(40), FRAMES)


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot read .*nowhere: No such file"):
        open_array(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"cannot read .*directory"):
        open_array(tmp_path)


def test_numbers(tmp_path: Path) -> None:
    assert read_number(written(tmp_path / "a", npy(np.array(999_999)))) == 999_999
    assert read_number(written(tmp_path / "a", gzip.compress(npy(np.array([7], np.uint32))))) == 7
    for wrong in (np.array([1, 2]), np.array(1.5)):
        with pytest.raises(DatasetError, match="instead of one integer"):
            read_number(written(tmp_path / "a", npy(wrong)))
    with pytest.raises(DatasetError, match="truncated"):
        read_number(written(tmp_path / "a", npy(np.array(5))[:-1]))


def test_a_number_is_compared_with_its_checksum(tmp_path: Path) -> None:
    content = gzip.compress(npy(np.array(7)))
    assert read_number(written(tmp_path / "count", content)) == 7
    for changed in (content[:-8] + bytes(4) + content[-4:], content[:-4], gzip.compress(npy(np.array(7)) + b"more")):
        with pytest.raises(DatasetError, match=r"is (damaged|truncated)"):
            read_number(written(tmp_path / "count", changed))
