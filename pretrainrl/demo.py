"""The whole path in minutes on a CPU: frames, pre-training, agents, and one page about what was measured.

Each step is a facade function, which keeps what it has finished; what is added here is the order, the time and the page.
"""

from __future__ import annotations

import csv
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

import pretrainrl
from pretrainrl.agent_cards import AGENTS
from pretrainrl.cards import OBJECTIVES, Card, EncoderCard
from pretrainrl.errors import InputError
from pretrainrl.games import find_game
from pretrainrl.optional import require
from pretrainrl.paths import environment_variables
from pretrainrl.reports.charts import Chart, Line, line_chart
from pretrainrl.reports.pages import tile_uris, write_html
from pretrainrl.results import CollectResult, FinetuneResult
from pretrainrl.runs.folder import CONFIG, RunFolder
from pretrainrl.runs.interrupt import InterruptedRunError

if TYPE_CHECKING:
    from pretrainrl.integrations.minari.metadata import Summary

OBJECTIVE, BASELINE, PRESET, N_ENVS, SHOWN_PER_GAME = "siammae", "random", "minutes", 8, 2
STYLES = ("first", "second")  # of the pre-trained and the untrained encoder
LEARNING_RATE = 5e-4  # the preset's 1e-3, with a warm-up as short as the demo's, blows the features up a hundredfold

ResultT = TypeVar("ResultT")

# Arguments of the facade functions by their name.
FULL: dict[str, dict[str, Any]] = {
    "collect": {"steps": 8_000},
    "pretrain": {"steps": 200, "batch_size": 64},
    "finetune": {"steps": 14_000, "eval_freq": 2_000, "eval_episodes": 8, "max_episode_steps": 3_000},
}
FAST: dict[str, dict[str, Any]] = {
    "collect": {"steps": 400},
    "pretrain": {"steps": 40, "batch_size": 16},
    "finetune": {"steps": 400, "eval_freq": 200, "eval_episodes": 2, "max_episode_steps": 40},
}


class DemoRecord(Card):
    """What a demo was started with, and how long each finished step took in seconds."""

    games: tuple[str, str]
    fast: bool
    seed: int
    seconds: dict[str, float] = Field(default={})  # by game or encoder


class DemoFolder(RunFolder[DemoRecord]):
    """The folder of a demo, whose times may differ when it goes on."""

    def compared(self, settings: DemoRecord) -> Mapping[str, Any]:
        """Return what must be the same for a demo to go on."""
        return settings.model_dump(exclude={"seconds"}, mode="json")


def run_demo(games: Sequence[str], out: Path, *, fast: bool = False, seed: int = 0, resume: bool = False) -> Path:
    """Run the demo and return its page, `out/index.html`.

    Everything that it writes is under `out`, datasets and caches included.

    Args:
        games: Two games, in any spelling; the agents play the first.
        out: Folder of the demo.
        fast: Whether to do as little as possible of everything.
        seed: Seed of collection, pre-training and agents.
        resume: Whether to go on with the demo in `out`.

    Raises:
        InputError: The games are not two, or the folder holds something else.
        UnknownNameError: There is no such game.
        MissingExtraError: The extra `plot` is not installed.
        InterruptedRunError: SIGINT or SIGTERM asked to stop; what was finished is kept.
    """
    require("jinja2", "plot")
    slugs = [find_game(game).slug for game in games]
    if len(set(slugs)) != 2:
        raise InputError(f"the demo needs two different games, got {', '.join(games)}")
    out = out.expanduser().resolve()
    asked = DemoRecord(games=(slugs[0], slugs[1]), fast=fast, seed=seed)
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

    def run(self) -> Path:
        from pretrainrl.integrations.minari.metadata import check_dataset

        datasets = [self.timed(self.collect, game).datasets[0] for game in self.record.games]
        card = pretrainrl.register_encoder(self.pretrain(datasets))
        agents = {name: self.timed(self.finetune, name) for name in (card.name, BASELINE)}
        return self.write_page([check_dataset(name) for name in datasets], card, agents)

    def timed(self, work: Callable[[str], ResultT], step: str) -> ResultT:
        """Do a step for a game or an encoder; one that is finished takes no time, and keeps the time that it took."""
        began = time.monotonic()
        result = work(step)
        if step not in self.record.seconds:
            seconds = {**self.record.seconds, step: round(time.monotonic() - began, 2)}
            self.record = self.record.model_copy(update={"seconds": seconds})
            self.record.write(self.out / CONFIG)
        return result

    def collect(self, game: str) -> CollectResult:
        return pretrainrl.collect(game, n_envs=N_ENVS, seed=self.record.seed, resume=True, **self.size["collect"])

    def pretrain(self, datasets: Sequence[str]) -> Path:
        return pretrainrl.pretrain(
            OBJECTIVE,
            datasets,
            name=f"{OBJECTIVE}.demo",
            lr=LEARNING_RATE,
            seed=self.record.seed,
            out=self.out / "encoder",
            checkpoint_every=60,
            resume=True,
            **self.size["pretrain"],
        ).folder

    def finetune(self, encoder: str) -> FinetuneResult:
        return pretrainrl.finetune(
            "qrdqn",
            self.record.games[0],
            encoder,
            preset=PRESET,
            n_envs=N_ENVS,
            seed=self.record.seed,
            out=self.out / "agents" / encoder,
            resume=True,
            **self.size["finetune"],
        )

    def write_page(self, datasets: Sequence[Summary], card: EncoderCard, agents: dict[str, FinetuneResult]) -> Path:
        import torch

        training, record, folder = card.training, self.record, self.out / "encoder"
        assert training is not None, "an encoder that was just pre-trained"
        with (folder / "metrics.csv").open(newline="") as file:
            losses = [(float(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]
        played = [float(each["return"]) for each in datasets[0].episodes if each["ends_by"] != "cut"]
        tuned = [
            {"encoder": name, "style": style, "title": title, "scores": agents[name].scores, "seconds": record.seconds[name]}
            for name, style, title in zip(agents, STYLES, ("pre-trained", "untrained"), strict=True)
        ]
        context = {
            "record": record,
            "collected": [(game, data, record.seconds[game]) for game, data in zip(record.games, datasets, strict=True)],
            "seconds": sum(record.seconds.values()) + 60 * training.minutes,
            "card": card,
            "training": training,
            "losses": losses,
            "windows_per_second": training.steps * training.batch_size / (60 * training.minutes),
            "pictures": _pictures(folder, training.datasets, record.seed),
            "loss_chart": line_chart([Line("", "first", losses)], "optimizer steps", "loss", height=200),
            "agents": tuned,
            "agent_steps": self.size["finetune"]["steps"],
            "random_scores": played,
            "learning_chart": _learning_chart(agents, played),
            "verdict": _verdict(record.fast, [result.scores for result in agents.values()]),
            "settings": AGENTS.get("qrdqn").preset(PRESET).scaled(self.size["finetune"]["steps"], N_ENVS).flat(),
            "encoder_path": str(folder),
            "cores": f"{os.cpu_count()} CPU cores",
            "software": f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}",
        }
        return write_html(self.out / "index.html", "demo.html", context)


def _learning_chart(agents: dict[str, FinetuneResult], played: Sequence[float]) -> Chart:
    lines = [
        Line(name, style, [(float(each.timestep), each.mean) for each in result.evaluations])
        for (name, result), style in zip(agents.items(), STYLES, strict=True)
    ]
    if played:
        lines.append(Line("random play", "level", [(0.0, statistics.fmean(played))]))
    return line_chart(lines, "environment steps", "score of a game")


def _pictures(folder: Path, datasets: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Return a few rows of the run folder's figure, each with its game and three pictures as data URIs."""
    from torchvision.io import decode_image

    from pretrainrl.data.sampler import WindowSampler
    from pretrainrl.integrations.minari import cache_datasets
    from pretrainrl.pretraining.loop import FIGURE_WINDOWS
    from pretrainrl.registry import import_target

    cache, window = cache_datasets(datasets), import_target(OBJECTIVES.get(OBJECTIVE).target).window
    games = WindowSampler(cache, window, FIGURE_WINDOWS, seed=seed).batch(0).games.tolist()  # as the loop drew them
    tiles = tile_uris(decode_image(str(folder / "figures" / "reconstruction.png")))
    rows = [{"game": cache.games[game], "images": tiles[3 * number : 3 * number + 3]} for number, game in enumerate(games)]
    return [row for game in cache.games for row in [row for row in rows if row["game"] == game][:SHOWN_PER_GAME]]


def _verdict(fast: bool, scores: Sequence[Sequence[float]]) -> str:
    """Say in words what the agents reached, and what that is worth."""
    if fast:
        return "At this size nothing can be learned: the curves show that everything works, and no more."
    pretrained, untrained = map(statistics.fmean, scores)
    difference, spread = abs(pretrained - untrained), max(map(statistics.pstdev, scores))
    if difference <= spread:
        return (
            f"The two agents' mean scores differ by {difference:.1f}, less than the scores of one agent's {len(scores[0])} "
            f"games vary (standard deviation {spread:.1f}): no difference can be seen."
        )
    ahead = "pre-trained" if pretrained > untrained else "untrained"
    return (
        f"The agent on {ahead} features is ahead by {difference:.1f} points a game. With one run of each, that is an "
        "observation and not a result."
    )
