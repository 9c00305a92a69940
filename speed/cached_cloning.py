"""Behavior cloning on a frozen encoder, features cached, beside the path that encodes pixels in every epoch.

Both learn from the same 20,000 transitions of an expert for as many epochs, with the same neck and settings; the second
augments frames at random, as Atari-PB does, which is why it cannot cache. The scores are those of whole games afterwards.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

import numpy as np
from support.report import parser, report

from pretrainrl.benchmarking.aggregate import estimate, mean_of_games
from pretrainrl.finetuning.evaluation import evaluate
from pretrainrl.integrations.sb3 import AtariVecEnv, BehaviorCloning, VecEncodeObservation, neck_policy_kwargs, policy_kwargs
from pretrainrl.paths import environment_variables

GAMES = ("boxing", "freeway")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--encoder", default="atc")
    arguments.add_argument("--epochs", type=int, default=3)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--episodes", type=int, default=4)
    args = arguments.parse_args()
    heading = ["game", "encoding once, s", "cached, s a seed", "pixels, s a seed", "time", "score, cached", "score, pixels"]
    with tempfile.TemporaryDirectory() as home, environment_variables(PRETRAINRL_HOME=home):
        rows = [heading, *(_row(game, args) for game in GAMES)]
    remark = f"{args.epochs} epochs, {args.seeds} seeds, encoder `{args.encoder}`; mean scores with 95 % intervals."
    report("cached_cloning", rows, remark, write=args.write)


def _row(game: str, args: argparse.Namespace) -> list[str]:
    first, _ = _clone(game, args, 0, cached=True, epochs=1)
    runs = [
        [_clone(game, args, seed, cached=cached, epochs=args.epochs) for seed in range(args.seeds)] for cached in (True, False)
    ]
    fast, slow = (float(np.median([seconds for seconds, _ in each])) for each in runs)
    scores = [estimate(np.array([score for _, score in each])[:, None], mean_of_games) for each in runs]
    shown = [f"{found.value:.1f} ({found.low:.1f} to {found.high:.1f})" for found in scores]
    once = first - fast / args.epochs
    return [game, f"{once:.0f}", f"{fast:.1f}", f"{slow:.0f}", f"**{slow / fast:.0f}x**", *shown]


def _clone(game: str, args: argparse.Namespace, seed: int, *, cached: bool, epochs: int) -> tuple[float, float]:
    """Return the seconds of learning, and the mean score of the games played afterwards."""
    frames = AtariVecEnv(game, args.episodes, action_repeat_probability=0.0, terminal_on_life_loss=False)
    env = VecEncodeObservation(frames, args.encoder) if cached else frames
    policy = ("MlpPolicy", neck_policy_kwargs()) if cached else ("CnnPolicy", policy_kwargs(args.encoder))
    options: dict[str, Any] = {"n_epochs": epochs, "batch_size": 256, "seed": seed, "augment": not cached}
    agent = BehaviorCloning(policy[0], env, policy_kwargs=policy[1], **options)
    start = time.perf_counter()
    agent.learn(f"pretrainrl/atari/{game}-expert-v0")
    seconds = time.perf_counter() - start
    scores, _ = evaluate(agent, env, args.episodes, seed, lambda: None, 0.001)
    env.close()
    return seconds, float(np.mean(scores))


if __name__ == "__main__":
    main()
