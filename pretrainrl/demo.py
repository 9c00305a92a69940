"""The whole path in minutes on a CPU: a recording is played again, three agents learn from it, and one page shows them play.

All agents see the same game, the same data and the same number of seconds; the time in which features are computed counts.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

from pretrainrl.arguments import check_seed
from pretrainrl.cards import Card
from pretrainrl.commands import collect
from pretrainrl.dataset_cards import RECORDINGS
from pretrainrl.errors import UnknownNameError
from pretrainrl.games import all_scores, find_game
from pretrainrl.optional import require
from pretrainrl.paths import environment_variables, output_folder
from pretrainrl.progress import progress_bar
from pretrainrl.reports.pages import data_uri, write_html
from pretrainrl.runs.folder import RunFolder
from pretrainrl.runs.interrupt import InterruptedRunError, stop_requests

if TYPE_CHECKING:
    from rich.progress import Progress
    from stable_baselines3.common.vec_env import VecEnv

# What each agent learns on: an encoder's features, or pixels with a network of its own.
NATURE, RATE, BATCH, EPSILON, PICTURES, RANDOM_PLAY = "nature", 1e-3, 256, 0.001, 8, 512
LEARNERS = {"atc": "pre-trained, frozen", "random": "untrained, frozen", NATURE: "NatureCNN, learning end to end"}


class DemoSize(NamedTuple):
    """Seconds that each agent learns, whole games that it then plays, and steps after which a game is cut."""

    seconds: float
    episodes: int
    max_episode_steps: int


FULL, FAST = DemoSize(45.0, 8, 2_000), DemoSize(3.0, 2, 60)


class Played(Card):
    """What one agent did.

    Attributes:
        encoding: Seconds in which its features were computed.
        learning: Seconds in which it learned, the rest of its time.
        epochs: Passes over the data in these.
        scores: Raw score of each game.
        pictures: PNG images of its first game, as sources of `img`, evenly spread over time.
    """

    encoding: float
    learning: float
    epochs: float
    scores: tuple[float, ...]
    pictures: tuple[str, ...]


class DemoRecord(Card):
    """What a demo was started with."""

    game: str
    fast: bool
    seed: int


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
    check_seed(seed)
    out = output_folder(out)
    require("jinja2", "plot")
    slug, suffix = find_game(game).slug, "-expert-v0"
    if slug + suffix not in RECORDINGS.names():
        known = [name.removesuffix(suffix) for name in RECORDINGS.names(f"*{suffix}")]
        raise UnknownNameError.of("game with an expert's recording", slug, known)
    asked = DemoRecord(game=slug, fast=fast, seed=seed)
    folder = RunFolder(out, DemoRecord, resume=resume)
    folder.check(asked)
    own = environment_variables(MINARI_DATASETS_PATH=str(out / "datasets"), PRETRAINRL_HOME=str(out / "cache"))
    with folder.opened(asked), own:
        try:
            return _Demo(out, asked).run()
        except (InterruptedRunError, KeyboardInterrupt) as error:
            raise InterruptedRunError(f"stopped; go on with the same command and --resume ({out})") from error


class _Demo:
    """The steps in order."""

    def __init__(self, out: Path, record: DemoRecord) -> None:
        self.out, self.record = out, record
        self.size = FAST if record.fast else FULL
        self.card = RECORDINGS.get(f"{record.game}-expert-v0")
        # An expert's recording takes longer to be played again than the rest of the smallest demo.
        self.transitions = RANDOM_PLAY if record.fast else self.card.transitions
        self.dataset = f"pretrainrl/atari/{record.game}-{'random' if record.fast else 'expert'}-v0"

    def run(self) -> Path:
        from pretrainrl.integrations.minari import cache_datasets

        if self.record.fast:
            collect(self.record.game, steps=RANDOM_PLAY, seed=self.record.seed, resume=True, progress=False)
        cache_datasets([self.dataset])  # plays the recording again, and unpacks its frames, if they are not there
        played: dict[str, Played] = {}
        with stop_requests() as stop, progress_bar() as bar:
            for name in LEARNERS:
                file = self.out / f"{name}.toml"
                if not file.exists():
                    self.learn_and_play(name, stop, bar).write(file)
                played[name] = Played.read(file)
        return self.write_page(played)

    def learn_and_play(self, name: str, stop: Event, bar: Progress) -> Played:
        """Let an agent learn by cloning for some seconds, then let it play whole games."""
        from pretrainrl.finetuning.evaluation import evaluate
        from pretrainrl.integrations.sb3 import BehaviorCloning, VecEncodeObservation, neck_policy_kwargs

        # Features of an agent that was interrupted would be a start that others do not have.
        shutil.rmtree(self.out / "cache" / "features", ignore_errors=True)
        task, frames = bar.add_task(name, total=self.size.seconds, note="preparing"), list[Any]()
        with closing(self.make_game()) as game:
            env = game if name == NATURE else VecEncodeObservation(game, name)
            began = time.monotonic()

            def share_left(note: str) -> float:
                share = (time.monotonic() - began) / self.size.seconds
                bar.update(task, completed=min(1.0, share) * self.size.seconds, note=note)
                if stop.is_set():
                    raise InterruptedRunError("interrupted")
                return 1 - share

            def watch() -> None:
                frames.append(game.get_images()[0])
                share_left("playing")

            agent = BehaviorCloning(
                "CnnPolicy" if name == NATURE else "MlpPolicy",
                env,
                learning_rate=lambda _: RATE * max(0.02, share_left("learning")),
                batch_size=BATCH,
                n_epochs=1_000_000,
                seed=self.record.seed,
                policy_kwargs=None if name == NATURE else neck_policy_kwargs(),
            )
            times: list[float] = []

            def step(_: Any, __: Any) -> bool:
                times.append(time.monotonic() - began)
                return share_left("learning") > 0

            agent.learn(self.dataset, callback=step)
            scores, _ = evaluate(agent, env, self.size.episodes, self.record.seed, watch, EPSILON)
        encoding = 0.0 if name == NATURE else times[0]
        return Played(
            encoding=round(encoding, 2),
            learning=round(times[-1] - encoding, 2),
            epochs=round(agent.num_timesteps / self.transitions, 2),
            scores=tuple(scores),
            pictures=_pictures(frames),
        )

    def make_game(self) -> VecEnv:
        from pretrainrl.integrations.sb3 import AtariVecEnv

        rules: dict[str, Any] = {"terminal_on_life_loss": False, "action_repeat_probability": 0.0}
        return AtariVecEnv(self.record.game, self.size.episodes, max_episode_steps=self.size.max_episode_steps, **rules)

    def write_page(self, played: Mapping[str, Played]) -> Path:
        import torch

        record, card = self.record, self.card
        low, player = all_scores()[record.game].random, card.returns.mean if card.returns else 0.0
        rows = [_row(name, each) for name, each in played.items()]
        top = max(player, low, *(row["high"] for row in rows))
        context = {
            "record": record,
            "size": self.size,
            "dataset": self.dataset,
            "card": card,
            "transitions": self.transitions,
            "rows": rows,
            "random_score": low,
            "player_score": player,
            "scale": lambda value: 100 * max(0.0, value - min(low, 0)) / (top - min(low, 0)),
            "verdict": verdict(rows, low, fast=record.fast),
            "machine": f"{os.cpu_count()} CPU cores, Python {platform.python_version()}, torch {torch.__version__}",
        }
        return write_html(self.out / "index.html", "demo.html", context)


def _pictures(frames: Sequence[Any]) -> tuple[str, ...]:
    """Return frames (84, 84, 3) uint8, gray, as sources of `img`, evenly spread over time."""
    import torch

    chosen = frames[:: max(1, len(frames) // PICTURES)][:PICTURES]
    return tuple(data_uri(torch.from_numpy(frame[None, :, :, 0].copy())) for frame in chosen)


def _row(name: str, played: Played) -> dict[str, Any]:
    """Return an agent's line of the table, with the bootstrap interval of its mean score."""
    import numpy as np

    from pretrainrl.benchmarking.aggregate import estimate, mean_of_games

    mean = estimate(np.array(played.scores)[:, None], mean_of_games)
    return {"name": name, "title": LEARNERS[name], "played": played, "mean": mean.value, "low": mean.low, "high": mean.high}


def verdict(rows: list[dict[str, Any]], random_score: float, *, fast: bool) -> str:
    """Say in words what the agents reached, and what that is worth."""
    if fast:
        return "At this size nothing can be learned; scores may be below random play. The page shows that everything works."
    first, *others = rows
    worse = [row["name"] for row in rows if row["high"] < random_score]
    ahead = [row["name"] for row in others if first["low"] > row["high"]]
    behind = [row["name"] for row in others if first["high"] < row["low"]]
    said = f"The agent on {first['name']} scores {first['mean']:.1f}; random play scores {random_score:.1f}."
    for names, word in ((ahead, "above"), (behind, "below")):
        said += f" Its interval is {word} that of {' and '.join(names)}." if names else ""
    if not ahead and not behind:
        said += " The intervals overlap: these games do not decide between the agents."
    if worse:
        said += f" {' and '.join(worse)} ended below random play: a clone that copies most actions right can still get stuck."
    return said
