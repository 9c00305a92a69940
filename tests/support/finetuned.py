"""What fine-tuned agents leave in their folders, read back to be compared."""

import csv
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch


def learnt(folder: Path, file: str = "ALE-Pong-v5.zip") -> dict[str, Any]:
    """Parameters and optimizer of a saved agent."""
    found = {}
    with zipfile.ZipFile(folder / file) as archive:
        for name in ("policy.pth", "policy.optimizer.pth"):
            with archive.open(name) as part:
                found[name] = torch.load(part, weights_only=True)
    return found


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def evaluations(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "evaluations.npz") as saved:
        return dict(saved)


def games(folder: Path) -> list[tuple[str, str]]:
    """Score and length of each."""
    lines = (folder / "0.monitor.csv").read_text().splitlines()
    return [(row["r"], row["l"]) for row in csv.DictReader(lines[1:])]
