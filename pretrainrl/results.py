"""What the functions of the command line's names return; everything in it is on disk, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pretrainrl.cards import EncoderCard
    from pretrainrl.probing import Probe


@dataclass(frozen=True)
class CollectResult:
    """Datasets that `collect` has written.

    Attributes:
        datasets: Minari ids, one for each game.
        folder: Root of the datasets.
        recordings: Files of the recordings that were asked for, one for each game.
    """

    datasets: tuple[str, ...]
    folder: Path
    recordings: tuple[Path, ...] = ()


@dataclass(frozen=True)
class PretrainResult:
    """An encoder that `pretrain` has made.

    Attributes:
        folder: Run folder, which `make_encoder` takes.
        card: Card of the encoder.
    """

    folder: Path
    card: EncoderCard

    @property
    def metrics(self) -> dict[str, float]:
        """Values that the objective reported, averaged over the last tenth of training."""
        return self.card.metrics


@dataclass(frozen=True)
class ProbeResult:
    """Measurements of an encoder's features.

    Attributes:
        probes: Measurements of the encoder, then of the baseline if there is one.
        page: Page of figures, if a folder was given.
    """

    probes: tuple[Probe, ...]
    page: Path | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Values that were measured of the encoder, by name."""
        return self.probes[0].metrics


@dataclass(frozen=True)
class Evaluation:
    """Whole games that an agent played without learning.

    Attributes:
        timestep: Number of steps, or transitions of a dataset, from which the agent had learned.
        scores: Raw score of each game.
        lengths: Length of each game in the agent's steps.
    """

    timestep: int
    scores: tuple[float, ...]
    lengths: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean score."""
        return fmean(self.scores)


@dataclass(frozen=True)
class FinetuneResult:
    """An agent that `finetune` has trained.

    Attributes:
        folder: Folder of the run.
        evaluations: Evaluations in their order; the last was made after learning.
        agent_path: Agent after learning, as Stable-Baselines3 saves it.
        best_agent_path: Agent at its best evaluation.
        dtype: Dtype in which the encoder computed, `float32` or `bfloat16`.
        seconds: Time that learning and evaluations took in this call; 0 where the run was finished before.
        lengths: Lengths of the run in steps or epochs: the one that it began with, then each to which it was extended.
    """

    folder: Path
    evaluations: tuple[Evaluation, ...]
    agent_path: Path
    best_agent_path: Path
    dtype: str
    seconds: float = 0.0
    lengths: tuple[int, ...] = ()

    @property
    def scores(self) -> tuple[float, ...]:
        """Raw score of each game in the last evaluation."""
        return self.evaluations[-1].scores

    @property
    def best(self) -> Evaluation:
        """Evaluation with the highest mean score, the first if there are several."""
        return max(self.evaluations, key=lambda evaluation: evaluation.mean)


@dataclass(frozen=True)
class ReportResult:
    """Files that `report` has written.

    Attributes:
        page: Page of all figures and tables, which needs no other file.
        table: CSV file with one line for each cell.
        figure: PNG file of the main figure.
        advice: Sentences on which kind of data to take, by task and split, as far as the results decide it.
    """

    page: Path
    table: Path
    figure: Path
    advice: Mapping[tuple[str, str], str]
