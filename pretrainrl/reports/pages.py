"""Self-contained HTML pages, made from templates."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretrainrl.games import find_game
from pretrainrl.optional import require
from pretrainrl.paths import atomic_path

if TYPE_CHECKING:
    from torch import Tensor


def write_html(path: Path, template: str, context: Mapping[str, Any]) -> Path:
    """Fill in a template, and write the page that comes of it.

    Args:
        path: File of the page, which is returned.
        template: Name of a Jinja template in this folder. What it inserts is escaped, and must be there.
        context: Values that it inserts, by name. There are the filters `title`, `number`, `duration` and
            `quoted`, and the package's `version`.

    Raises:
        MissingExtraError: The extra `plot` is not installed.
        InputError: The file cannot be written.
    """
    jinja2 = require("jinja2", "plot")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(title=game_title, number=number, duration=duration, quoted=json.dumps)
    page = environment.get_template(template).render(version=version("pretrainrl"), **context)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def data_uri(image: Tensor) -> str:
    """Return a (1 or 3, height, width) uint8 image as the source of an `img`."""
    from torchvision.io import encode_png

    png = bytes(encode_png(image.contiguous()).numpy())
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def game_title(slug: str) -> str:
    """Return the name of a game for people: `mspacman` gives `Ms Pacman`."""
    return find_game(slug).rom.replace("_", " ").title()


def number(value: float, digits: int = 0) -> str:
    """Return a number with commas between thousands and so many digits after the point."""
    return f"{value:,.{digits}f}"


def duration(seconds: float) -> str:
    """Return a time for people: 65 gives `1 min 5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s" if seconds >= 10 else f"{seconds:.1f} s"
