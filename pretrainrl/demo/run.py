"""The demo from start to page. What a step has finished is kept, and a later call goes on after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import TypeVar

from rich.console import Console

from pretrainrl.cards import Card
from pretrainrl.demo.agent import Agent, fine_tune
from pretrainrl.demo.page import Measured, write_page
from pretrainrl.demo.steps import ENCODER, FAST, FULL, Collected, Size, collect, pretrain
from pretrainrl.errors import InputError
from pretrainrl.games import find_game
from pretrainrl.optional import require
from pretrainrl.paths import environment_variables
from pretrainrl.progress import progress_bar
from pretrainrl.runs.folder import RunFolder
from pretrainrl.runs.interrupt import InterruptedRunError, stop_requests

BASELINE = "random"

ResultT = TypeVar("ResultT", Collected, Agent)


class Settings(Card):
    """What a demo was started with; it goes on with the same only."""

    games: tuple[str, str]
    fast: bool
    seed: int


def run_demo(games: Sequence[str], out: Path, *, fast: bool = False, seed: int = 0, resume: bool = False) -> Path:
    """Run the demo and return its page, `out/index.html`.

    Everything it writes lies under `out`, datasets and caches included.

    Args:
        games: two, in any spelling; the agents play the first.
        out: folder.
        fast: as little as possible of everything.
        seed: of collection, pre-training and agents.
        resume: go on with the demo in `out`.

    Raises:
        InputError: for games or a folder that will not do.
        UnknownNameError: for a game that does not exist.
        MissingExtraError: when the extra `plot` is not installed.
        InterruptedRunError: when asked to stop by SIGINT or SIGTERM; what was finished is kept.
    """
    require("jinja2", "plot")
    slugs = [find_game(game).slug for game in games]
    if len(set(slugs)) != 2:
        raise InputError(f"the demo needs two different games, got {', '.join(games)}")
    out = out.expanduser().resolve()
    settings = Settings(games=(slugs[0], slugs[1]), fast=fast, seed=seed)
    folder = RunFolder(out, Settings, resume=resume)
    folder.check(settings)
    own = environment_variables(MINARI_DATASETS_PATH=str(out / "datasets"), PRETRAINRL_HOME=str(out / "cache"))
    with folder.opened(settings), own, stop_requests() as stop:
        try:
            return _Demo(out, settings, stop).run()
        except (InterruptedRunError, KeyboardInterrupt) as error:
            raise InterruptedRunError(
                f"stopped; what was finished is kept, go on with the same command and --resume ({out})"
            ) from error


class _Demo:
    """The steps in order, each with its progress bar."""

    def __init__(self, out: Path, settings: Settings, stop: Event) -> None:
        self.out, self.settings, self.stop = out, settings, stop
        self.size: Size = FAST if settings.fast else FULL
        self.console = Console(stderr=True, highlight=False)

    def run(self) -> Path:
        minutes = "less than a minute" if self.settings.fast else "about five minutes"
        self.console.print(f"{minutes} on two CPU cores; everything is written to {self.out}", soft_wrap=True)
        collected = [self.collect(game) for game in self.settings.games]
        self.check_stop()
        card = pretrain([item.dataset for item in collected], self.size, self.settings.seed, self.out / "encoder")
        self.check_stop()
        agents = [self.fine_tune(encoder) for encoder in (ENCODER, BASELINE)]
        measured = Measured(self.settings.fast, self.settings.seed, collected, card, agents)
        return write_page(self.out, measured)

    def collect(self, game: str) -> Collected:
        def work(report: Callable[[int, str], None]) -> Collected:
            return collect(game, self.size, self.settings.seed, lambda new: report(new, ""))

        return self.once(Collected, f"collect {game}", self.size.transitions, work)

    def fine_tune(self, encoder: str) -> Agent:
        def work(report: Callable[[int, str], None]) -> Agent:
            return fine_tune(self.settings.games[0], encoder, self.size, self.settings.seed, report)

        return self.once(Agent, f"QR-DQN on {encoder}", self.size.agent_steps, work)

    def once(
        self, kind: type[ResultT], name: str, total: int, work: Callable[[Callable[[int, str], None]], ResultT]
    ) -> ResultT:
        """Return what `work` returned in this demo before; else let it work, and keep what it returns."""
        path = self.out / "results" / f"{name.replace(' ', '-').lower()}.toml"
        if path.exists():
            return kind.read(path)
        self.check_stop()
        began = time.monotonic()
        with progress_bar() as bar:
            task = bar.add_task(name, total=total, note="")

            def report(new: int, note: str) -> None:
                bar.update(task, advance=new, note=note)
                self.check_stop()

            result = work(report)
        result = result.model_copy(update={"seconds": round(time.monotonic() - began, 2)})
        result.write(path)
        return result

    def check_stop(self) -> None:
        if self.stop.is_set():
            raise InterruptedRunError("stopped")
