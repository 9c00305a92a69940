"""Copies of a folder in each of which one file is damaged, drawn from a seed."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

KINDS = ("flip", "flip", "flip", "overwrite", "truncate", "append", "delete")


def damaged_copies(folder: Path, copy: Path, count: int, *, seed: int = 0, only: str = "*") -> Iterator[str]:
    """Yield `count` times what is damaged in the folder `copy`, which is made anew each time.

    Args:
        folder: Folder that is copied.
        copy: Folder of the copy.
        count: Number of copies.
        seed: Seed of the damage.
        only: Pattern for the names of the files that are damaged.
    """
    rng = random.Random(seed)
    names = sorted(path.relative_to(folder) for path in folder.rglob(only) if path.is_file())
    for number in range(count):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        name, kind = names[number % len(names)], rng.choice(KINDS)
        yield f"number {number} of seed {seed}: {kind} in {name}{_damage(copy / name, kind, rng)}"


def _damage(path: Path, kind: str, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    place = rng.randrange(len(content))
    if kind == "delete":
        path.unlink()
        return ""
    if kind == "flip":
        content[place] ^= 1 << rng.randrange(8)
    elif kind == "overwrite":
        new = rng.randbytes(min(64, len(content) - place))
        content[place : place + len(new)] = bytes([content[place] ^ 255]) + new[1:]
    elif kind == "truncate":
        del content[place:]
    else:
        content += rng.randbytes(1 + rng.randrange(64))
    path.write_bytes(content)
    return f" at {place}"
