"""The whole objective of a finished run, for what needs more of it than the encoder, such as play without fine-tuning."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pretrainrl.cards import EncoderCard
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.data.windows import Returns, discounted_returns
from pretrainrl.device import resolve_device
from pretrainrl.encoders import make_backbone
from pretrainrl.encoders.factory import load_tensors
from pretrainrl.errors import InputError, WeightsError
from pretrainrl.objectives import Objective, make_objective
from pretrainrl.paths import atomic_path
from pretrainrl.pretraining.config import PretrainConfig
from pretrainrl.runs.folder import CONFIG
from pretrainrl.weights import FileContent, fetch, parse_metadata, parse_tensors, save_tensors

FILE = "objective.safetensors"


@dataclass(frozen=True, eq=False)
class TrainedObjective:
    """A trained objective and the games that it knows.

    Attributes:
        name: Registered name of the objective.
        objective: Objective in eval mode, without gradients.
        games: Slugs of the games; the index of each is its number in the objective's heads.
        best_returns: Greatest sum of the signs of an episode's rewards in the data, for each game.
    """

    name: str
    objective: Objective
    games: tuple[str, ...]
    best_returns: tuple[float, ...]


def save_objective(folder: Path, objective: Objective, cache: FrameCache) -> None:
    """Write the objective's float32 weights, and the names and best returns of its games, into a run folder."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in objective.state_dict().items()}
    metadata = {"games": json.dumps(cache.games), "best_returns": json.dumps(best_returns(cache))}
    with atomic_path(folder / FILE) as temporary:
        save_tensors(tensors, temporary, metadata)


def best_returns(cache: FrameCache) -> list[float]:
    """Return the greatest sum of the signs of rewards among each game's episodes.

    Episodes that were cut before the game was over do not count where a game has others: in Pong, an episode's first steps
    look better than any whole episode.
    """
    sums = discounted_returns(cache, Returns())[cache.starts]
    over = cache.terminations[cache.starts + cache.lengths - 1]
    best = []
    for game in range(len(cache.games)):
        mine = cache.game_ids == game
        whole = mine & over
        best.append(sums[whole if whole.any() else mine].max().item())
    return best


def load_objective(run: str | Path, device: str | torch.device = "cpu") -> TrainedObjective:
    """Read the objective of a run folder that `pretrain` has finished.

    Args:
        run: Folder of the run.
        device: Device of the objective.

    Raises:
        InputError: The folder holds no finished run.
        WeightsError: The weights are damaged or do not fit the configuration.
    """
    path = Path(run) / FILE
    if not path.is_file():
        raise InputError(f"{run} holds no finished pre-training run: there is no {FILE} in it")
    file = check_objective(path)
    config = PretrainConfig.read(Path(run) / CONFIG)
    tensors, (games, returns) = parse_tensors(file), read_games(file)
    backbone = make_backbone(config.backbone, **dict[str, Any](config.backbone_options))
    with torch.random.fork_rng(devices=[]):
        objective = make_objective(config.objective, encoder=backbone, num_games=len(games), **config.model)
    load_tensors(objective, tensors, str(path))
    objective = objective.requires_grad_(False).eval().to(resolve_device(device))
    return TrainedObjective(config.objective, objective, games, returns)


def check_objective(path: Path) -> FileContent:
    """Read the file of an objective, and check that it is what the card beside it was written for.

    Raises:
        WeightsError: The file is missing or damaged.
        CardError: The card is damaged.
    """
    card = path.with_name(EncoderCard.FILE)
    training = EncoderCard.read(card).training if card.is_file() else None
    expected = None if training is None else training.objective_sha256
    try:
        return fetch([str(path)], expected)
    except WeightsError as error:
        remedy = f"delete {card} and go on with --resume to write both again"
        raise WeightsError(f"{path} is not what the run has written; {remedy}") from error


def read_games(file: FileContent) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return names and best returns of the games that the file of an objective is for.

    Raises:
        WeightsError: The file does not say what they are.
    """
    metadata = parse_metadata(file)
    try:
        games, returns = json.loads(metadata["games"]), json.loads(metadata["best_returns"])
        return tuple(str(game) for game in games), tuple(float(value) for value in returns)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise WeightsError(f"{file.path} does not say what its games are: {error!r}") from error
