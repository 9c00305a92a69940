"""`encoders`, `info` and `verify`: what is registered, one card, and whether the files are what the cards say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import pretrainrl
from pretrainrl.progress import plain_console

if TYPE_CHECKING:
    from pretrainrl.cards import EncoderCard

console = plain_console()


def encoders(
    pattern: Annotated[str, typer.Argument(help="Shell-style pattern of names or aliases.")] = "*",
    include_manual: Annotated[bool, typer.Option("--include-manual", help="Those, too, that need a file of yours.")] = False,
) -> None:
    """List the registered encoders."""
    from rich.table import Table

    from pretrainrl.cards import ENCODERS

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "aliases", "backbone", "features", "weights", "trained"):
        table.add_column(column, no_wrap=True)
    for card in ENCODERS.items(pattern):
        if card.weights.manual and not include_manual:
            continue
        alias = card.objective if card.default else ""
        trained = f"{card.training.minutes:.0f} min" if card.training else ""
        table.add_row(card.name, alias, card.backbone, f"{card.features_dim} {card.features}", _weights(card), trained)
    if not table.row_count:
        from pretrainrl.errors import UnknownNameError

        raise UnknownNameError.of("encoder", pattern, pretrainrl.list_encoders())
    console.print(table)


def _weights(card: EncoderCard) -> str:
    if card.weights.manual:
        return "your file"
    return f"{card.weights.bytes / 1e6:.1f} MB" if card.weights.bytes else f"seed {card.weights.seed}"


def info(name: Annotated[str, typer.Argument(help="Name, run folder or card file.")]) -> None:
    """Show everything an encoder's card says."""
    from rich.syntax import Syntax

    from pretrainrl.cards import find_card

    console.print(Syntax(find_card(name).to_toml(), "toml", background_color="default", word_wrap=True))


def verify(pattern: Annotated[str, typer.Argument(help="Shell-style pattern of names or aliases.")] = "*") -> None:
    """Check weights from source to features: sha256, size, tensors, golden values."""
    from pretrainrl.encoders.check import verify_encoder
    from pretrainrl.errors import PretrainRLError, UnknownNameError, WeightsError

    names = pretrainrl.list_encoders(pattern)
    if not names:
        raise UnknownNameError.of("encoder", pattern, pretrainrl.list_encoders())
    failures = 0
    for name in names:
        try:
            verify_encoder(name)
            console.print(f"ok      {name}", soft_wrap=True)
        except PretrainRLError as error:
            failures += 1
            console.print(f"failed  {name}: {error}", soft_wrap=True)
    if failures:
        raise WeightsError(f"{failures} of {len(names)} encoders failed verification")
