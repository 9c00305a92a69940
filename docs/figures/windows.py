"""The pictures of the pages on objectives: each draws the window that an objective reads. `make figures` writes them.

Running the objective shows what it reads (`reading.py`); the frames are of one game of Breakout, played at random. Text has
the color of the page that includes the picture, so it is legible on light and dark.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from reading import Read, Role, reading, shipped

from pretrainrl.cards import OBJECTIVES
from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.episode import Episode
from pretrainrl.data.windows import WindowSpec
from pretrainrl.networks.masked_autoencoder import mask_from_scores, show_visible
from pretrainrl.objectives import Objective
from pretrainrl.objectives.masked import MaskedObjective
from pretrainrl.registry import import_target

OUT = Path(__file__).resolve().parent.parent / "objectives" / "figures"
ACTIONS = ("noop", "fire", "right", "left")  # Breakout's
FRAME, PITCH, LEFT, ROW = 64, 68, 72, 22  # in units of the picture

COLORS: dict[Role, str] = {"trained": "#4f5fc4", "copy": "#b36b00", "loss": "#6b7280"}
LEGEND: dict[Role, str] = {
    "trained": "read by the trained network",
    "copy": "read by its momentum copy, no gradient",
    "loss": "read by the loss alone",
}


def moment(offset: int) -> str:
    """Name the observation so many steps after t."""
    return f"o_t+{offset}" if offset else "o_t"


def scene(reach: int = 8) -> tuple[Episode, int]:
    """A game, and a time t from which on a brick is hit two steps later."""
    for episode in collect_episodes("breakout", 600, n_envs=1, seed=0):
        for t in np.flatnonzero(episode.rewards > 0) - 2:
            if 4 <= t < len(episode.actions) - reach:
                return episode, int(t)
    raise SystemExit("no brick was hit; try another seed")


def text(x: float, y: float, words: str, *, anchor: str = "middle", color: str = "currentColor", size: int = 12) -> str:
    """Words at a place."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{color}" font-size="{size}">{escape(words)}</text>'


def box(x: float, y: float, width: float, color: str, words: str) -> str:
    """Words on a bar."""
    shape = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="18" rx="3" fill="{color}"/>'
    return shape + text(x + width / 2, y + 13, words, color="#fff")


def image(x: float, y: float, pixels: npt.NDArray[np.uint8]) -> str:
    """Embed a grey picture (84, 84)."""
    data = base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()
    place = f'x="{x:g}" y="{y:g}" width="{FRAME}" height="{FRAME}"'
    frame = f'<rect {place} fill="none" stroke="currentColor" stroke-opacity="0.4"/>'
    return f'<image {place} href="data:image/png;base64,{data}"/>{frame}'


def cell(read: Read, spec: WindowSpec, episode: Episode, step: int) -> str:
    """What the episode has at `step`."""
    if read.name == "actions":
        return ACTIONS[episode.actions[step]]
    if read.name == "terminations":
        return "over" if episode.terminations[step] else "goes on"
    rewards = np.sign(episode.rewards[step:])
    if read.name == "rewards":
        return f"{rewards[0]:+.0f}" if rewards[0] else "0"
    assert spec.returns is not None
    rewards = rewards[: spec.returns.steps]
    return f"{(rewards * spec.returns.discount ** np.arange(len(rewards))).sum():g}"


def mask_pictures(objective: type[Any], frame: npt.NDArray[np.uint8], x: float, y: float) -> list[str]:
    """What a masked objective is shown of the frame that it paints, and that frame."""
    tokens = 36  # of `impala`, halved, and of `resnet50`
    keep = int(tokens * (1 - objective.mask_ratio))
    mask = mask_from_scores(torch.rand(1, tokens, generator=torch.Generator().manual_seed(3)), keep)
    shown = show_visible(torch.from_numpy(frame.copy()).float()[None, None], mask, grey=128)[0, 0].numpy().astype(np.uint8)
    parts = []
    for place, (pixels, *words) in enumerate(((shown, "seen:", f"{keep} of {tokens}"), (frame, "painted:", "all of it"))):
        left = x + place * (PITCH + 8)
        parts.append(image(left, y, pixels))
        parts += [text(left + FRAME / 2, y + FRAME + 16 * line, word) for line, word in enumerate(words, 1)]
    return parts


def rows(steps: Sequence[Read], spec: WindowSpec, episode: Episode, t: int, y: float) -> list[str]:
    """The cells under the frames; each step lies between the frame before it and the frame after it."""
    parts = []
    for read in steps:
        parts.append(text(LEFT - 8, y + 13, read.name.replace("terminations", "end?"), anchor="end"))
        for step in range(1 if read.first else spec.steps):
            x = LEFT + (spec.stack + step) * PITCH - PITCH / 2
            parts.append(box(x, y, PITCH - 8, COLORS[read.role], cell(read, spec, episode, t + step)))
        y += ROW
    return parts


def legend(roles: Sequence[Role], y: float) -> list[str]:
    """Say what the colors mean."""
    parts, x = [], 4.0
    for role in roles:
        parts.append(f'<rect x="{x:g}" y="{y + 3:g}" width="12" height="12" rx="3" fill="{COLORS[role]}"/>')
        parts.append(text(x + 18, y + 13, LEGEND[role], anchor="start"))
        x += 44 + 6.2 * len(LEGEND[role])
    return parts


def draw(name: str, episode: Episode, t: int) -> str:
    """The window of an objective at time t of an episode, as SVG."""
    objective: type[Objective] = import_target(OBJECTIVES.get(name).target)
    spec, (bars, steps, _) = objective.window, reading(name)
    times = range(1 - spec.stack, spec.future + 1)
    parts = []
    for row, bar in enumerate(bars):
        parts.append(box(LEFT + bar.offset * PITCH, row * ROW, spec.stack * PITCH - 4, COLORS[bar.role], moment(bar.offset)))
    y = len(bars) * ROW + 2
    for place, time in enumerate(times):
        parts.append(image(LEFT + place * PITCH, y, episode.frames[t + time]))
        parts.append(text(LEFT + place * PITCH + FRAME / 2, y + FRAME + 15, f"t{time:+d}" if time else "t"))
    right = LEFT + max(len(times) * PITCH, (spec.stack + spec.steps + 0.5) * PITCH)
    roles: list[Role] = [bar.role for bar in bars] + [read.role for read in steps]
    if issubclass(objective, MaskedObjective):
        parts += mask_pictures(objective, episode.frames[t + spec.future], right + 24, y)
        right += 24 + 2 * PITCH + 8
        y += 16
    parts += rows(steps, spec, episode, t, y + FRAME + 22)
    y += FRAME + 30 + ROW * len(steps)
    parts += legend(list(dict.fromkeys(roles)), y)
    height, width = y + ROW, max(right, 640)
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" style="max-width: 100%"'
    label = f"The window of {name}: {len(times)} frames and {spec.steps} steps"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" role="img" aria-label="{label}">'
    return "\n".join([head, *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    episode, t = scene()
    OUT.mkdir(exist_ok=True)
    for card in shipped():
        (OUT / f"{card.name}.svg").write_text(draw(card.name, episode, t), encoding="utf-8")
