"""The demo's page: one file that needs nothing else."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.io import decode_image

from pretrainrl.cards import OBJECTIVES, EncoderCard
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.demo.agent import QRDQN_SETTINGS, Agent
from pretrainrl.demo.curves import Chart, Line, line_chart, smooth
from pretrainrl.demo.steps import OBJECTIVE, RAW_FRAME_BYTES, Collected, loss_curve
from pretrainrl.integrations.minari import cache_datasets
from pretrainrl.pretraining.loop import FIGURE_WINDOWS
from pretrainrl.registry import import_target
from pretrainrl.reports.pages import data_uri, write_html

PADDING = 2  # of the tiles in a run folder's figure
TILE = 84
SHOWN_PER_GAME = 2
HABIT = 0.95  # share of one action from which on an agent is said not to look
SMOOTHING = 6  # points of a learning curve


@dataclass(frozen=True)
class Measured:
    """What the demo's steps gave.

    Attributes:
        fast: whether the demo did as little as possible.
        seed: of everything.
        collected: one for each game; the agents played the first.
        card: of the encoder.
        agents: on the pre-trained encoder and on the untrained one.
    """

    fast: bool
    seed: int
    collected: Sequence[Collected]
    card: EncoderCard
    agents: Sequence[Agent]


def write_page(out: Path, measured: Measured) -> Path:
    """Write `out/index.html` from what was measured and from the run folder `out/encoder`."""
    filters: dict[str, Callable[..., Any]] = {"number": _number, "duration": _duration, "quoted": json.dumps, "zip": zip}
    return write_html(out / "index.html", Path(__file__).with_name("template.html"), _context(out, measured), **filters)


def _context(out: Path, measured: Measured) -> dict[str, Any]:
    """Everything that the template shows."""
    training = measured.card.training
    assert training is not None, "an encoder that was just pre-trained"
    losses = loss_curve(out / "encoder")
    pretrained, untrained = measured.agents
    seconds = [*(item.seconds for item in measured.collected), 60 * training.minutes, pretrained.seconds, untrained.seconds]
    return {
        "measured": measured,
        "card": measured.card,
        "training": training,
        "pretrained": pretrained,
        "untrained": untrained,
        "game": pretrained.game,
        "random_play": measured.collected[0],
        "seconds": sum(seconds),
        "losses": losses,
        "windows_per_second": training.steps * training.batch_size / (60 * training.minutes),
        "raw_frame_bytes": RAW_FRAME_BYTES,
        "pictures": _pictures(out / "encoder", training.datasets, measured.seed),
        "loss_chart": line_chart([Line("", "pretrained", losses)], "optimiser steps", "loss", height=200),
        "learning_chart": _learning_chart(measured),
        "verdict": _verdict(measured),
        "settings": QRDQN_SETTINGS,
        "encoder_path": str(out / "encoder"),
        "cores": f"{os.cpu_count()} CPU cores",
        "software": f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}",
        "version": version("pretrainrl"),
        "mean": statistics.fmean,
    }


def _pictures(folder: Path, datasets: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """A few rows of the run folder's figure, each with its game and three pictures as data URIs."""
    cache = cache_datasets(datasets)
    window = import_target(OBJECTIVES.get(OBJECTIVE).target).window
    games = WindowSampler(cache, window, FIGURE_WINDOWS, seed=seed).batch(0).games.tolist()  # as the loop drew them
    tiles = _tiles(decode_image(str(folder / "figures" / "reconstruction.png")))
    rows = [
        {"game": cache.games[game], "images": [data_uri(tile) for tile in tiles[3 * number : 3 * number + 3]]}
        for number, game in enumerate(games)
    ]
    return [row for game in cache.games for row in [row for row in rows if row["game"] == game][:SHOWN_PER_GAME]]


def _tiles(figure: Tensor) -> list[Tensor]:
    """Cut a figure (C, H, W) with its padding into tiles (1, 84, 84), row by row."""
    _, height, width = figure.shape
    places = [(y, x) for y in range(PADDING, height, TILE + PADDING) for x in range(PADDING, width, TILE + PADDING)]
    return [figure[:1, y : y + TILE, x : x + TILE] for y, x in places]


def _learning_chart(measured: Measured) -> Chart:
    lines = []
    for agent, style in zip(measured.agents, ("pretrained", "untrained"), strict=True):
        xs = [agent.steps * (i + 1) / len(agent.reward_rates) for i in range(len(agent.reward_rates))]
        lines.append(Line("", f"{style} faint", list(zip(xs, agent.reward_rates, strict=True))))
        smoothed = smooth(agent.reward_rates, SMOOTHING)
        lines.append(Line(agent.encoder, style, list(zip(xs, smoothed, strict=True))))
    random_play = measured.collected[0].reward_rate
    lines.append(Line("random play", "baseline", [(0, random_play)]))
    return line_chart(lines, "environment steps", "rewards per 1,000 steps")


def _verdict(measured: Measured) -> str:
    """Say in words what the agents reached, and what that is worth."""
    if measured.fast:
        return "At this size nothing can be learned: the curves show that everything works, and no more."
    idle = [agent.encoder for agent in measured.agents if agent.habit_share > HABIT]
    if idle:
        return (
            f"The agent on {' and the one on '.join(idle)} plays almost nothing but one action (see the table): that may "
            "score, but it does not depend on what is seen, so the encoders are not compared by it."
        )
    pretrained, untrained = (statistics.fmean(agent.returns) for agent in measured.agents)
    spread = max(statistics.pstdev(agent.returns) for agent in measured.agents)
    games = len(measured.agents[0].returns)
    if abs(pretrained - untrained) <= spread:
        return (
            f"The two agents' mean scores differ by {abs(pretrained - untrained):.1f}, less than the scores of one agent's "
            f"{games} games vary (standard deviation {spread:.1f}): no difference can be seen."
        )
    ahead = "pre-trained" if pretrained > untrained else "untrained"
    return (
        f"The agent on {ahead} features is ahead by {abs(pretrained - untrained):.1f} points a game. With one run of each, "
        "that is an observation and not a result."
    )


def _number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def _duration(seconds: float) -> str:
    """`65` -> `1 min 5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s" if seconds >= 10 else f"{seconds:.1f} s"
