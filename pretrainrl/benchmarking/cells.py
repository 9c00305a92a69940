"""One cell: what is computed, said completely enough for another process or machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from pretrainrl.benchmarking.results import Cell, CellResult, Hardware
from pretrainrl.benchmarking.suite import Evaluation, Suite, Task
from pretrainrl.cards import Card

END_TO_END = "end-to-end."  # before the backbone's name


class Entrant(Card):
    """An encoder or baseline that takes part.

    Attributes:
        name: Name in results.
        encoder: Name, run folder or card file of the encoder, as `make_encoder` takes it.
        sha256: Digest of the weights with which learning begins.
        frozen: Whether the encoder stays as it is; a baseline that learns end to end trains it.
        plays: Games that the objective that trained it can play without fine-tuning.
    """

    name: str
    encoder: str
    sha256: str
    frozen: bool = True
    plays: tuple[str, ...] = ()

    def can(self, kind: str, game: str) -> bool:
        """Whether a task of a kind can be done with it: only a frozen encoder is probed, and not all can play."""
        return {"finetune": True, "probe": self.frozen, "zero_shot": game in self.plays}[kind]


class CellSpec(Card):
    """All that a worker needs to compute a cell.

    Attributes:
        suite: Name of the suite.
        version: Version of the suite.
        task: Name of the task.
        what: What is done, with the game in the dataset's id.
        how: How agents are evaluated.
        game: Game, as one lower-case word.
        entrant: Encoder or baseline.
        seed: Seed of the run.
        dtype: Type that the encoder computes in.
        runs: Folder in which the run keeps its checkpoints.
    """

    suite: str
    version: int
    task: str
    what: Task
    how: Evaluation
    game: str
    entrant: Entrant
    seed: int
    dtype: str
    runs: str

    @classmethod
    def of(cls, suite: Suite, task: str, game: str, seed: int, entrant: Entrant, runs: Path) -> CellSpec:
        """Make the cell of a suite."""
        return cls(
            suite=suite.name,
            version=suite.version,
            task=task,
            what=suite.tasks[task],
            how=suite.evaluation,
            game=game,
            entrant=entrant,
            seed=seed,
            dtype=suite.dtype,
            runs=str(runs),
        )

    @property
    def title(self) -> str:
        """Words for people."""
        return f"{self.task} {self.game} {self.entrant.name} seed {self.seed}"

    @property
    def dataset(self) -> str | None:
        """Minari id of what is learned from."""
        return None if self.what.dataset is None else self.what.dataset.replace("{game}", self.game)

    @property
    def cell(self) -> Cell:
        """Identity of the cell in a store of results."""
        settings = {**self.what.settings(), **self.how.model_dump(mode="json", exclude_none=True)}
        return Cell(
            suite=self.suite,
            version=self.version,
            task=self.task,
            game=self.game,
            encoder=self.entrant.name,
            sha256=self.entrant.sha256,
            seed=self.seed,
            length=self.what.length or 0,
            settings={**settings, "dtype": self.dtype, "frozen": self.entrant.frozen},
        )

    def failed(self, reason: str, seconds: float) -> CellResult:
        """Return the result of a cell that could not be computed."""
        return self.result(status="failed", error=reason, seconds=seconds)

    def result(self, **found: Any) -> CellResult:
        """Return a result of this cell."""
        return CellResult(**self.cell.model_dump(), dtype=self.dtype, hardware=this_machine(), **found)


def this_machine() -> Hardware:
    """Describe the machine that computes."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    threads = int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads()))
    return Hardware(device=device, threads=threads, system=f"{platform.system()} {platform.machine()}")
