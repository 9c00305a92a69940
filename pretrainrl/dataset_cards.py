"""Cards of datasets: what all of one kind have in common, whichever game they are of, and what each recording is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pretrainrl.cards import Card, Paper
from pretrainrl.registry import Registry


class DatasetCard(Card):
    """What the datasets `pretrainrl/atari/<game>-<kind>-v<version>` of one kind have in common.

    Facts about one dataset (sizes, seeds, ROM, versions) are in its own metadata, not here.

    Attributes:
        name: Kind, e.g. `dqn-replay`.
        title: Title for people, without the game.
        summary: Line on what it is and what it is good for.
        play: Sentence on who played and how.
        rewards: `raw` where rewards are the raw score, `clipped` where the source clipped them to [-1, 1].
        limitations: Sentences on what it is not good for.
        license: SPDX identifier, or `unknown` where the source names none.
        command: Command that makes such a dataset.
        paper: Paper of the source; None where the source is this package.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str
    summary: str
    play: str
    rewards: Literal["raw", "clipped"]
    limitations: tuple[str, ...] = ()
    license: str
    command: str
    paper: Paper | None = None


class Returns(Card):
    """Returns of a dataset's whole episodes: those that were not cut.

    Attributes:
        episodes: Number of whole episodes.
        mean: Mean of their returns.
        least: Least return.
        greatest: Greatest return.
        normalized: Mean between 0, which is random play, and 1, which is the reference of the game; None where there is none.
    """

    episodes: int
    mean: float
    least: float
    greatest: float
    normalized: float | None = None


class RecordingCard(Card):
    """What one recording is: a dataset that is played again instead of downloaded.

    Attributes:
        name: Last part of the dataset's id, `<game>-<kind>-v<version>`.
        play: Sentence on who played.
        transitions: Number of transitions.
        returns: Returns of the episodes; None where all of them were cut.
        limitations: Sentences on what it is not good for.
        license: SPDX identifier.
        command: Command that made such a recording.
        sources: Places of the recording, tried in order: `bundled:recordings/<file>`, a path, or
            `hf://<organization>/<repository>/<file>@<revision>`.
        sha256: Digest of the file, 64 hex digits.
        bytes: Size of the file.
        content_sha256: Fingerprint of the dataset that it gives, 64 hex digits.
        rom_md5: MD5 of the game's ROM image.
        ale_py_version: Version of ale-py that played.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*-v\d+$")
    play: str
    transitions: int
    returns: Returns | None = None
    limitations: tuple[str, ...] = ()
    license: str = "MIT"
    command: str
    sources: tuple[str, ...]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int
    content_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    rom_md5: str
    ale_py_version: str


DATASETS: Registry[DatasetCard] = Registry("dataset", DatasetCard.read)
RECORDINGS: Registry[RecordingCard] = Registry("recording", RecordingCard.read, group="pretrainrl.recordings")
