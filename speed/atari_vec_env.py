"""Environment steps per second: `AtariVecEnv` against Stable-Baselines3's `make_atari_env` and `VecFrameStack`.

Both play the same game with random actions and the same preprocessing: 4 skipped frames, grey, 84x84, a stack of four.
They take turns, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack
from support.report import parser, report

from pretrainrl.integrations.sb3 import AtariVecEnv


def steps_per_second(env: VecEnv, steps: int, rng: np.random.Generator) -> float:
    n = getattr(env.action_space, "n", 0)
    actions: list[Any] = list(rng.integers(0, n, (steps, env.num_envs)))
    start = time.perf_counter()
    for action in actions:
        env.step(action)
    return steps * env.num_envs / (time.perf_counter() - start)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--games", nargs="+", default=["Pong", "Breakout", "MsPacman"])
    arguments.add_argument("--n-envs", type=int, default=8)
    arguments.add_argument("--steps", type=int, default=100, help="of the vector environment, in one turn")
    arguments.add_argument("--turns", type=int, default=9)
    args = arguments.parse_args()

    rows = [["environment steps/s", "make_atari_env + VecFrameStack", "`AtariVecEnv`", "speed-up"]]
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
        rows.append([f"{game}, {args.n_envs} environments", f"{slow:,.0f}", f"{fast:,.0f}", f"**{ratio:.1f}x**"])
        baseline.close()
        ours.close()
    report("atari_vec_env", rows, f"Medians of {args.turns} turns.", write=args.write)


if __name__ == "__main__":
    main()
