"""The files of a probe: `probe.json`, the page, and the metrics of a card."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrainrl.cards import EncoderCard, find_card
from pretrainrl.data.episode import FRAME_SHAPE
from pretrainrl.errors import InputError
from pretrainrl.paths import atomic_path, registry_folder
from pretrainrl.probing.measure import Probe
from pretrainrl.reports.charts import Chart, Line, line_chart
from pretrainrl.reports.pages import data_uri, write_html
from pretrainrl.runs.checkpoints import checked_json, parse_checked

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
    """Yield the title, the values in `metrics` and the chance level of each row; rows without values are left out."""
    for name, chance, title in ROWS:
        if any(name in each for each in metrics):
            values = [_text(each.get(name), name == "rankme") for each in metrics]
            yield title, values, _text(next((each[chance] for each in metrics if chance in each), None))


def _text(value: float | None, long: bool = False) -> str:
    return "" if value is None else f"{value:.1f}" if long else f"{value:.3f}"


def write_probes(folder: Path, probes: Sequence[Probe], datasets: Sequence[str]) -> Path:
    """Write the measurements without the views to `probe.json` in `folder`.

    Args:
        folder: Folder to write into.
        probes: Measurements of the encoder in question, followed by those of the baselines.
        datasets: Minari ids of the datasets.

    Raises:
        InputError: When the folder cannot be written to.
    """
    table = {"datasets": list(datasets), "probes": [_plain(probe) for probe in probes]}
    with atomic_path(folder / FILE) as temporary:
        temporary.write_text(checked_json(table), encoding="utf-8")
    return folder / FILE


def _plain(probe: Probe) -> dict[str, Any]:
    table = {key: value for key, value in vars(probe).items() if key not in ("views", "games")}
    return {**table, "games": [asdict(game) for game in probe.games]}


def read_metrics(path: Path) -> dict[str, dict[str, float]]:
    """Return the metrics in a `probe.json` by the name of their encoder, in the file's order.

    Raises:
        InputError: When there is no such file, or it is a file of another kind.
    """
    try:
        probes = parse_checked(path.read_text(encoding="utf-8"))["probes"]
        return {str(probe["encoder"]): {str(key): float(value) for key, value in probe["metrics"].items()} for probe in probes}
    except OSError as error:
        raise InputError(
            f"no measurements at {path}: {error.strerror or error}; make them with pretrainrl probe --out"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} does not hold measurements of pretrainrl probe: {error!r}") from error


BASELINE = "random"  # prefix of the baseline's metrics in a card


def record(folder: Path, registry: Path) -> EncoderCard:
    """Write the numbers of `pretrainrl probe NAME --out folder` into the card of NAME in the folder `registry`.

    The numbers of the baseline are written beside them, with the prefix `random_`. Other metrics of the card stay.

    Raises:
        InputError: When the folder holds no measurements, or `registry` has no card of their encoder.
    """
    name, *baselines = measured = read_metrics(folder / FILE)
    path = registry / "encoders" / f"{name}.toml"
    if not path.is_file():
        raise InputError(f"{name} has no card in {registry / 'encoders'}")
    if any(find_card(baseline).objective != "random" for baseline in baselines):
        raise InputError(f"cards compare with an untrained encoder, not with {baselines[0]}; probe with --baseline random")
    mine = {key: _round(value) for key, value in measured[name].items()}
    theirs = {f"{BASELINE}_{key}": _round(value) for each in baselines for key, value in measured[each].items()}
    card = EncoderCard.read(path)
    card = card.model_copy(
        update={"metrics": {**card.metrics, **mine, **theirs}, "summary": _summary(card.summary, mine, theirs)}
    )
    card.write(path)
    return card


def _summary(summary: str, mine: dict[str, float], theirs: dict[str, float]) -> str:
    """Return a summary that compares the encoder with an untrained one."""
    key = "ram_balanced_accuracy"
    if key not in mine or f"{BASELINE}_{key}" not in theirs:
        return summary
    own, untrained = mine[key], theirs[f"{BASELINE}_{key}"]
    more = "more" if own > untrained else "no more"
    what = summary.split(";")[0]
    return f"{what}; tells a linear probe {more} of the game's state than `random` ({own:.2f} to {untrained:.2f})"


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def main() -> None:
    """Record the measurements in the folders named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="+", help="of pretrainrl probe --out")
    for folder in parser.parse_args().folder:
        print(record(folder, registry_folder()).name)


if __name__ == "__main__":
    main()


DECADES = 5  # of the spectrum's drawing
SIDE = 320  # of the drawing of points
POINTS = 600  # of each drawing
STYLES = ("first", "second")
GLOW = (1.0, 0.62, 0.1)  # color of energy, on the grey frame


def write_page(out: Path, probes: Sequence[Probe], pictures: Tensor | None, note: str) -> Path:
    """Write `out/index.html`.

    Args:
        out: folder.
        probes: one or two, on the same observations; the first is what the page is about.
        pictures: (n, 3, 84, 84) floats in [0, 1], reconstructions, if there are any.
        note: says why there are none.

    Raises:
        MissingExtraError: when the extra `plot` is not installed.
        InputError: when the folder cannot be written to.
    """
    return write_html(out / "index.html", "probe.html", _context(probes, pictures, note))


def _context(probes: Sequence[Probe], pictures: Tensor | None, note: str) -> dict[str, Any]:
    """Everything that the template shows."""
    first = probes[0]
    styled = list(zip(probes, STYLES[: len(probes)], strict=True))
    return {
        "styled": styled,
        "rows": list(rows([probe.metrics for probe in probes])),
        "games": first.games,
        "memory": [
            (game, _memory([probe.games[number].ram for probe in probes]))
            for number, game in enumerate(first.games)
            if game.ram
        ],
        "spectrum": _spectrum(styled),
        "side": SIDE,
        "clouds": [(probe, style, _points(probe)) for probe, style in styled],
        "energy": _energy(probes),
        "pictures": [] if pictures is None else [list(map(data_uri, row.mul(255).byte().unsqueeze(1))) for row in pictures],
        "note": note,
    }


def _memory(measured: Sequence[Sequence[tuple[int, float, float]]]) -> list[dict[str, Any]]:
    """A column for each byte probed: where its chance level and each probe's accuracy lie, in per cent of the height."""
    return [
        {"byte": columns[0][0], "chance": 100 * columns[0][2], "accuracies": [100 * accuracy for _, accuracy, _ in columns]}
        for columns in zip(*measured, strict=True)
    ]


def _spectrum(styled: Sequence[tuple[Probe, str]]) -> Chart:
    """Lay out the singular values over the greatest, both axes logarithmic."""
    lines = []
    for probe, style in reversed(styled):
        values = probe.views.singular_values
        relative = (values / values[0].clamp(min=1e-300)).clamp(min=10.0**-DECADES).log10().tolist()
        lines.append(Line("", style, [(math.log10(rank), value) for rank, value in enumerate(relative, 1)]))
    ranks = [(math.log10(rank), f"{rank}") for rank in (1, 10, 100, 1000) if rank <= max(len(line.points) for line in lines)]
    lowest = min(value for line in lines for _, value in line.points)
    decades = [(-decade, f"{10.0**-decade:g}") for decade in range(math.floor(-lowest) + 1)]
    return line_chart(lines, "number of the singular value", "", x_marks=ranks, y_marks=decades)


def _points(probe: Probe) -> list[tuple[float, float, int]]:
    """Places (x, y) in pixels and games of some observations."""
    every = -(-len(probe.views.points) // POINTS)
    points, games = probe.views.points[::every], probe.views.point_games[::every]
    # The few observations from an episode's start, with frames of zeros in them, lie far away; they go to the rim.
    low, high = points.quantile(0.02, 0), points.quantile(0.98, 0)
    scale = 0.8 * SIDE / (high - low).max().clamp(min=1e-12)
    places = ((points - (low + high) / 2) * scale + SIDE / 2).clamp(4, SIDE - 4)
    return [(round(x, 1), round(SIDE - y, 1), game) for (x, y), game in zip(places.tolist(), games.tolist(), strict=True)]


def _energy(probes: Sequence[Probe]) -> list[dict[str, Any]]:
    """For each frame shown: its game, the frame, and the frame with each probe's energy."""
    first = probes[0]
    each = len(first.views.frames) // len(first.games)
    glowing = [_glow(probe.views.frames, probe.views.energy) for probe in probes]
    return [
        {
            "game": first.games[number // each].game,
            "images": [data_uri(frame[None]), *(data_uri(images[number]) for images in glowing)],
        }
        for number, frame in enumerate(first.views.frames)
    ]


def _glow(frames: Tensor, energy: Tensor) -> Tensor:
    """Color (n, 84, 84) grey frames by (n, H, W) energy, from its lowest to its greatest value: (n, 3, 84, 84) uint8."""
    low, high = energy.amin((1, 2), keepdim=True), energy.amax((1, 2), keepdim=True)
    level = (energy - low) / (high - low).clamp(min=1e-12)
    level = F.interpolate(level[:, None], FRAME_SHAPE, mode="bilinear", align_corners=False)
    grey, color = frames[:, None] / 255 * 0.6, torch.tensor(GLOW)[:, None, None]
    return ((grey + (1 - grey) * level * color * 0.9).clamp(0, 1) * 255).byte()
