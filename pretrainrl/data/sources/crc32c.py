"""CRC-32C, the checksum of TFRecord files: zlib has another one, and a loop over bytes takes a second for 5 MB."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_LANE = 256  # bytes

_Registers = npt.NDArray[np.uint32]


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """Return the checksum of `data`, in 0..2**32 - 1.

    The register is linear in its bits and stays zero over leading zeros. So the data are cut into lanes, all of which
    go through the register at the same time, and the results are joined two by two: that of the left one goes on over
    as many zeros as the right one is long.
    """
    message = np.frombuffer(data, np.uint8)
    if len(message) < 4:  # too short for the inverted start
        return _bytewise(message)
    lanes = np.zeros((-(-len(message) // _LANE), _LANE), np.uint8)
    flat = lanes.reshape(-1)
    start = len(flat) - len(message)
    flat[start:] = message
    flat[start : start + 4] ^= 0xFF  # what the register starts with
    registers = np.zeros(len(lanes), np.uint32)
    for column in np.ascontiguousarray(lanes.T):
        registers = _step(registers, column)
    length = _LANE
    while len(registers) > 1:
        if len(registers) % 2:
            registers = np.concatenate([np.zeros(1, np.uint32), registers])
        registers = _multiply(_zeros(length), registers[0::2]) ^ registers[1::2]
        length *= 2
    return int(registers[0]) ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | bytearray | memoryview) -> int:
    """Return the checksum as TFRecord files store it: rotated by 15 bits and moved, as it is taken of other checksums."""
    checksum = crc32c(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _bytewise(message: npt.NDArray[np.uint8]) -> int:
    register = np.full(1, 0xFFFFFFFF, np.uint32)
    for byte in message:
        register = _step(register, np.array([byte], np.uint8))
    return int(register[0]) ^ 0xFFFFFFFF


def _step(registers: _Registers, column: npt.NDArray[np.uint8]) -> _Registers:
    """Take one byte into each register."""
    after: _Registers = _table()[(registers ^ column) & 0xFF] ^ (registers >> 8)
    return after


@cache
def _table() -> _Registers:
    """Registers `(256,)` after one byte."""
    registers = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        registers = (registers >> 1) ^ np.where(registers & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    return registers


@cache
def _zeros(length: int) -> _Registers:
    """What becomes of each of a register's 32 bits over `length` zero bytes, a power of two: `(32,)`."""
    if length == 1:
        return _step(np.uint32(1) << np.arange(32, dtype=np.uint32), np.zeros(32, np.uint8))
    half = _zeros(length // 2)
    return _multiply(half, half)


def _multiply(images: _Registers, registers: _Registers) -> _Registers:
    """Map registers `(N,)` by what becomes of each of their bits, `(32,)`."""
    bits = (registers[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    mapped: _Registers = np.bitwise_xor.reduce(bits * images, axis=1)
    return mapped
