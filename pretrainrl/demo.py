"""The whole path in minutes on a CPU: a recording is played again, three agents learn from it, and one page shows them play.

All agents see the same game, the same data and the same number of seconds; the time in which features are computed counts.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from threading import Event
from typing import TYPE_CHECKING, Any

from pydantic import Field

from pretrainrl.cards import Card
from pretrainrl.dataset_cards import RECORDINGS
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.games import all_scores, find_game
from pretrainrl.optional import require
from pretrainrl.paths import environment_variables
from pretrainrl.progress import progress_bar
from pretrainrl.reports.pages import data_uri, write_html
from pretrainrl.runs.folder import CONFIG, RunFolder
from pretrainrl.runs.interrupt import InterruptedRunError, stop_requests

if TYPE_CHECKING:
    from rich.progress import Progress
    from stable_baselines3.common.vec_env import VecEnv

# What each agent learns on: an encoder's features, or pixels with a network of its own.
NATURE = "nature"
LEARNERS = {"atc": "pre-trained, frozen", "random": "untrained, frozen", NATURE: "NatureCNN, learning end to end"}
RATE, BATCH, EPSILON, PICTURES = 1e-3, 256, 0.001, 8


@dataclass(frozen=True)
class DemoSize:
    """How much a demo does.

    Attributes:
        seconds: Seconds that each agent learns.
        episodes: Number of whole games that it then plays.
        max_episode_steps: Steps after which a game is cut.
    """

    seconds: float
    episodes: int
    max_episode_steps: int


FULL, FAST = DemoSize(45.0, 8, 2_000), DemoSize(3.0, 2, 60)


class Played(Card):
    """What one agent did.

    Attributes:
        encoding: Seconds in which its features were computed.
        epochs: Passes over the data in the rest of its time.
        scores: Raw score of each game.
        pictures: PNG images of its first game, as sources of `img`, evenly spread over time.
    """

    encoding: float
    epochs: float
    scores: tuple[float, ...]
    pictures: tuple[str, ...]


class DemoRecord(Card):
    """What a demo was started with, and what has come of it so far.

    Attributes:
        game: Game, as one lower-case word.
        fast: Whether it does as little as possible.
        seed: Seed of the agents and the games.
        rebuilding: Seconds in which the recording was played again.
        played: What each agent did, by name.
    """

    game: str
    fast: bool
    seed: int
    rebuilding: float | None = None
    played: dict[str, Played] = Field(default={})


class DemoFolder(RunFolder[DemoRecord]):
    """The folder of a demo, which goes on with the agents that are left."""

    def compared(self, settings: DemoRecord) -> Mapping[str, Any]:
        """Return what must be the same for a demo to go on."""
        return settings.model_dump(include={"game", "fast", "seed"}, mode="json")


def run_demo(game: str, out: Path, *, fast: bool = False, seed: int = 0, resume: bool = False) -> Path:
    """Run the demo and return its page, `out/index.html`.

    Everything that it writes is under `out`, datasets and caches included.

    Args:
        game: Game of which an expert's recording is registered, in any spelling.
        out: Folder of the demo.
        fast: Whether to do as little as possible of everything.
        seed: Seed of the agents and the games.
        resume: Whether to go on with the demo in `out`.

    Raises:
        InputError: The folder holds something else.
        UnknownNameError: There is no such game, or no recording of an expert who plays it.
        MissingExtraError: The extra `plot` is not installed.
        InterruptedRunError: SIGINT or SIGTERM asked to stop; what was finished is kept.
    """
    require("jinja2", "plot")
    slug, suffix = find_game(game).slug, "-expert-v0"
    if slug + suffix not in RECORDINGS.names():
        known = [name.removesuffix(suffix) for name in RECORDINGS.names(f"*{suffix}")]
        raise UnknownNameError.of("game with an expert's recording", slug, known)
    out = out.expanduser().resolve()
    asked = DemoRecord(game=slug, fast=fast, seed=seed)
    folder = DemoFolder(out, DemoRecord, resume=resume)
    folder.check(asked)
    own = environment_variables(MINARI_DATASETS_PATH=str(out / "datasets"), PRETRAINRL_HOME=str(out / "cache"))
    with folder.opened(asked), own:
        try:
            return _Demo(out, folder.before or asked).run()
        except (InterruptedRunError, KeyboardInterrupt) as error:
            raise InterruptedRunError(
                f"stopped; what was finished is kept, go on with the same command and --resume ({out})"
            ) from error


class _Demo:
    """The steps in order."""

    def __init__(self, out: Path, record: DemoRecord) -> None:
        self.out, self.record = out, record
        self.size = FAST if record.fast else FULL
        self.dataset = f"pretrainrl/atari/{record.game}-expert-v0"

    def run(self) -> Path:
        self.rebuild()
        with stop_requests() as stop, progress_bar() as bar:
            for name in LEARNERS:
                if name not in self.record.played:
                    played = self.learn_and_play(name, stop, bar)
                    self.keep(played={**self.record.played, name: played})
        return self.write_page()

    def keep(self, **found: Any) -> None:
        self.record = self.record.model_copy(update=found)
        self.record.write(self.out / CONFIG)

    def rebuild(self) -> None:
        """Play the recording again, and unpack its frames; both take nothing the second time."""
        from pretrainrl.integrations.minari import cache_datasets, open_dataset

        began = time.monotonic()
        open_dataset(self.dataset)
        cache_datasets([self.dataset])
        if self.record.rebuilding is None:
            self.keep(rebuilding=round(time.monotonic() - began, 2))

    def learn_and_play(self, name: str, stop: Event, bar: Progress) -> Played:
        """Let an agent learn by cloning for some seconds, then let it play whole games."""
        from stable_baselines3.common.callbacks import BaseCallback

        from pretrainrl.finetuning.evaluation import evaluate
        from pretrainrl.integrations.sb3 import BehaviorCloning

        size, task = self.size, bar.add_task(name, total=self.size.seconds, note="")
        # Features of an agent that was interrupted would be a start that others do not have.
        shutil.rmtree(self.out / "cache" / "features", ignore_errors=True)
        with self.make_env(name) as (game, env):
            began = time.monotonic()

            def tick(note: str) -> None:
                bar.update(task, completed=min(time.monotonic() - began, size.seconds), note=note)
                if stop.is_set():
                    raise InterruptedRunError("interrupted")

            class UntilTimeIsOver(BaseCallback):
                first = 0.0

                def _on_step(self) -> bool:
                    self.first = self.first or time.monotonic() - began
                    tick("learning")
                    return time.monotonic() - began < size.seconds

            agent = BehaviorCloning(
                env=env,
                learning_rate=lambda _: RATE * max(0.02, 1 - (time.monotonic() - began) / size.seconds),
                batch_size=BATCH,
                n_epochs=1_000_000,
                seed=self.record.seed,
                **_policy(name),
            )
            clock = UntilTimeIsOver()
            tick("computing features" if name != NATURE else "")
            agent.learn(self.dataset, callback=clock)
            film = _Film(game, lambda: tick("playing"))
            scores, _ = evaluate(agent, env, size.episodes, self.record.seed, film, EPSILON)
        encoding = 0.0 if name == NATURE else round(clock.first, 2)
        epochs = round(agent.num_timesteps / self.transitions, 2)
        return Played(encoding=encoding, epochs=epochs, scores=tuple(scores), pictures=film.pictures(PICTURES))

    @property
    def transitions(self) -> int:
        return RECORDINGS.get(self.dataset.rsplit("/", 1)[-1]).transitions

    @contextmanager
    def make_env(self, name: str) -> Iterator[tuple[VecEnv, VecEnv]]:
        """Make the games, as they are and as the agent sees them."""
        from pretrainrl.integrations.sb3 import AtariVecEnv, VecEncodeObservation

        game = AtariVecEnv(
            self.record.game,
            self.size.episodes,
            terminal_on_life_loss=False,
            action_repeat_probability=0.0,
            max_episode_steps=self.size.max_episode_steps,
        )
        try:
            yield game, game if name == NATURE else VecEncodeObservation(game, name)
        finally:
            game.close()

    def write_page(self) -> Path:
        import torch

        record, card = self.record, RECORDINGS.get(self.dataset.rsplit("/", 1)[-1])
        low, player = all_scores()[record.game].random, card.returns.mean if card.returns else 0.0
        rows = [_row(name, played) for name, played in record.played.items()]
        top = max(player, low, *(row["high"] for row in rows))
        context = {
            "record": record,
            "size": self.size,
            "dataset": self.dataset,
            "card": card,
            "rows": rows,
            "random_score": low,
            "player_score": player,
            "scale": lambda value: 100 * max(0.0, value - min(low, 0)) / (top - min(low, 0)),
            "verdict": verdict(rows, low, fast=record.fast),
            "cores": f"{os.cpu_count()} CPU cores",
            "software": f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}",
        }
        return write_html(self.out / "index.html", "demo.html", context)


class _Film:
    """Keeps frames of the first game, and passes each step on."""

    EVERY = 8

    def __init__(self, game: VecEnv, on_step: Any) -> None:
        self._game, self._on_step, self._steps = game, on_step, 0
        self._frames: list[Any] = []

    def __call__(self) -> None:
        if self._steps % self.EVERY == 0:
            self._frames.append(self._game.get_images()[0])
        self._steps += 1
        self._on_step()

    def pictures(self, count: int) -> tuple[str, ...]:
        """Return so many frames as sources of `img`, or all if there are fewer."""
        import torch

        step = max(1, len(self._frames) // count)
        return tuple(data_uri(torch.from_numpy(frame[None, :, :, 0].copy())) for frame in self._frames[::step][:count])


def _policy(name: str) -> dict[str, Any]:
    from pretrainrl.integrations.sb3 import neck_policy_kwargs

    if name == NATURE:
        return {"policy": "CnnPolicy"}
    return {"policy": "MlpPolicy", "policy_kwargs": neck_policy_kwargs()}


def _row(name: str, played: Played) -> dict[str, Any]:
    """Return an agent's line of the table, with the bootstrap interval of its mean score."""
    import numpy as np

    from pretrainrl.benchmarking.aggregate import estimate, mean_of_games

    found = estimate(np.array(played.scores)[:, None], mean_of_games)
    return {
        "name": name,
        "title": LEARNERS[name],
        "played": played,
        "mean": found.value,
        "low": found.low,
        "high": found.high,
    }


def verdict(rows: list[dict[str, Any]], random_score: float, *, fast: bool) -> str:
    """Say in words what the agents reached, and what that is worth."""
    if fast:
        return "At this size nothing can be learned, and scores may be below random play: the page shows that everything works."
    first, *others = rows
    worse = [row["name"] for row in rows if row["high"] < random_score]
    ahead = [row["name"] for row in others if first["low"] > row["high"]]
    behind = [row["name"] for row in others if first["high"] < row["low"]]
    said = f"The agent on {first['name']} scores {first['mean']:.1f}; random play scores {random_score:.1f}."
    if ahead:
        said += f" Its interval is above that of {' and '.join(ahead)}."
    if behind:
        said += f" Its interval is below that of {' and '.join(behind)}."
    if not ahead and not behind:
        said += " The intervals overlap: these games do not decide between the agents."
    if worse:
        said += f" {' and '.join(worse)} ended below random play: a clone that copies most actions right can still get stuck."
    return said
