"""Cards of datasets: what all datasets of one kind have in common, whichever game they are of."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pretrainrl.cards import Card, Paper
from pretrainrl.registry import Registry


class DatasetCard(Card):
    """What the datasets `pretrainrl/atari/<game>-<kind>-v<version>` of one kind are.

    Facts about one dataset (sizes, seeds, ROM, versions) are in its own metadata, not here.

    Attributes:
        name: the kind.
        title: for people, without the game.
        summary: one line on what it is and is good for.
        play: who played and how.
        rewards: whether they are the raw score or were clipped to [-1, 1] by the source.
        limitations: what it is not good for, a sentence each.
        licence: SPDX identifier, or `unknown` where the source names none.
        command: that makes such a dataset.
        paper: of the source, if it is not this package.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str
    summary: str
    play: str
    rewards: Literal["raw", "clipped"]
    limitations: tuple[str, ...] = ()
    licence: str
    command: str
    paper: Paper | None = None


DATASETS: Registry[DatasetCard] = Registry("dataset", DatasetCard.read)
