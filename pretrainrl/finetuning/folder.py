"""A run's folder, in the form that Stable-Baselines3's zoo reads."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import ResultsWriter

from pretrainrl.errors import InputError
from pretrainrl.finetuning.config import FinetuneConfig, FinetuneRecord
from pretrainrl.integrations.sb3.agents import save_agent
from pretrainrl.networks.optimization import LOWER_RATE, require_finite
from pretrainrl.paths import atomic_path
from pretrainrl.runs.checkpoints import Checkpoints
from pretrainrl.runs.folder import CONFIG, RunFolder

EVALUATIONS, MONITOR, BEST, CHECKPOINTS = "evaluations.npz", "0.monitor.csv", "best_model.zip", "checkpoints"
_COUNTS, _BEGINNING = "counts.json", {"evaluations": 0, "games": 0, "origin": 0}


class FinetuneFolder(RunFolder[FinetuneRecord]):
    """The files of one run in `<out>/<algorithm>/<game>_<number>`, where the number is the seed plus one, as the zoo counts.

    Args:
        out: Folder of runs.
        config: Configuration of the run.
        resume: Whether the run may have begun.

    Attributes:
        evaluations: Evaluations of the run, once it is open.
        games: Games that ended in learning, once the run is open.
        origin: Position at which learning of the present length began: 0, or where the run ended before it was extended.
        is_extended_now: Whether the state to begin with is the end of a shorter run, which is extended only now.

    Raises:
        InputError: The folder is not empty and `resume` is not set, or it holds something else.
    """

    def __init__(self, out: Path, config: FinetuneConfig, *, resume: bool) -> None:
        self.name = config.game.replace("/", "-")  # as huggingface_sb3 and the zoo write it
        super().__init__(out / config.algorithm / f"{self.name}_{config.seed + 1}", FinetuneRecord, resume=resume)
        self._env_id = config.game
        self.origin, self.is_extended_now = 0, False
        grown = [self.path / name for name in (EVALUATIONS, MONITOR, BEST)]
        self._checkpoints = Checkpoints(self.path / CHECKPOINTS, files=grown)
        self._resources = ExitStack()

    def compared(self, settings: FinetuneRecord) -> Mapping[str, Any]:
        """Return what must be the same for a run to go on."""
        return settings.compared()

    def stages(self, asked: FinetuneConfig, *, default_length: bool) -> tuple[FinetuneConfig, ...]:
        """Return the run that is here, or is to begin, and behind it the longer run to which it is to be extended, if any.

        Args:
            asked: Configuration that is asked for now.
            default_length: Whether no length is asked for. A run that has begun then keeps its own.

        Raises:
            InputError: The run that has begun is longer than what is asked for.
        """
        if self.before is None:
            return (asked,)
        begun = self.before.run
        present = asked.model_copy(update={"length": begun.length, "earlier": begun.earlier})
        if default_length or asked.length == begun.length:
            return (present,)
        if asked.length < begun.length:
            unit = "epochs" if begun.cloning else "steps"
            raise InputError(
                f"{self.path} is a run of {begun.length:,} {unit}, which can be made longer and not shorter, got "
                f"{asked.length:,}; choose another folder with --out"
            )
        return present, asked.model_copy(update={"earlier": begun.lengths})

    def open(self, record: FinetuneRecord) -> Path | None:
        """Make the folder and lock it, or bring it back to its last checkpoint.

        Returns:
            The folder of the last checkpoint, or None where there is none.

        Raises:
            InputError: The folder cannot be written to, another process works in it, or the checkpoint is damaged, or is
                missing from a run that is to be extended.
        """
        with ExitStack() as opened:
            opened.enter_context(self.opened(record))
            state = self._checkpoints.latest()
            length = record.run.length
            if state is None and record.run.earlier:
                raise InputError(f"{self.path} has no checkpoint, from which alone it goes on; begin anew with another --out")
            self._checkpoints.restore(state)
            counts = json.loads((state / _COUNTS).read_text()) if state else dict(_BEGINNING, length=length)
            self.origin, self.is_extended_now, self._length = counts["origin"], counts["length"] < length, length
            if self.before is not None and self.before.run.length < length:
                record.write(self.path / CONFIG)
            self.evaluations = Evaluations(self.path / EVALUATIONS, keep=counts["evaluations"])
            self.games = FinishedGames(self.path / MONITOR, self._env_id, keep=counts["games"])
            opened.callback(self.games.close)
            self._resources = opened.pop_all()
        return state

    def close(self) -> None:
        """Close the files and release the lock."""
        self._resources.close()

    @property
    def agent(self) -> Path:
        """Path of the agent that has learned for the whole run."""
        return self.path / f"{self.name}.zip"

    def is_finished(self, config: FinetuneConfig) -> bool:
        """Whether the agent is here that has learned for the whole length; that of a shorter run stays until then.

        Raises:
            InputError: The agent's file is damaged.
        """
        if not self.agent.exists():
            return False
        try:
            with zipfile.ZipFile(self.agent) as archive:
                if damaged := archive.testzip():
                    raise ValueError(f"{damaged} in it has another checksum")
                saved = json.loads(archive.read("data"))
            return int(saved["_epoch" if config.cloning else "num_timesteps"]) >= config.length
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise InputError(f"{self.agent} is damaged ({error}); delete it to go on from the last checkpoint") from error

    def save_agent(self, agent: BaseAlgorithm, path: Path) -> None:
        """Save an agent, whole or not at all.

        Raises:
            InputError: The agent's weights are not finite.
        """
        require_finite(agent.get_parameters(), f"after {agent.num_timesteps:,} steps", LOWER_RATE)
        save_agent(agent, path)

    def save_checkpoint(self, step: int, save_state: Callable[[Path], None]) -> None:
        """Write a checkpoint, and drop the one before.

        Args:
            step: Steps or epochs so far.
            save_state: Function that writes the agent's state into the folder that it is given.

        Raises:
            InputError: The checkpoint cannot be written, or the state is not finite; the one before is unchanged.
        """
        counts = {"evaluations": len(self.evaluations.timesteps), "games": self.games.count}
        counts |= {"length": self._length, "origin": self.origin}

        def write(folder: Path) -> None:
            save_state(folder)
            (folder / _COUNTS).write_text(json.dumps(counts))

        self._checkpoints.save(step, write)


class Evaluations:
    """`evaluations.npz`, with the arrays of Stable-Baselines3's `EvalCallback`.

    Args:
        path: Path of the file.
        keep: Number of evaluations in the file that are kept.

    Attributes:
        timesteps: Timestep of each evaluation.
        results: Scores of the games in each evaluation.
        ep_lengths: Lengths of the games in each evaluation.
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
        """Add an evaluation, and return whether its mean score is above that of all evaluations before."""
        best = max((float(np.mean(each)) for each in self.results), default=-np.inf)
        self.timesteps.append(timestep)
        self.results.append(scores)
        self.ep_lengths.append(lengths)
        with atomic_path(self._path) as temporary, temporary.open("wb") as file:
            np.savez(file, timesteps=self.timesteps, results=self.results, ep_lengths=self.ep_lengths)
        return bool(np.mean(scores) > best)


class FinishedGames:
    """`0.monitor.csv` with raw score, length and time of every whole game played in learning, in `Monitor`'s format.

    Args:
        path: Path of the file, which is made when the first game is over.
        env_id: Gymnasium id of the game.
        keep: Number of games in the file that are kept.

    Attributes:
        count: Number of games in the file.
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
