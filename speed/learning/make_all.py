"""Make everything that takes hours: agents that learn every game of atari-mini, recordings of their play, then encoders.

    python speed/learning/make_all.py --out runs/all                          # some six hours on 2 cores
    python speed/learning/make_all.py --out runs/all --scale 0.01 --minutes 9 --jobs 16

Each game takes one core. What is finished is not made again, so an interrupted call goes on with the next one; after
`--minutes` what is under way is broken off, to go on from its last segment. The recordings of all games, and the encoders, lie
in `recordings` and `encoders` of the output folder; they are small.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pretrainrl

STEPS, EXPERT_STEPS, TRIAL_STEPS, PRETRAINING_STEPS = 300_000, 20_000, 8_000, 800
GAMES = ("boxing", "breakout", "demonattack", "enduro", "freeway", "mspacman", "qbert", "spaceinvaders")
UNSEEN = ("assault", "beamrider", "humancannonball", "klax", "pong", "seaquest", "surround")
# Where single steps at random never score, the agent learns in a game that repeats actions more often than not.
STICKY = {"freeway": 0.95, "enduro": 0.9}


class Maker:
    """Calls of the command line, none of which goes beyond the deadline.

    Args:
        out: Folder of all results.
        scale: Share of the full size.
        minutes: Time for everything.
    """

    def __init__(self, out: Path, scale: float, minutes: float) -> None:
        self.out, self.scale, self.deadline = out, scale, time.monotonic() + 60 * minutes
        self.environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "MINARI_DATASETS_PATH": str(out / "datasets"),
            "PRETRAINRL_HOME": str(out / "home"),
        }

    def steps(self, full: int) -> int:
        """Scale a number of steps, in whole rollouts of eight games."""
        return max(1024, round(full * self.scale / 1024) * 1024)

    def call(self, *arguments: str, threads: int = 1) -> bool:
        """Run the command line; return whether it finished in time."""
        environment = {**self.environment, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "pretrainrl", *arguments]
        try:
            left = max(0.0, self.deadline - time.monotonic())
            subprocess.run(command, env=environment, check=True, timeout=left, stderr=subprocess.DEVNULL)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            print(f"not finished: {' '.join(arguments[:4])} ({type(error).__name__})", flush=True)
            return False
        return True

    def play(self, game: str) -> None:
        """Let an agent learn a game, and record its learning and then its best play."""
        agent, recordings = self.out / "agents" / f"{game}.zip", self.out / "recordings"
        extra = ["--sticky-actions", str(STICKY[game])] if game in STICKY else []
        kept = ["--kind", "mixed", "--recording", str(recordings)] if game in GAMES else ["--kind", "log"]
        if not agent.exists() and not self.call(
            *("collect", game, "--agent", "ppo-ram", "--steps", str(self.steps(STEPS)), "--keep-every", "3", "--resume"),
            *("--save-agent", str(agent.parent), *kept, *extra),
        ):
            return
        if (recordings / f"{game}-expert-v0.rec").exists():
            return
        saved = ("collect", game, "--agent", str(agent), "--n-envs", "4", "--resume")
        trials = {"drawn": [], "greedy": ["--greedy"]}
        steps = str(self.steps(TRIAL_STEPS))
        if all(self.call(*saved, "--steps", steps, "--seed", "100", "--kind", kind, *how) for kind, how in trials.items()):
            best = max(trials, key=lambda kind: self.mean_return(game, kind))
            how = ["--kind", "expert", "--recording", str(recordings), *trials[best]]
            self.call(*saved, "--steps", str(self.steps(EXPERT_STEPS)), *how)

    def mean_return(self, game: str, kind: str) -> float:
        """Mean return of the whole episodes of a trial, of all of them where none is whole."""
        os.environ.update(self.environment)
        from pretrainrl.integrations.minari import check_dataset

        episodes = check_dataset(f"pretrainrl/atari/{game}-{kind}-v0").episodes
        whole = [each for each in episodes if each["ends_by"] != "cut"] or episodes
        return sum(float(each["return"]) for each in whole) / len(whole)

    def pretrain(self, objective: str) -> None:
        """Pre-train an encoder on the mixed play of the games that are known in pre-training."""
        run, kept = self.out / "runs" / objective, self.out / "encoders" / objective
        there = [game for game in GAMES if (self.out / "recordings" / f"{game}-mixed-v0.rec").exists()]
        datasets = [word for game in there for word in ("--dataset", f"pretrainrl/atari/{game}-mixed-v0")]
        if kept.exists() or not datasets:
            return
        steps = str(max(2, round(PRETRAINING_STEPS * self.scale)))
        arguments = ("pretrain", objective, *datasets, "--name", f"{objective}.impala_atari8", "--steps", steps)
        if self.call(*arguments, "--out", str(run), "--resume", threads=os.cpu_count() or 1):
            kept.mkdir(parents=True)
            for name in ("card.toml", "encoder.safetensors"):
                shutil.copy(run / name, kept)


def main() -> None:
    """Make what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/all"))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of steps")
    parser.add_argument("--minutes", type=float, default=1e6, help="time after which everything is broken off")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="games at a time, each on one core")
    parser.add_argument("--games", nargs="*", default=[*GAMES, *UNSEEN])
    parser.add_argument("--objectives", nargs="*", default=pretrainrl.list_objectives())
    args = parser.parse_args()
    maker = Maker(args.out.resolve(), args.scale, args.minutes)
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(maker.play, args.games))
    for objective in args.objectives:
        maker.pretrain(objective)
    for path in sorted([*maker.out.glob("recordings/*.rec"), *maker.out.glob("encoders/*/encoder.safetensors")]):
        print(f"{path.relative_to(maker.out)}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
