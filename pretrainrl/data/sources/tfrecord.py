"""TFRecord files of `tf.train.Example` messages, read without TensorFlow.

A record is its length (8 bytes), the length's checksum (4), its content, and the content's checksum (4). An example
is a map of names to lists, all of bytes, of float32 or of int64, in Protocol Buffers' encoding.
"""

from __future__ import annotations

import gzip
import itertools
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from pretrainrl.data.sources.array_file import as_dataset_errors, open_file
from pretrainrl.errors import DatasetError
from pretrainrl.optional import require

Feature = list[memoryview] | npt.NDArray[np.float32] | npt.NDArray[np.int64]

_GZIP = b"\x1f\x8b"
_LONGEST_RECORD = 256 << 20  # bytes: 27,000 frames, not compressed
_BLOCK = 1 << 20
_MOST_VALUES = 1 << 20  # of a list: an episode has 27,000 steps
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # Protocol Buffers' wire types


def read_records(path: Path) -> Iterator[bytes]:
    """Read the records of a file, gzip-compressed or not, one at a time.

    Raises:
        DatasetError: The file cannot be read, is no TFRecord file, is truncated, or a checksum is wrong.
        MissingExtraError: google-crc32c is not installed.
    """
    with _opened(path) as file:
        for number in itertools.count():
            length = _read_length(path, file, number)
            if length is None:
                return
            yield _read_content(path, file, number, length)


def check_start(path: Path) -> None:
    """Check that a file is one of records, as far as its first bytes tell.

    Raises:
        DatasetError: It is not.
        MissingExtraError: google-crc32c is not installed.
    """
    with _opened(path) as file:
        _read_length(path, file, 0)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with as_dataset_errors(path):
        raw = open_file(path)
    with raw:
        with as_dataset_errors(path):
            compressed = raw.read(2) == _GZIP
            raw.seek(0)
        yield cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if compressed else raw


def _read_length(path: Path, file: IO[bytes], number: int) -> int | None:
    """Return the length of the next record; None at the end of the file."""
    with as_dataset_errors(path, f" in record {number}"):
        header = file.read(12)
    if not header and number:
        return None
    if not header:
        raise DatasetError(f"{path} is empty; download it again")
    if len(header) == 12:
        length, checksum = struct.unpack("<QI", header)
        if _masked_crc32c(header[:8]) == checksum:
            return int(length)
    if not number:
        raise DatasetError(
            f"{path} is no TFRecord file; it begins with {header!r}: probably an error page that was saved under its name; "
            "download it again"
        )
    what = "truncated" if len(header) < 12 else "damaged"
    raise DatasetError(f"{path} is {what} in record {number}; download it again")


def _read_content(path: Path, file: IO[bytes], number: int, length: int) -> bytes:
    if length > _LONGEST_RECORD:
        raise DatasetError(f"{path} is damaged: record {number} says that it has {length:,} bytes, more than any episode")
    with as_dataset_errors(path, f" in record {number}"):
        content, checksum = _read(file, length), file.read(4)
    if len(content) < length or len(checksum) < 4:
        raise DatasetError(f"{path} is truncated in record {number}; download it again")
    if int.from_bytes(checksum, "little") != _masked_crc32c(content):
        raise DatasetError(f"{path} is damaged in record {number}: its checksum is another; download it again")
    return content


def _read(file: IO[bytes], length: int) -> bytes:
    """Read up to `length` bytes, a few at a time: a file that ends before takes no memory for what it lacks."""
    blocks = iter(lambda: file.read(min(_BLOCK, length)), b"")
    content = bytearray()
    for block in blocks:
        content += block
        length -= len(block)
    return bytes(content)


def _masked_crc32c(data: bytes) -> int:
    """Return the checksum as TFRecord files store it: rotated by 15 bits and moved, as it is taken of other checksums."""
    checksum = int(require("google_crc32c", "import").value(data))
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def parse_example(record: bytes) -> dict[str, Feature]:
    """Return the features of an encoded `tf.train.Example`.

    Bytes are views of `record`. A list without values may have lost its type: it becomes an empty list of bytes.

    Raises:
        ValueError: `record` is no such message.
    """
    features: dict[str, Feature] = {}
    try:
        for example in _messages(memoryview(record), 1):
            for entry in _messages(example, 1):
                parts = {number: memoryview(value) for number, _, value in _fields(entry)}
                features[bytes(parts.get(1, b"")).decode()] = _feature(parts.get(2, memoryview(b"")))
    except (IndexError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is no tf.train.Example ({error})") from error
    return features


def _feature(message: memoryview) -> Feature:
    """Return the values of a `Feature`: a message with one field, whose number tells the type of the list in it."""
    for number, _, values in _fields(message):
        fields = [(wire, value) for field, wire, value in _fields(memoryview(values)) if field == 1]
        if number == 1:
            return [memoryview(value) for _, value in fields]
        if number == 2:  # packed, or each by itself
            return np.frombuffer(b"".join(value for _, value in fields), "<f4").astype(np.float32, copy=False)
        if number == 3:
            integers = [
                integer for wire, value in fields for integer in ([value] if wire == _VARINT else _varints(memoryview(value)))
            ]
            return np.array(integers, np.uint64).astype(np.int64)
    return []


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, _, value in _fields(message):
        if number == wanted:
            yield memoryview(value)


def _fields(message: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Yield number, wire type and value of a message's fields: an integer, or a view of bytes."""
    position = 0
    for count in itertools.count():
        if position >= len(message):
            return
        if count > _MOST_VALUES:
            raise IndexError(f"more than {_MOST_VALUES:,} values")
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield number, wire, value
            continue
        if wire == _BYTES:
            length, position = _varint(message, position)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise IndexError(f"unknown wire type {wire}")
        if position + length > len(message):
            raise IndexError(f"a field of {length} bytes ends past the message")
        yield number, wire, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Read an integer, seven bits a byte; return it and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise IndexError("an integer of more than ten bytes")


def _varints(message: memoryview) -> Iterator[int]:
    if np.count_nonzero(np.frombuffer(message, np.uint8) < 0x80) > _MOST_VALUES:
        raise IndexError(f"more than {_MOST_VALUES:,} values")
    position = 0
    while position < len(message):
        value, position = _varint(message, position)
        yield value
