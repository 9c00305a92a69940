"""Environment steps per second: `AtariVecEnv` against Stable-Baselines3's `make_atari_env` and `VecFrameStack`.

Both play the same game with random actions and the same preprocessing: 4 skipped frames, grey, 84x84, a stack of four.
They take turns, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from importlib.metadata import version
from typing import Any

import numpy as np
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from pretrainrl.integrations.sb3 import AtariVecEnv


def steps_per_second(env: VecEnv, steps: int, rng: np.random.Generator) -> float:
    n = getattr(env.action_space, "n", 0)
    actions: list[Any] = list(rng.integers(0, n, (steps, env.num_envs)))
    start = time.perf_counter()
    for action in actions:
        env.step(action)
    return steps * env.num_envs / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--games", nargs="+", default=["Pong", "Breakout", "MsPacman"])
    parser.add_argument("--n-envs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100, help="of the vector environment, in one turn")
    parser.add_argument("--turns", type=int, default=9)
    args = parser.parse_args()

    print(f"| game, {args.n_envs} environments | make_atari_env + VecFrameStack (steps/s) | AtariVecEnv (steps/s) | ratio |")
    print("|---|---|---|---|")
    rng = np.random.default_rng(0)
    for game in args.games:
        name = f"{game}NoFrameskip-v4"
        baseline = VecFrameStack(make_atari_env(name, n_envs=args.n_envs, seed=0), n_stack=4)
        ours = AtariVecEnv(name, n_envs=args.n_envs, seed=0, action_repeat_probability=0.0)
        for env in (baseline, ours):
            env.reset()
            steps_per_second(env, args.steps // 4, rng)
        turns = [[steps_per_second(env, args.steps, rng) for env in (baseline, ours)] for _ in range(args.turns)]
        slow, fast = (statistics.median(column) for column in zip(*turns, strict=True))
        ratio = statistics.median(second / first for first, second in turns)
        print(f"| {game} | {slow:,.0f} | {fast:,.0f} | **{ratio:.2f}x** |", flush=True)
        baseline.close()
        ours.close()
    print(f"\nMedians of {args.turns} turns on {os.cpu_count()} CPU cores, ale-py {version('ale-py')}.")


if __name__ == "__main__":
    main()
