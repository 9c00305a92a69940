"""Learning curves: train each agent of an experiment with several seeds, and keep its evaluations.

A run that is finished is not made again, so what was interrupted goes on with the next call.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

DOCS = Path(__file__).resolve().parents[2] / "docs" / "learning"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+", help="names in experiments.py")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, each on one core")
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    parser.add_argument("--steps", type=int, help="fewer than the experiment's, to try it")
    parser.add_argument("--write", action="store_true", help="also keep the scores in docs/learning/")
    parser.add_argument("--one", nargs=2, metavar=("AGENT", "SEED"), help="a single run, in this process")
    return parser.parse_args()


def folder_of(out: Path, experiment: str, agent: str, seed: int) -> Path:
    return out / experiment / agent / str(seed)


def learn(experiment: str, agent: str, seed: int, out: Path, steps: int | None) -> None:
    """Train one agent; its `evaluations.npz` is in place only when it has finished."""
    import torch
    from experiments import EVALUATION_SEED, EXPERIMENTS
    from stable_baselines3.common.callbacks import EvalCallback
    from stable_baselines3.common.utils import set_random_seed

    from pretrainrl.malloc import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    task, final = EXPERIMENTS[experiment], folder_of(out, experiment, agent, seed)
    chosen = task.agents[agent]
    set_random_seed(seed)
    env = chosen.wrap(task.make_env(task.n_envs, 1_000 * seed, False))
    games = chosen.wrap(task.make_env(task.episodes, EVALUATION_SEED + 1_000 * seed, True))
    unfinished = final.with_name(f"{final.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    evaluate = EvalCallback(
        games,
        n_eval_episodes=task.episodes,
        eval_freq=task.evaluate_every // task.n_envs,
        log_path=str(unfinished),
        deterministic=task.deterministic,
        verbose=0,
    )
    chosen.algorithm(chosen.policy, env, seed=seed, device="cpu", **chosen.settings).learn(
        steps or task.steps, callback=evaluate
    )
    unfinished.rename(final)


def learn_all(experiment: str, args: argparse.Namespace) -> None:
    """Make the runs that are missing, `jobs` at a time, each in a process of its own."""
    from experiments import EXPERIMENTS

    wanted = [(agent, seed) for seed in range(args.seeds) for agent in EXPERIMENTS[experiment].agents]
    missing = [run for run in wanted if not folder_of(args.out, experiment, *run).exists()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    steps = ["--steps", str(args.steps)] if args.steps else []
    running: list[tuple[str, subprocess.Popen[bytes]]] = []
    for agent, seed in missing:
        while len(running) >= args.jobs:
            wait_for(running)
        command = [sys.executable, __file__, experiment, "--out", str(args.out), *steps, "--one", agent, str(seed)]
        running.append((f"{experiment} {agent} {seed}", subprocess.Popen(command, env=environment)))
    while running:
        wait_for(running)


def wait_for(running: list[tuple[str, subprocess.Popen[bytes]]]) -> None:
    """Wait until one of the processes ends, and remove it from the list."""
    while True:
        for name, process in list(running):
            try:
                code = process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
            running.remove((name, process))
            if code:
                raise SystemExit(f"{name} ended with {code}")
            print(name, flush=True)
            return


def write_scores(experiment: str, out: Path) -> None:
    """Keep every evaluation's scores: agent, seed, step, mean score of its episodes."""
    rows = []
    for path in sorted((out / experiment).glob("*/*/evaluations.npz")):
        agent, seed = path.parts[-3], path.parts[-2]
        if seed.isdigit():
            with np.load(path) as kept:
                means = kept["results"].mean(axis=1)
                rows += [(agent, seed, step, f"{mean:.2f}") for step, mean in zip(kept["timesteps"], means, strict=True)]
    DOCS.mkdir(exist_ok=True)
    with (DOCS / f"{experiment}.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("agent", "seed", "step", "score"), *rows])


def main() -> None:
    args = parse()
    for experiment in args.experiments:
        if args.one:
            learn(experiment, args.one[0], int(args.one[1]), args.out, args.steps)
            continue
        learn_all(experiment, args)
        if args.write:
            write_scores(experiment, args.out)


if __name__ == "__main__":
    main()
