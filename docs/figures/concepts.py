"""The picture of the page on concepts: how the parts of the package fit together. `make figures` writes it.

Boxes are filled and lines are gray, so that the picture is legible on light and dark pages.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import NamedTuple

OUT = Path(__file__).resolve().parent.parent / "concepts.svg"
WIDTH, HEIGHT = 900, 356
BOX, TALL, GAP = 148, 64, 32
DATA, FROZEN, TRAINED, LINE = "#4a5568", "#2b6cb0", "#b7791f", "#8a8f98"


class Part(NamedTuple):
    """A box of the picture: a title, a line below it, and a color that says what it is."""

    title: str
    line: str
    color: str


PRETRAINING = [
    Part("recording", "actions, and chance", DATA),
    Part("dataset", "every frame, lossless", DATA),
    Part("window", "a few steps around t", DATA),
    Part("objective", "a loss on windows", TRAINED),
    Part("card + weights", "a name, a digest", DATA),
]
AGENT = [
    Part("observation", "4 gray frames of 84x84", DATA),
    Part("encoder", "frozen", FROZEN),
    Part("features", "numbers, or a map", DATA),
    Part("neck", "trained with the agent", TRAINED),
    Part("heads", "Q-values, or a policy", TRAINED),
]


def text(x: float, y: float, words: str, *, size: int = 12, color: str = LINE, anchor: str = "middle") -> str:
    """Words at a place."""
    weight = ' font-weight="bold"' if size > 13 else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" fill="{color}"{weight}>{escape(words)}</text>'


def arrow(points: str) -> str:
    """A line through points, with a head at its end."""
    return f'<polyline points="{points}" fill="none" stroke="{LINE}" stroke-width="2" marker-end="url(#concepts-head)"/>'


def left(place: int) -> int:
    """Left edge of a lane's box number `place`."""
    return 16 + place * (BOX + GAP)


def lane(parts: list[Part], y: int) -> list[str]:
    """Boxes in a row, an arrow from each to the next."""
    drawn = []
    for place, part in enumerate(parts):
        x = left(place)
        drawn.append(f'<rect x="{x}" y="{y}" width="{BOX}" height="{TALL}" rx="8" fill="{part.color}"/>')
        drawn.append(text(x + BOX / 2, y + 28, part.title, size=16, color="#fff"))
        drawn.append(text(x + BOX / 2, y + 48, part.line, color="#fff"))
        if place:
            drawn.append(arrow(f"{x - GAP + 3},{y + TALL / 2:g} {x - 5},{y + TALL / 2:g}"))
    return drawn


def draw() -> str:
    """The picture, as SVG."""
    first, second, middle = 36, 190, 132
    encoder, card = left(1) + BOX // 2, left(4) + BOX // 2
    game, heads = left(0) + BOX // 2, left(4) + BOX // 2
    below = second + TALL + 34
    parts = [
        text(16, 22, "Pre-training, once", size=14, anchor="start"),
        *lane(PRETRAINING, first),
        arrow(f"{card},{first + TALL} {card},{middle} {encoder},{middle} {encoder},{second - 5}"),
        text((encoder + card) / 2, middle - 8, "make_encoder(name): found, verified, frozen"),
        text(16, second - 14, "An agent, many times", size=14, anchor="start"),
        *lane(AGENT, second),
        arrow(f"{heads},{second + TALL} {heads},{below} {game},{below} {game},{second + TALL + 5}"),
        text((game + heads) / 2, below - 8, "action: the game makes the next observation"),
        text(
            WIDTH / 2,
            below + 40,
            "A suite: games on which encoders are compared, familiar, near and far.",
            size=13,
        ),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT - 14}" width="{WIDTH}" style="max-width: 100%" '
        'font-family="sans-serif" role="img" aria-label="From recording to encoder, and from observation to action">'
    )
    marker = (
        '<defs><marker id="concepts-head" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z" fill="{LINE}"/></marker></defs>'
    )
    return "\n".join([head, marker, *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    OUT.write_text(draw(), encoding="utf-8")
