"""NumPy arrays in files, gzip-compressed or plain, which are read from their start without holding more than was asked for."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from pretrainrl.errors import DatasetError

_GZIP, _NPY = b"\x1f\x8b", b"\x93NUMPY"
_BLOCK = 1 << 20  # bytes; gzip copies what it reads once more
_HEADERS = {  # and the number of bytes that say how long the header is
    (1, 0): (np.lib.format.read_array_header_1_0, 2),
    (2, 0): (np.lib.format.read_array_header_2_0, 4),
}
_LONGEST_HEADER = 10_000  # bytes, as in NumPy


class ArrayFile:
    """An array in NumPy's file format, gzip-compressed or not, whose rows are read one after the other.

    The file's first bytes, not its name, tell what it is. Shape, dtype and order are checked before anything is allocated, and
    pickled objects are never loaded. The checksum of gzip is checked where `read` or `verify` reaches the end; `numpy.load`
    does not check it.

    Args:
        path: File of the array.
        row_shape: Shape of one row; the file may have further axes of size 1.
        dtypes: NumPy types, abstract ones too, one of which must be the array's.

    Attributes:
        path: File of the array.
        row_shape: Shape of one row.
        rows: Number of rows, as the header says.
        dtype: Type of the array.
        position: Number of rows read so far.

    Raises:
        DatasetError: The file cannot be read or is of another kind.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...], dtypes: Sequence[type[np.generic]]) -> None:
        self.path, self.row_shape, self.position = path, row_shape, 0
        self._file, shape, self.dtype = open_array(path)
        self.rows = shape[0] if shape else 0
        expected = " or ".join(dtype.__name__ for dtype in dtypes)
        if not shape or tuple(size for size in shape[1:] if size != 1) != row_shape:
            self.close()
            raise DatasetError(f"{path} has shape {shape} instead of {('rows', *row_shape)}".replace("'", ""))
        if self.dtype.kind not in "biuf" or not any(np.issubdtype(self.dtype, dtype) for dtype in dtypes):
            self.close()
            raise DatasetError(f"{path} holds {self.dtype} instead of {expected}")

    def read(self, rows: int) -> npt.NDArray[Any]:
        """Read the next `rows` rows, `(rows, *row_shape)`.

        Raises:
            DatasetError: The file ends before or is damaged.
        """
        with self._naming_damage():
            out = np.empty((rows, *self.row_shape), self.dtype)
        self.read_into(out)
        return out

    def read_into(self, out: npt.NDArray[Any]) -> None:
        """Fill `out` with the next `len(out)` rows.

        Args:
            out: Array `(rows, *row_shape)`, contiguous, of the file's dtype.

        Raises:
            DatasetError: The file ends before or is damaged.
        """
        if not out.size:
            return
        target, done = out.reshape(-1).view(np.uint8).data, 0
        row_bytes = out.nbytes // len(out)
        with self._naming_damage():  # one read at a time: what came before the end of a truncated file counts
            while done < len(target):
                try:
                    count = self._file.readinto1(target[done : done + _BLOCK])  # type: ignore[attr-defined]
                except EOFError:
                    count = 0
                if not count:
                    raise DatasetError(
                        f"{self.path} is truncated: it ends after {self.position + done // row_bytes:,} complete rows of "
                        f"{self.rows:,}; download it again, or ask for fewer"
                    )
                done += count
            self.position += len(out)
            if self.position == self.rows:
                self._check_end()

    def verify(self) -> None:
        """Read on to the end, so that truncation and damage anywhere are noticed.

        Raises:
            DatasetError: There is any.
        """
        while self.position < self.rows:
            row_bytes = max(1, self.dtype.itemsize * int(np.prod(self.row_shape)))
            self.read(min(self.rows - self.position, max(1, _BLOCK // row_bytes)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _check_end(self) -> None:
        """Read past the last row, which makes gzip compare its checksum."""
        try:
            more = self._file.read(1)
        except EOFError:
            raise DatasetError(f"{self.path} is truncated: the end of the gzip stream is missing") from None
        if more:
            raise DatasetError(f"{self.path} is damaged: there is more in it than the {self.rows:,} rows of its header")

    @contextmanager
    def _naming_damage(self) -> Iterator[None]:
        with as_dataset_errors(self.path, f" near row {self.position:,}"):
            yield


def open_array(path: Path) -> tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]:
    """Open an array's file, gzip-compressed or plain, and read its header.

    Returns:
        The file at the first row, the shape and the dtype.

    Raises:
        DatasetError: The file cannot be read, holds no array, or holds one of Python objects or in Fortran order.
    """
    with as_dataset_errors(path), open_file(path) as raw:
        start = raw.read(32)
    if not start:
        raise DatasetError(f"{path} is empty; download it again")
    if not start.startswith((_GZIP, _NPY)):
        raise DatasetError(
            f"{path} is neither gzip nor a NumPy array; it begins with {start!r}: probably an error page "
            "that was saved under its name; download it again"
        )
    with as_dataset_errors(path):
        file = cast(IO[bytes], gzip.GzipFile(path, "rb") if start.startswith(_GZIP) else path.open("rb"))
        try:
            shape, fortran_order, dtype = _read_header(file)
        except (OSError, zlib.error):  # the file's, not the header's
            file.close()
            raise
        except Exception as error:  # of Python's parser, which is made for other texts
            file.close()
            raise DatasetError(f"{path} holds no NumPy array, or only a part of its header ({error})") from error
    if dtype.hasobject or fortran_order:
        file.close()
        what = "pickled Python objects, which are never loaded" if dtype.hasobject else "an array in Fortran order"
        raise DatasetError(f"{path} holds {what}; an array of numbers in C order is needed")
    return file, shape, dtype


def read_number(path: Path) -> int:
    """Read an array's file that holds one integer and nothing else.

    Raises:
        DatasetError: It holds something else.
    """
    file, shape, dtype = open_array(path)
    with file, as_dataset_errors(path):
        if math.prod(shape) != 1 or not np.issubdtype(dtype, np.integer):
            raise DatasetError(f"{path} holds {dtype} of shape {shape} instead of one integer")
        content, more = file.read(dtype.itemsize), file.read(1)  # past the end, which makes gzip compare its checksum
    if more:
        raise DatasetError(f"{path} is damaged: there is more in it than one integer")
    if len(content) < dtype.itemsize:
        raise DatasetError(f"{path} is truncated; download it again")
    return int(np.frombuffer(content, dtype)[0])


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format is unknown")
    read_header, size = _HEADERS[version]
    length = file.read(size)
    if (announced := int.from_bytes(length, "little")) > _LONGEST_HEADER:  # before that much is read
        raise ValueError(f"a header of {announced:,} bytes")
    shape, fortran_order, dtype = read_header(io.BytesIO(length + file.read(announced)))
    if any(type(each) is not int or each < 0 for each in shape):
        raise ValueError(f"a shape of {shape}")
    return shape, fortran_order, dtype


def open_file(path: Path) -> IO[bytes]:
    """Open a file for reading, but no pipe or device, which could keep the reader waiting forever."""
    if path.exists() and not path.is_file():
        raise OSError("it is a directory or a device, not a file")
    return path.open("rb")


@contextmanager
def as_dataset_errors(path: Path, where: str = "") -> Iterator[None]:
    """Turn the errors of reading a file into a `DatasetError` that names it.

    Otherwise a failure to read could be taken for a failure to write: both are `OSError`.

    Args:
        path: File that is read.
        where: Place in the file, for people, with a leading space.
    """
    try:
        yield
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{path} is damaged{where} ({error}); download it again") from error
    except EOFError as error:
        raise DatasetError(f"{path} is truncated{where}; download it again") from error
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error
    except MemoryError as error:
        raise DatasetError(f"{path} takes more memory than there is{where}") from error
