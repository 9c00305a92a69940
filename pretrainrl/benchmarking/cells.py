"""One cell: what is computed, said completely enough for another process or machine, and its computation."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from pretrainrl.benchmarking.results import Cell, CellResult, Hardware
from pretrainrl.benchmarking.suite import Suite
from pretrainrl.cards import Card, Scalar
from pretrainrl.errors import InputError, PretrainRLError

END_TO_END = "end-to-end."  # before the backbone's name


class Entrant(Card):
    """An encoder or baseline that takes part.

    Attributes:
        name: Name in results.
        encoder: Name, run folder or card file of the encoder, as `make_encoder` takes it.
        sha256: Digest of the weights with which learning begins.
        frozen: Whether the encoder stays as it is; a baseline that learns end to end trains it.
    """

    name: str
    encoder: str
    sha256: str
    frozen: bool = True


class CellSpec(Card):
    """All that a worker needs to compute a cell.

    Attributes:
        suite: Name of the suite.
        version: Version of the suite.
        task: Name of the task.
        game: Game, as one lower-case word.
        entrant: Encoder or baseline.
        seed: Seed of the run.
        agent: Name of the agent's card.
        preset: Name of the settings on that card.
        length: Budget, in steps or epochs.
        dataset: Minari id; None where the agent learns by playing.
        episodes: Number of whole games of the final evaluation.
        max_episode_steps: Steps after which a game is cut.
        dtype: Type that the encoder computes in.
        runs: Folder in which the run keeps its checkpoints.
    """

    suite: str
    version: int
    task: str
    game: str
    entrant: Entrant
    seed: int
    agent: str
    preset: str
    length: int
    dataset: str | None = None
    episodes: int
    max_episode_steps: int
    dtype: str
    runs: str

    @classmethod
    def of(cls, suite: Suite, task: str, game: str, seed: int, entrant: Entrant, runs: Path) -> CellSpec:
        """Make the cell of a suite."""
        what, how = suite.tasks[task], suite.evaluation
        return cls(
            suite=suite.name,
            version=suite.version,
            task=task,
            game=game,
            entrant=entrant,
            seed=seed,
            agent=what.agent,
            preset=what.preset,
            length=what.length,
            dataset=None if what.dataset is None else what.dataset.format(game=game),
            episodes=how.episodes,
            max_episode_steps=how.max_episode_steps,
            dtype=suite.dtype,
            runs=str(runs),
        )

    @property
    def title(self) -> str:
        """Words for people."""
        return f"{self.task} {self.game} {self.entrant.name} seed {self.seed}"

    @property
    def cell(self) -> Cell:
        """Identity of the cell in a store of results."""
        settings: dict[str, Scalar] = {
            "agent": self.agent,
            "preset": self.preset,
            "dataset": self.dataset or "",
            "episodes": self.episodes,
            "max_episode_steps": self.max_episode_steps,
            "dtype": self.dtype,
            "frozen": self.entrant.frozen,
        }
        return Cell(
            suite=self.suite,
            version=self.version,
            task=self.task,
            game=self.game,
            encoder=self.entrant.name,
            sha256=self.entrant.sha256,
            seed=self.seed,
            length=self.length,
            settings=settings,
        )

    def failed(self, reason: str, seconds: float) -> CellResult:
        """Return the result of a cell that could not be computed."""
        return self.result(status="failed", error=reason, seconds=seconds)

    def result(self, **found: Any) -> CellResult:
        """Return a result of this cell."""
        cell = self.cell
        identity = cell.model_dump(exclude={"settings"})
        return CellResult(**identity, key=cell.key, dtype=self.dtype, hardware=this_machine(), **found)


def run_cell(spec: CellSpec) -> CellResult:
    """Compute a cell in this process; an error becomes a failed result.

    Raises:
        InterruptedRunError: SIGINT or SIGTERM asked to stop; the run goes on from its last checkpoint.
    """
    from pretrainrl.runs.interrupt import InterruptedRunError

    began = time.monotonic()
    try:
        return _fine_tune(spec, began)
    except InterruptedRunError:
        raise
    except PretrainRLError as error:
        return spec.failed(str(error), time.monotonic() - began)


def _fine_tune(spec: CellSpec, began: float) -> CellResult:
    from pretrainrl.finetuning import finetune
    from pretrainrl.finetuning.settings import package_versions

    length = {"steps": spec.length} if spec.dataset is None else {"epochs": spec.length, "dataset": spec.dataset}
    found = finetune(
        spec.agent,
        spec.game,
        spec.entrant.encoder,
        preset=spec.preset,
        end_to_end=not spec.entrant.frozen,
        seed=spec.seed,
        eval_episodes=spec.episodes,
        max_episode_steps=spec.max_episode_steps,
        out=Path(spec.runs) / spec.cell.key,
        dtype=spec.dtype,
        resume=True,
        progress=False,
        **length,
    )
    if not found.evaluations:
        raise InputError(f"{spec.title} was never evaluated")
    last = found.evaluations[-1]
    return spec.result(
        status="done",
        scores=last.scores,
        lengths=last.lengths,
        curve=tuple((one.timestep, sum(one.scores) / len(one.scores)) for one in found.evaluations),
        seconds=time.monotonic() - began,
        versions=package_versions(),
    )


def this_machine() -> Hardware:
    """Describe the machine that computes."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    threads = int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads()))
    return Hardware(device=device, threads=threads, system=f"{platform.system()} {platform.machine()}")
