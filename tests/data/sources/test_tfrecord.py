"""Records that others wrote come back; what is damaged does not."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
from episode_records import example, write_records
from hypothesis import given
from hypothesis import strategies as st

from pretrainrl.data.sources.tfrecord import _masked_crc32c, check_start, parse_example, read_records
from pretrainrl.errors import DatasetError, MissingExtraError

RECORDS = [b"first", b"", bytes(range(256)) * 50]


@pytest.mark.parametrize("compress", [True, False])
def test_records_come_back(tmp_path: Path, compress: bool) -> None:
    path = write_records(tmp_path / "records", RECORDS, compress)
    check_start(path)
    assert list(read_records(path)) == RECORDS


def test_one_at_a_time(tmp_path: Path) -> None:
    path = write_records(tmp_path / "records", RECORDS)
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))  # gzip's own checksum is at the end
    reading = read_records(path)
    assert [next(reading), next(reading), next(reading)] == RECORDS
    with pytest.raises(DatasetError, match="is damaged in record 3"):
        next(reading)


@pytest.mark.parametrize("compress", [True, False])
def test_truncated_anywhere(tmp_path: Path, compress: bool) -> None:
    content = write_records(tmp_path / "whole", RECORDS, compress=False).read_bytes()
    for stop in (0, 3, 11, 13, 18, 20, 21, 30, 40, len(content) - 1):
        path = tmp_path / "records"
        path.write_bytes(gzip.compress(content[:stop]) if compress else content[:stop])
        if stop == 21:  # between the first and the second
            assert list(read_records(path)) == RECORDS[:1]
            continue
        with pytest.raises(DatasetError, match=f"{path} is (truncated|empty|no TFRecord file).*download it again"):
            list(read_records(path))


def test_truncated_gzip(tmp_path: Path) -> None:
    path = write_records(tmp_path / "records", [np.random.default_rng(0).bytes(50_000)])
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(DatasetError, match="is truncated in record 0"):
        list(read_records(path))


@pytest.mark.parametrize(
    ("place", "message"), [(0, "no TFRecord file"), (14, "record 0: its checksum"), (22, "damaged in record 1")]
)
def test_flipped_bits(tmp_path: Path, place: int, message: str) -> None:
    content = bytearray(write_records(tmp_path / "whole", RECORDS, compress=False).read_bytes())
    content[place] ^= 1
    path = tmp_path / "records"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DatasetError, match=message):
        list(read_records(path))


@pytest.mark.parametrize(
    "content",
    [b"<html>403 Forbidden</html>", gzip.compress(b"<html>403 Forbidden</html>"), b"", b"\x1f\x8b"],
    ids=["page", "compressed page", "nothing", "cut"],
)
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "records"
    path.write_bytes(content)
    for read in (check_start, lambda path: list(read_records(path))):
        with pytest.raises(DatasetError, match=r"is no TFRecord file; it begins with b'<html|is empty|is truncated"):
            read(path)
    with pytest.raises(DatasetError, match="cannot read"):
        check_start(tmp_path / "nothing")


def test_a_missing_checksum_library_is_told_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_records(tmp_path / "records", RECORDS)
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    with pytest.raises(MissingExtraError, match=r'google_crc32c is not installed; run: pip install "pretrainrl\[import\]"'):
        check_start(path)


INT64 = st.integers(-(2**63), 2**63 - 1)
LISTS = st.one_of(
    st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    st.lists(INT64, min_size=1, max_size=20),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20),
)


@given(st.dictionaries(st.text(max_size=5), LISTS, max_size=4))
def test_features_come_back(features: dict[str, list[object]]) -> None:
    parsed = parse_example(example(features))
    assert list(parsed) == list(features)
    for name, values in features.items():
        got = parsed[name]
        assert [bytes(value) for value in got] == values if isinstance(got, list) else got.tolist() == values
        if isinstance(values[0], int):
            assert isinstance(got, np.ndarray) and got.dtype == np.int64


def test_values_that_are_not_packed_and_lists_without_values() -> None:
    """Proto2's way; every reader has to take it."""
    integers = b"\x1a\x04\x08\x05\x08\x07"  # field 3: a list whose field 1 is 5, then 7
    floats = b"\x12\x05\x0d\x00\x00\x80\x3f"  # field 2: a list whose field 1 is 1.0 by itself
    for feature, expected in ((integers, [5, 7]), (floats, [1.0]), (b"", []), (b"\x1a\x00", [])):
        entry = b"\x0a\x01a\x12" + bytes([len(feature)]) + feature
        features = b"\x0a" + bytes([len(entry)]) + entry
        assert list(parse_example(b"\x0a" + bytes([len(features)]) + features)["a"]) == expected


@given(st.binary(min_size=1, max_size=60))
def test_anything_else_is_a_value_error_or_nothing(record: bytes) -> None:
    try:
        parse_example(record)
    except ValueError as error:
        assert "tf.train.Example" in str(error)


@pytest.mark.parametrize("record", [b"\x0a\x7f", b"\xff" * 12, b"\x0b", b"\x0a\x02\x0a\x09", b"<html>"])
def test_no_example(record: bytes) -> None:
    with pytest.raises(ValueError, match=r"no tf\.train\.Example"):
        parse_example(record)


@pytest.mark.parametrize("count", [1 << 29, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_records_that_say_they_are_huge(tmp_path: Path, count: int) -> None:
    """The checksum is right; memory for so much is never asked for."""
    path = tmp_path / "records"
    path.write_bytes(length_of(count) + b"content")
    with pytest.raises(DatasetError, match=f"{path} is damaged: record 0 says that it has {count:,} bytes"):
        list(read_records(path))
    path.write_bytes(length_of(200 << 20) + b"content")
    with pytest.raises(DatasetError, match="is truncated in record 0"):
        list(read_records(path))


def length_of(count: int) -> bytes:
    header = count.to_bytes(8, "little")
    return header + _masked_crc32c(header).to_bytes(4, "little")


@pytest.mark.parametrize(
    "entry",
    [b"\x08" + b"\xff" * 7 + b"\x7f", b"\x0a\x01a\x10\xff\xff\xff\xff\x7f", b"\x0a\x01a\x12\x05\x1a\x03\x0a\x01\x80"],
    ids=["a name that is a number", "a value that is a number", "a number without an end"],
)
def test_examples_that_are_no_messages(entry: bytes) -> None:
    features = b"\x0a" + bytes([len(entry)]) + entry
    with pytest.raises(ValueError, match=r"no tf\.train\.Example"):
        parse_example(b"\x0a" + bytes([len(features)]) + features)


@pytest.mark.parametrize("kind", ["bytes", "integers"])
def test_lists_without_bounds(kind: str) -> None:
    """Two bytes of a record may become a hundred in memory."""
    many = (1 << 20) + 2
    values = field(1, b"\0" * many) if kind == "integers" else field(1, b"") * many
    feature = field(3 if kind == "integers" else 1, values)
    with pytest.raises(ValueError, match="more than 1,048,576 values"):
        parse_example(field(1, field(1, field(1, b"a") + field(2, feature))))


def field(number: int, content: bytes) -> bytes:
    """Encode a field of bytes, its length in five bytes."""
    size = bytes(len(content) >> shift & 0x7F | (0x80 if shift < 28 else 0) for shift in range(0, 35, 7))
    return bytes([number << 3 | 2]) + size + content
