"""What each run of the comparison of necks does, and the file that it leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments import EVALUATION_SEED
from minari import MinariDataset
from neck_cells import Cell
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import set_random_seed

from pretrainrl.agent_cards import AGENTS
from pretrainrl.errors import InputError
from pretrainrl.finetuning.evaluation import evaluate
from pretrainrl.integrations.minari import AtariDataset, open_dataset
from pretrainrl.integrations.sb3 import AtariVecEnv, BehaviorCloning, Rainbow, VecEncodeObservation, neck_policy_kwargs
from pretrainrl.integrations.sb3.agents import arguments_of
from pretrainrl.integrations.sb3.behavior_cloning.demonstrations import Demonstrations, open_demonstrations
from pretrainrl.malloc import keep_freed_memory
from pretrainrl.networks.optimization import WarmupCosine
from pretrainrl.paths import atomic_path

Result = dict[str, Any]
Report = Callable[[int], None]

DATASET = "pretrainrl/atari/{game}-expert-v0"
TRAINING, HELD_OUT = 6_000, 4_000  # transitions, about: episodes are not cut
EPOCHS = 10
N_ENVS = 8
EPISODES, LONGEST = 16, 4_500  # games of an evaluation, and agent steps of one


def run_cell(cells: dict[str, Cell], out: Path, steps: int, name: str, report: Report) -> str:
    """Make one run on one core and write its result, whole or not at all.

    Args:
        cells: All runs by name.
        out: Folder of results.
        steps: Steps of Rainbow, of all environments together.
        name: Name of the run to make.
        report: Function that is called with the number of new steps, or of clones.

    Returns:
        Result in a few words.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    cell, began = cells[name], time.perf_counter()
    set_random_seed(cell.seed)
    result = clone(cell) if cell.task == "bc" else learn(cell, steps, report)
    with atomic_path(cell.file(out)) as temporary:
        temporary.write_text(json.dumps(result, indent=1), encoding="utf-8")
    if cell.task == "bc":
        report(1)
    return f"{name}: {result['score']:.3f}, {time.perf_counter() - began:.0f} s"


def encoded(cell: Cell, n_envs: int, seed: int, **settings: Any) -> VecEncodeObservation:
    """Make games whose observations are the features that a run's neck reads. Actions do not stick."""
    games = AtariVecEnv(cell.game, n_envs, seed=seed, action_repeat_probability=0.0, num_threads=1, **settings)
    return VecEncodeObservation(games, cell.encoder, features=cell.setting.features)


def clone(cell: Cell) -> Result:
    """Clone recorded play, and score the clone on episodes that it has not seen.

    The package keeps on disk what an encoder makes of a dataset, so all necks and seeds share one pass of it.
    """
    dataset = expert_dataset(cell.game)
    training, held_out = split_episodes(episode_lengths(cell.game), cell.seed)
    env = encoded(cell, 1, cell.seed)
    model = BehaviorCloning(
        "MlpPolicy",
        env,
        learning_rate=WarmupCosine(1e-3),
        batch_size=256,
        n_epochs=EPOCHS,
        policy_kwargs=neck_policy_kwargs(**cell.setting.arguments),
        seed=cell.seed,
        device="cpu",
    )
    began = time.perf_counter()
    model.learn(episodes_of(dataset, training))
    seconds = time.perf_counter() - began
    seen, unseen = (
        open_demonstrations(model, episodes_of(dataset, part), pixels=False, progress=False) for part in (training, held_out)
    )
    labels = actions(unseen)
    return {
        "score": accuracy(model, unseen),
        "majority": float((labels == actions(seen).mode().values).float().mean()),
        "transitions": sum(episode_lengths(cell.game)),
        "training": len(seen),
        "held_out": len(unseen),
        "seconds": seconds,
        "dataset": dataset.id,
        **facts(env),
    }


def learn(cell: Cell, steps: int, report: Report) -> Result:
    """Let Rainbow learn a game, and then play whole games that began with other seeds."""
    env = encoded(cell, N_ENVS, 1_000 * cell.seed)
    settings = arguments_of(AGENTS.get("rainbow").preset("short").scaled(steps, N_ENVS))
    model = Rainbow(
        "MlpPolicy",
        env,
        policy_kwargs=neck_policy_kwargs(**cell.setting.arguments),
        seed=cell.seed,
        device="cpu",
        **{**settings, "buffer_size": steps},
    )
    began = time.perf_counter()
    model.learn(steps, callback=ReportSteps(report))
    seconds = time.perf_counter() - began
    games = encoded(cell, N_ENVS, 0, terminal_on_life_loss=False, max_episode_steps=min(LONGEST, steps))
    scores, _ = evaluate(model, games, EPISODES, EVALUATION_SEED + 1_000 * cell.seed, lambda: report(0), 0.001)
    return {"score": float(np.mean(scores)), "scores": scores, "steps": steps, "seconds": seconds, **facts(env)}


def facts(env: VecEncodeObservation) -> Result:
    """Say what the features were computed by and in."""
    return {"sha256": env.encoder.sha256, "dtype": str(env.encoder.dtype).removeprefix("torch.")}


class ReportSteps(BaseCallback):
    """Reports the steps of an agent while it learns, which may raise an error to stop it."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report

    def _on_step(self) -> bool:
        self._report(self.training_env.num_envs)
        return True


@cache
def expert_dataset(game: str) -> AtariDataset:
    """Open a game's recorded play, once in a process; where it is not there, the package builds it from its recording."""
    return open_dataset(DATASET.format(game=game))


@cache
def episode_lengths(game: str) -> tuple[int, ...]:
    """Transitions of each episode of a game's recorded play."""
    minari = expert_dataset(game).minari
    return tuple(int(facts["total_steps"]) for facts in minari.storage.get_episode_metadata(minari.episode_indices))


def split_episodes(lengths: Sequence[int], seed: int) -> tuple[list[int], list[int]]:
    """Choose episodes to learn from, of about 6,000 transitions, and others to score on, of about 4,000.

    Both are made smaller in proportion where there are fewer transitions.

    Raises:
        InputError: When one episode is all there is, or the first part takes all.
    """
    share = min(1.0, sum(lengths) / (TRAINING + HELD_OUT))
    order = np.random.default_rng(seed).permutation(len(lengths)).tolist()
    training = take_episodes(order, lengths, share * TRAINING)
    held_out = take_episodes(order[len(training) :], lengths, share * HELD_OUT)
    if not held_out:
        raise InputError(f"{len(lengths)} episodes of {sum(lengths):,} transitions leave none to score on; collect more")
    return sorted(training), sorted(held_out)


def take_episodes(order: Sequence[int], lengths: Sequence[int], target: float) -> list[int]:
    """Take episodes in order, at least one, for as long as another one brings their transitions nearer to `target`."""
    taken, total = [], 0
    for index in order:
        if taken and abs(total + lengths[index] - target) >= abs(total - target):
            break
        taken.append(index)
        total += lengths[index]
    return taken


def episodes_of(dataset: AtariDataset, chosen: Sequence[int]) -> AtariDataset:
    """A dataset with some of its episodes."""
    minari = dataset.minari
    return AtariDataset(MinariDataset(minari.storage, np.asarray(minari.episode_indices)[list(chosen)]))


def actions(shown: Demonstrations) -> torch.Tensor:
    """All actions taken, (N,) int64."""
    return torch.cat([batch for _, batch in shown.in_order(1_024)])


@torch.no_grad()
def accuracy(model: BehaviorCloning, shown: Demonstrations) -> float:
    """Share of transitions in which a clone takes the action that was taken."""
    model.policy.set_training_mode(False)
    hits = 0
    for features, labels in shown.in_order(1_024):
        hits += int((model.policy.logits(features.float(), encoded=True).argmax(dim=1) == labels).sum())
    return hits / len(shown)
