"""A run's folder, in the form that Stable-Baselines3's zoo reads."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import ResultsWriter

from pretrainrl.errors import CardError, InputError
from pretrainrl.finetuning.config import FinetuneConfig, FinetuneRecord
from pretrainrl.paths import atomic_path, writable_folder

CONFIG, EVALUATIONS, MONITOR, BEST, CHECKPOINTS = (
    "config.toml",
    "evaluations.npz",
    "0.monitor.csv",
    "best_model.zip",
    "checkpoints",
)
_COUNTS = "counts.json"


class RunFolder:
    """Files of one run: `<out>/<algorithm>/<game>_<number>`, where the number is the seed's, from 1 as the zoo counts.

    Args:
        out: folder of runs.
        config: of the run.
        resume: whether it may have begun.

    Raises:
        InputError: when the folder is not empty and `resume` is not set, or holds something else.
    """

    def __init__(self, out: Path, config: FinetuneConfig, *, resume: bool) -> None:
        self.name = config.game.replace("/", "-")  # as huggingface_sb3 and the zoo write it
        self.path = out / config.algorithm / f"{self.name}_{config.seed + 1}"
        self._env_id = config.game
        occupied = self.path.exists() and any(self.path.iterdir())
        if occupied and not resume:
            raise InputError(f"{self.path} is not empty; go on with that run by --resume, or choose another folder with --out")
        try:
            self._before = FinetuneRecord.read(self.path / CONFIG) if occupied else None
        except CardError as error:
            raise InputError(f"{self.path} holds no run to go on with: {error}") from error

    def check(self, record: FinetuneRecord) -> None:
        """Check that a run that has begun here is this one.

        Raises:
            InputError: naming what differs.
        """
        if self._before is not None:
            record.require_same(self._before)

    def open(self, record: FinetuneRecord) -> Path | None:
        """Make the folder, or bring it back to its last checkpoint, which is returned if there is one.

        Raises:
            InputError: when it cannot be written to.
        """
        if self._before is None:
            writable_folder(self.path)
            record.write(self.path / CONFIG)
        checkpoints = sorted((self.path / CHECKPOINTS).glob("step_*"))
        state = checkpoints[-1] if checkpoints else None
        counts = json.loads((state / _COUNTS).read_text()) if state else {"evaluations": 0, "games": 0}
        self.evaluations = Evaluations(self.path / EVALUATIONS, keep=counts["evaluations"])
        self.games = FinishedGames(self.path / MONITOR, self._env_id, keep=counts["games"])
        return state

    @property
    def agent(self) -> Path:
        """The agent when it had learnt."""
        return self.path / f"{self.name}.zip"

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        return self.agent.exists()

    def save_agent(self, agent: BaseAlgorithm, path: Path) -> None:
        """Save an agent, whole or not at all."""
        with atomic_path(path) as temporary:
            agent.save(temporary)

    def save_checkpoint(self, step: int, save_state: Callable[[Path], None]) -> None:
        """Write the state at `step`, which `save_state` puts into a folder, and drop the ones before."""
        folder = self.path / CHECKPOINTS
        with atomic_path(folder / f"step_{step:010d}") as temporary:
            temporary.mkdir()
            save_state(temporary)
            counts = {"evaluations": len(self.evaluations.timesteps), "games": self.games.count}
            (temporary / _COUNTS).write_text(json.dumps(counts))
        for old in folder.iterdir():  # also what a killed process left
            if old.name != f"step_{step:010d}":
                shutil.rmtree(old)

    def drop_checkpoints(self) -> None:
        """Remove what only an unfinished run needs."""
        shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)


class Evaluations:
    """`evaluations.npz`, with the arrays of Stable-Baselines3's `EvalCallback`.

    Args:
        path: of the file.
        keep: of how many evaluations that it holds are kept.

    Attributes:
        timesteps: when each was.
        results: scores of its games.
        ep_lengths: their lengths.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self._path = path
        self.timesteps: list[int] = []
        self.results: list[list[float]] = []
        self.ep_lengths: list[list[int]] = []
        if keep:
            with np.load(path) as saved:
                self.timesteps = saved["timesteps"][:keep].tolist()
                self.results = saved["results"][:keep].tolist()
                self.ep_lengths = saved["ep_lengths"][:keep].tolist()
        else:
            path.unlink(missing_ok=True)

    def add(self, timestep: int, scores: list[float], lengths: list[int]) -> bool:
        """Add an evaluation; return whether its mean score is above all before."""
        best = max((float(np.mean(each)) for each in self.results), default=-np.inf)
        self.timesteps.append(timestep)
        self.results.append(scores)
        self.ep_lengths.append(lengths)
        with atomic_path(self._path) as temporary, temporary.open("wb") as file:
            np.savez(file, timesteps=self.timesteps, results=self.results, ep_lengths=self.ep_lengths)
        return bool(np.mean(scores) > best)


class FinishedGames:
    """`0.monitor.csv`: raw score, length and time of every whole game played in learning, in `Monitor`'s format.

    Args:
        path: of the file, which is made when the first game is over.
        env_id: of the game.
        keep: of how many games that it holds are kept.

    Attributes:
        count: games in it.
    """

    def __init__(self, path: Path, env_id: str, keep: int) -> None:
        self._path, self.count = path, keep
        self._began = time.time()
        if keep:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[: 2 + keep]
            self._began = float(json.loads(lines[0].removeprefix("#"))["t_start"])
            with atomic_path(path) as temporary:
                temporary.write_text("".join(lines), encoding="utf-8", newline="\n")
        else:
            path.unlink(missing_ok=True)
        header: dict[str, float | str] = {"t_start": self._began, "env_id": env_id}
        self._header = header
        self._writer: ResultsWriter | None = None

    def add(self, score: float, length: int) -> None:
        """Add a game that has just ended."""
        if self._writer is None:
            self._writer = ResultsWriter(str(self._path), header=self._header, override_existing=not self.count)
        self._writer.write_row({"r": score, "l": length, "t": round(time.time() - self._began, 6)})
        self.count += 1

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
