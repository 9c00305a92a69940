"""What the demo does before an agent plays: frames of the games, and an encoder pre-trained on them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import pretrainrl
from pretrainrl.cards import Card, EncoderCard
from pretrainrl.integrations.minari import collect_dataset, dataset_id, open_dataset

OBJECTIVE = "siammae"
LEARNING_RATE = 5e-4  # the preset's 1e-3, with a warm-up as short as the demo's, blows the features up a hundredfold
ENCODER = f"{OBJECTIVE}.demo"
RAW_FRAME_BYTES = 84 * 84

Tick = Callable[[int], None]


@dataclass(frozen=True)
class Size:
    """How much the demo does.

    Attributes:
        transitions: collected of each game.
        pretraining_steps: of the optimiser.
        batch_size: windows a step.
        agent_steps: transitions that each agent learns from.
        evaluation_games: played by each agent after learning.
        evaluation_steps: after which such a game is cut.
    """

    transitions: int
    pretraining_steps: int
    batch_size: int
    agent_steps: int
    evaluation_games: int
    evaluation_steps: int


FULL = Size(8_000, 200, 64, 14_000, 8, 3_000)
FAST = Size(400, 40, 16, 800, 2, 40)


class Collected(Card):
    """What was seen of one game, played at random.

    Attributes:
        game: slug.
        dataset: Minari id.
        transitions: in it.
        frames: in it, final observations included.
        bytes_per_frame: on disk, everything else in the dataset included.
        reward_rate: gains minus losses per 1,000 transitions, however large each.
        returns: scores of the games that were played to their end.
        seconds: it took.
    """

    game: str
    dataset: str
    transitions: int
    frames: int
    bytes_per_frame: float
    reward_rate: float
    returns: tuple[float, ...] = ()
    seconds: float = 0


def collect(game: str, size: Size, seed: int, tick: Tick) -> Collected:
    """Play `game` at random and write what was seen as a dataset; `tick` is told of new transitions."""
    name = dataset_id(game)
    collect_dataset(game, size.transitions, seed=seed, progress=tick, overwrite=True)
    dataset = open_dataset(name)
    episodes = list(dataset)
    frames = sum(len(episode.frames) for episode in episodes)
    stored = sum(path.stat().st_size for path in Path(dataset.minari.storage.data_path).iterdir())
    points = sum(float(np.sign(episode.rewards).sum()) for episode in episodes)
    return Collected(
        game=game,
        dataset=name,
        transitions=size.transitions,
        frames=frames,
        bytes_per_frame=stored / frames,
        reward_rate=1000 * points / size.transitions,
        returns=tuple(float(episode.rewards.sum()) for episode in episodes if episode.metadata["ends_by"] != "cut"),
    )


def pretrain(datasets: Sequence[str], size: Size, seed: int, folder: Path) -> EncoderCard:
    """Pre-train in the run folder `folder`, or go on there, and register the encoder that comes out."""
    pretrainrl.pretrain(
        OBJECTIVE,
        datasets,
        name=ENCODER,
        steps=size.pretraining_steps,
        batch_size=size.batch_size,
        lr=LEARNING_RATE,
        seed=seed,
        out=folder,
        checkpoint_every=60,
        resume=folder.exists(),
    )
    return pretrainrl.register_encoder(folder)


def loss_curve(folder: Path) -> list[tuple[float, float]]:
    """Return (step, loss) as the run folder logged them."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [(float(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]
