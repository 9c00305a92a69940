"""A dataset that is played again from its recording, beside ALE's bare vector environment with as many threads.

The vector environment steps eight games and throws away what it sees; rebuilding also packs the frames, computes the
fingerprint, and writes the dataset. The time counts from the call to the dataset, processes' start included. Both take turns.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from ale_py.vector_env import AtariVectorEnv
from support.report import parser, report

GAMES = ("breakout", "space_invaders", "ms_pacman")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--steps", type=int, default=24_000, help="transitions of each game")
    arguments.add_argument("--turns", type=int, default=5)
    args = arguments.parse_args()
    rows = [["game", "bare, steps/s", "rebuilt, transitions/s", "share"]]
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(MINARI_DATASETS_PATH=f"{folder}/datasets", PRETRAINRL_HOME=f"{folder}/home")
        rows += [_row(game, args.steps, args.turns, Path(folder)) for game in GAMES]
    remark = f"{args.steps:,} transitions of random play; medians of {args.turns} turns."
    report("rebuild_recording", rows, remark, write=args.write)


def _row(game: str, steps: int, turns: int, folder: Path) -> list[str]:
    from pretrainrl.integrations.minari import build_dataset, collect_dataset, write_recording

    dataset = collect_dataset(game, steps, n_envs=8)
    path = folder / f"{game}.rec"
    write_recording(dataset.id, path)
    shutil.rmtree(folder / "datasets")
    pairs = []
    for _ in range(turns):
        bare = steps / _seconds_bare(game, steps)
        start = time.perf_counter()
        build_dataset(path)
        pairs.append((bare, steps / (time.perf_counter() - start)))
        shutil.rmtree(folder / "datasets")
    bare, rebuilt = np.median(pairs, axis=0)
    ratio = np.median([each[1] / each[0] for each in pairs])
    return [game, f"{bare:,.0f}", f"{rebuilt:,.0f}", f"**{100 * ratio:.0f} %**"]


def _seconds_bare(game: str, steps: int) -> float:
    from pretrainrl.runs.pool import cores

    games = AtariVectorEnv(game, 8, num_threads=cores(), stack_num=1, reward_clipping=False, repeat_action_probability=0.25)
    games.reset(seed=np.arange(8))
    actions = np.random.default_rng(0).integers(games.single_action_space.n, size=(steps // 8, 8))
    start = time.perf_counter()
    for each in actions:
        games.step(each)
    seconds = time.perf_counter() - start
    games.close()
    return seconds


if __name__ == "__main__":
    main()
