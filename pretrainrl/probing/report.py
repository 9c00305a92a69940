"""Measurements as a file, and the names and rows under which they are shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pretrainrl.errors import InputError
from pretrainrl.paths import atomic_path
from pretrainrl.probing.measure import Probe

FILE = "probe.json"

# Name of the metric, of its chance level if it has one, and what it is called; the first three are of single games too.
ROWS = (
    ("ram_balanced_accuracy", "ram_chance", "RAM, balanced accuracy"),
    ("action_accuracy", "action_chance", "action, accuracy"),
    ("reward_balanced_accuracy", "reward_chance", "sign of the reward, balanced accuracy"),
    ("knn_game_accuracy", "knn_game_chance", "game by nearest neighbours, accuracy"),
    ("rankme", None, "RankMe, effective rank"),
    ("dormant_ratio", None, "dormant channels, share"),
    ("feature_spread", None, "spread over observations"),
)


def rows(metrics: Sequence[dict[str, float]]) -> Iterator[tuple[str, list[str], str]]:
    """Yield title, a value for each of `metrics`, and the chance level; rows that all of them lack are left out."""
    for name, chance, title in ROWS:
        if any(name in each for each in metrics):
            values = [_text(each.get(name), name == "rankme") for each in metrics]
            yield title, values, _text(next((each[chance] for each in metrics if chance in each), None))


def _text(value: float | None, long: bool = False) -> str:
    return "" if value is None else f"{value:.1f}" if long else f"{value:.3f}"


def write_probes(folder: Path, probes: Sequence[Probe], datasets: Sequence[str]) -> Path:
    """Write what was measured, without the views, to `probe.json` in `folder`; the first probe is what was asked for.

    Raises:
        InputError: when the folder cannot be written to.
    """
    table = {"datasets": list(datasets), "probes": [_plain(probe) for probe in probes]}
    with atomic_path(folder / FILE) as temporary:
        temporary.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return folder / FILE


def _plain(probe: Probe) -> dict[str, Any]:
    table = {key: value for key, value in vars(probe).items() if key not in ("views", "games")}
    return {**table, "games": [asdict(game) for game in probe.games]}


def read_metrics(path: Path) -> dict[str, dict[str, float]]:
    """Return the metrics of each encoder in a `probe.json`, by its name, in the file's order.

    Raises:
        InputError: when there is no such file, or it is another kind of file.
    """
    try:
        probes = json.loads(path.read_text(encoding="utf-8"))["probes"]
        return {str(probe["encoder"]): {str(key): float(value) for key, value in probe["metrics"].items()} for probe in probes}
    except OSError as error:
        raise InputError(
            f"no measurements at {path}: {error.strerror or error}; make them with pretrainrl probe --out"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} does not hold measurements of pretrainrl probe: {error!r}") from error
