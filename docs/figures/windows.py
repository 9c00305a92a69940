"""The pictures of the pages on objectives: each draws the window that an objective reads. `make figures` writes them.

Length and steps of a window come from the objective's class; the frames are of one game of Breakout, played at random. Text
has the colour of the page that includes the picture, so it is legible on light and dark.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

import pretrainrl
from pretrainrl.cards import OBJECTIVES
from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.episode import Episode
from pretrainrl.data.windows import WindowSpec
from pretrainrl.networks.masked_autoencoder import mask_from_scores, show_visible
from pretrainrl.objectives import Objective
from pretrainrl.registry import import_target

OUT = Path(__file__).resolve().parent.parent / "objectives" / "figures"
ACTIONS = ("noop", "fire", "right", "left")  # Breakout's
FRAME, PITCH, LEFT, ROW = 64, 68, 72, 22  # in units of the picture

Role = Literal["trained", "copy", "loss", "predicted"]
COLOURS: dict[Role, str] = {"trained": "#4f5fc4", "copy": "#b36b00", "loss": "#6b7280", "predicted": "#1f8a5b"}
LEGEND: dict[Role, str] = {
    "trained": "read by the trained network",
    "copy": "read by its momentum copy, no gradient",
    "loss": "read by the loss alone",
    "predicted": "predicted",
}


class Seen(NamedTuple):
    """An observation of the window, as a bar over its frames."""

    offset: int
    label: str
    role: Role = "trained"


class Read(NamedTuple):
    """What is read of each step, as a row of cells; `first`: of the first step only."""

    name: Literal["actions", "rewards", "returns", "terminations"]
    role: Role = "trained"
    first: bool = False


def moment(offset: int) -> str:
    """Name the observation so many steps after t."""
    return f"o_t+{offset}" if offset else "o_t"


CQL = [Seen(0, "o_t: the value of a_t here"), Seen(3, "o_t+3: the best action's value", "copy")]
ENDS = Read("terminations", "loss")
CQL_STEPS = [Read("actions", "loss", first=True), Read("rewards", "loss"), ENDS]
LATENTS = [Seen(0, "o_t"), *(Seen(k, f"{moment(k)}: its latent", "copy") for k in range(1, 5))]
OBSERVATIONS: dict[str, list[Seen]] = {
    "curl": [Seen(0, "o_t, one view: the query"), Seen(0, "o_t, another view: the key", "copy")],
    "mae": [Seen(0, "o_t")],
    "atc": [Seen(0, "o_t: the query"), Seen(3, "o_t+3: the key", "copy")],
    "siammae": [Seen(0, "o_t"), *(Seen(k, f"{moment(k)}, or") for k in (1, 2)), Seen(3, "o_t+3")],
    "r3m": [Seen(0, "o_t: the query"), Seen(3, "o_t+3: the key", "copy"), Seen(6, "o_t+6: a negative", "copy")],
    "bc": [Seen(0, "o_t")],
    "spr": LATENTS,
    "spr_idm": LATENTS,
    "idm": [Seen(0, "o_t"), Seen(1, "o_t+1")],
    "dt": [Seen(k, moment(k)) for k in range(8)],
    "cql_m": CQL,
    "cql_d": CQL,
}
STEPS: dict[str, list[Read]] = {
    "atc": [ENDS],
    "r3m": [ENDS],
    "bc": [Read("actions", "predicted")],
    "spr": [Read("actions"), ENDS],
    "spr_idm": [Read("actions", "predicted"), ENDS],
    "idm": [Read("actions", "predicted"), ENDS],
    "dt": [Read("returns"), Read("actions", "predicted")],
    "cql_m": CQL_STEPS,
    "cql_d": CQL_STEPS,
}


def scene(reach: int = 8) -> tuple[Episode, int]:
    """A game, and a time t from which on a brick is hit two steps later."""
    for episode in collect_episodes("breakout", 600, n_envs=1, seed=0):
        for t in np.flatnonzero(episode.rewards > 0) - 2:
            if 4 <= t < len(episode.actions) - reach:
                return episode, int(t)
    raise SystemExit("no brick was hit; try another seed")


def text(x: float, y: float, words: str, *, anchor: str = "middle", colour: str = "currentColor", size: int = 12) -> str:
    """Words at a place."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{escape(words)}</text>'


def box(x: float, y: float, width: float, colour: str, words: str) -> str:
    """Words on a bar."""
    shape = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="18" rx="3" fill="{colour}"/>'
    return shape + text(x + width / 2, y + 13, words, colour="#fff")


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


def rows(name: str, spec: WindowSpec, episode: Episode, t: int, y: float) -> list[str]:
    """The cells under the frames; each step lies between the frame before it and the frame after it."""
    parts = []
    for read in STEPS.get(name, []):
        parts.append(text(LEFT - 8, y + 13, read.name.replace("terminations", "end?"), anchor="end"))
        for step in range(1 if read.first else spec.steps):
            x = LEFT + (spec.stack + step) * PITCH - PITCH / 2
            parts.append(box(x, y, PITCH - 8, COLOURS[read.role], cell(read, spec, episode, t + step)))
        y += ROW
    return parts


def legend(roles: Sequence[Role], y: float) -> list[str]:
    """Say what the colours mean."""
    parts, x = [], 4.0
    for role in roles:
        parts.append(f'<rect x="{x:g}" y="{y + 3:g}" width="12" height="12" rx="3" fill="{COLOURS[role]}"/>')
        parts.append(text(x + 18, y + 13, LEGEND[role], anchor="start"))
        x += 44 + 6.2 * len(LEGEND[role])
    return parts


def draw(name: str, episode: Episode, t: int) -> str:
    """The window of an objective at time t of an episode, as SVG."""
    objective: type[Objective] = import_target(OBJECTIVES.get(name).target)
    spec, bars = objective.window, OBSERVATIONS[name]
    times = range(1 - spec.stack, spec.future + 1)
    parts = []
    for row, bar in enumerate(bars):
        parts.append(box(LEFT + bar.offset * PITCH, row * ROW, spec.stack * PITCH - 4, COLOURS[bar.role], bar.label))
    y = len(bars) * ROW + 2
    for place, time in enumerate(times):
        parts.append(image(LEFT + place * PITCH, y, episode.frames[t + time]))
        parts.append(text(LEFT + place * PITCH + FRAME / 2, y + FRAME + 15, f"t{time:+d}" if time else "t"))
    right = LEFT + max(len(times) * PITCH, (spec.stack + spec.steps + 0.5) * PITCH)
    roles: list[Role] = [bar.role for bar in bars] + [read.role for read in STEPS.get(name, [])]
    if hasattr(objective, "mask_ratio"):
        parts += mask_pictures(objective, episode.frames[t + spec.future], right + 24, y)
        right += 24 + 2 * PITCH + 8
        y += 16
    parts += rows(name, spec, episode, t, y + FRAME + 22)
    y += FRAME + 30 + ROW * len(STEPS.get(name, []))
    parts += legend(list(dict.fromkeys(roles)), y)
    height, width = y + ROW, max(right, 640)
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" style="max-width: 100%"'
    label = f"The window of {name}: {len(times)} frames and {spec.steps} steps"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" role="img" aria-label="{label}">'
    return "\n".join([head, *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    episode, t = scene()
    OUT.mkdir(exist_ok=True)
    for name in pretrainrl.list_objectives():
        (OUT / f"{name}.svg").write_text(draw(name, episode, t), encoding="utf-8")
