"""Checks of arguments that many commands take; each says what is wrong before any work is done."""

from __future__ import annotations

from pretrainrl.errors import InputError

MAX_SEED = 2**31 - 1  # what Python, NumPy, PyTorch, Stable-Baselines3 and the emulator all take
MAX_COUNT = 10**12
MAX_PROCESSES = 4096


def check_seed(seed: int) -> None:
    """Check that a seed is one that all generators take.

    Raises:
        InputError: It is negative, or greater than `MAX_SEED`.
    """
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed must be in 0..{MAX_SEED}, got {seed}")


def check_counts(most: int = MAX_COUNT, **counts: int | None) -> None:
    """Check numbers of steps, games and the like, None where one is not given.

    Raises:
        InputError: One is less than 1 or greater than `most`.
    """
    for name, count in counts.items():
        if count is not None and not 1 <= count <= most:
            raise InputError(f"{name} must be in 1..{most}, got {count}")
