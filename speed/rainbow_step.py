"""Environment steps per second of Rainbow from pixels: an update with a batch of 32 for every four transitions.

Rainbow is compared with one that is written as a single loop around one environment (`support/plain_rainbow.py`). The network
is the same, the convolutions of DQN and two noisy streams of 512 units with 51 atoms an action; so are preprocessing, n-step
returns, prioritised replay, double Q-learning and Adam. They take turns.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable

from support.plain_rainbow import PlainRainbow
from support.report import parser, report

from pretrainrl.integrations.sb3 import AtariVecEnv, Rainbow, policy_kwargs

WARM_UP = 200  # environment steps before learning
CAPACITY = 10_000


def make_ours(game: str, n_envs: int, train_freq: int, gradient_steps: int) -> Rainbow:
    """Rainbow with its defaults, but for the sizes."""
    return Rainbow(
        "CnnPolicy",
        AtariVecEnv(game, n_envs, seed=0),
        policy_kwargs=policy_kwargs("random.nature", neck=None, trainable=True, net_arch=[512]),
        buffer_size=CAPACITY,
        learning_starts=WARM_UP,
        train_freq=train_freq,
        gradient_steps=gradient_steps,
        seed=0,
    )


def steps_per_second(learn: Callable[[int], object], steps: int) -> float:
    start = time.perf_counter()
    learn(steps)
    return steps / (time.perf_counter() - start)


def going_on(agent: Rainbow) -> Callable[[int], object]:
    return lambda steps: agent.learn(steps, reset_num_timesteps=False)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--game", default="pong")
    arguments.add_argument("--turns", type=int, default=5)
    arguments.add_argument("--steps", type=int, default=400, help="environment steps in one turn of each")
    args = arguments.parse_args()
    warnings.filterwarnings("ignore", message=".*GPU.*")

    agents = {
        "plain": PlainRainbow(f"ALE/{args.game.capitalize()}-v5", CAPACITY, WARM_UP).learn,
        "1": going_on(make_ours(args.game, n_envs=1, train_freq=4, gradient_steps=1)),
        "8": going_on(make_ours(args.game, n_envs=8, train_freq=1, gradient_steps=2)),
    }
    for learn in agents.values():
        learn(WARM_UP + 40)
    turns = [{name: steps_per_second(learn, args.steps) for name, learn in agents.items()} for _ in range(args.turns)]
    speeds = {name: statistics.median(turn[name] for turn in turns) for name in agents}
    ratios = {name: statistics.median(turn[name] / turn["plain"] for turn in turns) for name in agents}
    rows = [
        ["Rainbow from pixels, an update of 32 for every 4 steps", "environment steps/s", "speed-up"],
        ["a single loop around one environment", f"{speeds['plain']:.0f}", "1x"],
        ["`Rainbow`, 1 environment", f"{speeds['1']:.0f}", f"**{ratios['1']:.2f}x**"],
        ["`Rainbow`, 8 environments", f"{speeds['8']:.0f}", f"**{ratios['8']:.2f}x**"],
    ]
    report("rainbow_step", rows, f"Medians of {args.turns} turns of {args.steps} steps.", write=args.write)


if __name__ == "__main__":
    main()
