"""A page about one encoder's features, beside a baseline's: one file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrainrl.data.episode import FRAME_SHAPE
from pretrainrl.pages import data_uri, write_html
from pretrainrl.probing.measure import Probe
from pretrainrl.probing.report import rows

WIDTH, HEIGHT = 640, 260  # of the spectrum's drawing, in pixels
DECADES = 5  # that it shows
SIDE = 320  # of the drawing of points
POINTS = 600  # of each drawing
STYLES = ("first", "second")
GLOW = (1.0, 0.62, 0.1)  # colour of energy, on the grey frame


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
    return write_html(out / "index.html", Path(__file__).with_name("template.html"), _context(probes, pictures, note))


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
        "width": WIDTH,
        "height": HEIGHT,
        "decades": range(DECADES + 1),
        "spectra": [(style, _spectrum_line(probe.views.singular_values)) for probe, style in styled],
        "ranks": [(x, rank) for rank in (1, 10, 100, 1000) if (x := _rank_x(rank)) <= WIDTH],
        "side": SIDE,
        "clouds": [(probe, style, _points(probe)) for probe, style in styled],
        "energy": _energy(probes),
        "pictures": [] if pictures is None else [list(map(data_uri, row.mul(255).byte().unsqueeze(1))) for row in pictures],
        "note": note,
        "version": version("pretrainrl"),
    }


def _memory(measured: Sequence[Sequence[tuple[int, float, float]]]) -> list[dict[str, Any]]:
    """A column for each byte probed: where its chance level and each probe's accuracy lie, in per cent of the height."""
    return [
        {"byte": columns[0][0], "chance": 100 * columns[0][2], "accuracies": [100 * accuracy for _, accuracy, _ in columns]}
        for columns in zip(*measured, strict=True)
    ]


def _rank_x(rank: int) -> float:
    return round(WIDTH * math.log10(rank) / math.log10(1024), 1)


def _spectrum_line(singular_values: Tensor) -> str:
    """SVG points of the values over the greatest, both axes logarithmic."""
    relative = (singular_values / singular_values[0].clamp(min=1e-300)).clamp(min=10.0**-DECADES).tolist()
    return " ".join(f"{_rank_x(rank)},{-HEIGHT * math.log10(value) / DECADES:.1f}" for rank, value in enumerate(relative, 1))


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
    """Colour (n, 84, 84) grey frames by (n, H, W) energy, from its lowest to its greatest value: (n, 3, 84, 84) uint8."""
    low, high = energy.amin((1, 2), keepdim=True), energy.amax((1, 2), keepdim=True)
    level = (energy - low) / (high - low).clamp(min=1e-12)
    level = F.interpolate(level[:, None], FRAME_SHAPE, mode="bilinear", align_corners=False)
    grey, colour = frames[:, None] / 255 * 0.6, torch.tensor(GLOW)[:, None, None]
    return ((grey + (1 - grey) * level * colour * 0.9).clamp(0, 1) * 255).byte()
