"""Self-contained HTML pages, made from templates."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pretrainrl.games import find_game
from pretrainrl.optional import require
from pretrainrl.paths import atomic_path


def write_html(path: Path, template: Path, context: Mapping[str, Any], **filters: Callable[..., Any]) -> Path:
    """Fill in `template`, write the page to `path` and return that.

    Args:
        path: of the page.
        template: a Jinja template; what it inserts is escaped, and must be there.
        context: what it inserts.
        filters: functions that it may apply, besides `title`, which names a game.

    Raises:
        MissingExtraError: when the extra `plot` is not installed.
    """
    jinja2 = require("jinja2", "plot")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(title=game_title, **filters)
    page = environment.get_template(template.name).render(context)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def data_uri(image: Tensor) -> str:
    """A (1 or 3, height, width) uint8 image as the source of an `img`."""
    from torchvision.io import encode_png

    png = bytes(encode_png(image.contiguous()).numpy())
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def game_title(slug: str) -> str:
    """`mspacman` -> `Ms Pacman`."""
    return find_game(slug).rom.replace("_", " ").title()
