"""The checksum, against published values and another implementation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c as slow_masked_crc32c

from pretrainrl.data.sources.crc32c import crc32c, masked_crc32c


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # this one and those below: RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_published_values(data: bytes, checksum: int) -> None:
    assert crc32c(data) == crc32c(memoryview(data)) == checksum


@given(st.binary(max_size=1000))
def test_any_data(data: bytes) -> None:
    assert masked_crc32c(data) == slow_masked_crc32c(data)


@pytest.mark.parametrize("length", [3, 4, 255, 256, 257, 511, 512, 513, 33_000])
def test_lengths_around_those_of_lanes(length: int) -> None:
    data = bytes(range(256)) * (length // 256 + 1)
    assert masked_crc32c(data[:length]) == slow_masked_crc32c(data[:length])
