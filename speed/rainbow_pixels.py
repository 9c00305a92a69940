"""Updates a second of Rainbow from pixels in float32 and in bf16-mixed, beside tianshou's RainbowDQN.

Noisy dueling C51 on the network of the Nature DQN, batches of 32, 3-step returns, prioritised replay of the same recorded
steps of the game, in turns. Tianshou lives in an environment of its own, whose interpreter `--tianshou` names:

    python -m venv ../tianshou && ../tianshou/bin/pip install tianshou==2.0.1
    python speed/rainbow_pixels.py --tianshou ../tianshou/bin/python

`TIANSHOU_PYTHON=../tianshou/bin/python make bench` does so too. Without it, only this package's `Rainbow` is measured.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from support.report import parser, report

from pretrainrl.device import has_native_bf16
from pretrainrl.integrations.sb3 import AtariVecEnv, Rainbow, policy_kwargs

BATCH = 32
INSTALL = "python -m venv ../tianshou && ../tianshou/bin/pip install tianshou==2.0.1"


def make_ours(game: str, precision: str, steps: int) -> Rainbow:
    """Rainbow with its defaults, after `steps` random steps and no update."""
    agent = Rainbow(
        "CnnPolicy",
        AtariVecEnv(game, 1, seed=0),
        policy_kwargs=policy_kwargs("random.nature", neck=None, trainable=True, net_arch=[512]),
        buffer_size=steps,
        learning_starts=steps,
        precision=precision,
        seed=0,
        device="cpu",
    )
    return agent.learn(steps)


def updates_per_second(agent: Rainbow) -> Callable[[int], float]:
    def measure(updates: int) -> float:
        start = time.perf_counter()
        agent.train(updates, BATCH)
        return updates / (time.perf_counter() - start)

    return measure


def record(agent: Rainbow, path: Path) -> None:
    """Write the steps in an agent's buffer for the peer."""
    buffer = agent.replay_buffer
    index = np.arange(buffer.size())
    store = buffer._stores[""]
    np.savez(
        path,
        before=store.before(index),
        after=store.after(index),
        actions=buffer.actions[index, 0, 0],
        rewards=buffer.rewards[index, 0],
        dones=buffer.dones[index, 0],
    )


class Peer:
    """Tianshou in a process of its own, which waits while others are measured.

    Args:
        python: Interpreter of the environment that tianshou is installed in.
        recorded: File that `record` has written.
        n_actions: Number of actions of the game.
        threads: Number of threads of PyTorch.
    """

    def __init__(self, python: str, recorded: Path, n_actions: int, threads: int) -> None:
        script = Path(__file__).parent / "support" / "tianshou_rainbow.py"
        command = [python, str(script), str(recorded), str(n_actions), str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.name = self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            sys.exit(f"the interpreter given with --tianshou cannot run it; install it with: {INSTALL}")
        return line

    def __call__(self, updates: int) -> float:
        """Make updates; return how many a second."""
        assert self.process.stdin is not None
        print(updates, file=self.process.stdin, flush=True)
        return float(self._answer())

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def table(turns: list[dict[str, float]]) -> list[list[str]]:
    """Medians of speeds, and of the ratios to tianshou's or, without it, to float32's in the same turn."""
    base = "tianshou" if "tianshou" in turns[0] else "32-true"
    labels = {
        "tianshou": "tianshou's `RainbowDQN`, float32",
        "32-true": "`Rainbow`, float32",
        "bf16-mixed": '`Rainbow`, `precision="bf16-mixed"`',
    }
    rows = [["Rainbow from pixels, batch 32", "updates/s", "speed-up"]]
    for name, label in labels.items():
        if name in turns[0]:
            ratio = statistics.median(turn[name] / turn[base] for turn in turns)
            speed = statistics.median(turn[name] for turn in turns)
            rows.append([label, f"{speed:.1f}", "1x" if name == base else f"**{ratio:.2f}x**"])
    return rows


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--tianshou",
        metavar="PYTHON",
        default=os.environ.get("TIANSHOU_PYTHON"),
        help="interpreter of an environment with tianshou 2.0.1; by default what TIANSHOU_PYTHON says",
    )
    arguments.add_argument("--game", default="pong")
    arguments.add_argument("--steps", type=int, default=4_000, help="recorded steps in every buffer")
    arguments.add_argument("--turns", type=int, default=7)
    arguments.add_argument("--updates", type=int, default=30, help="updates in one turn of each")
    arguments.add_argument("--threads", type=int, default=2)
    args = arguments.parse_args()
    warnings.filterwarnings("ignore", message=".*GPU.*")
    warnings.filterwarnings("ignore", message=".*bfloat16 in software.*")
    torch.set_num_threads(args.threads)

    agents = {precision: make_ours(args.game, precision, args.steps) for precision in ("32-true", "bf16-mixed")}
    measured: dict[str, Callable[[int], float]] = {name: updates_per_second(agent) for name, agent in agents.items()}
    native = "in hardware" if has_native_bf16("cpu") else "in software: it gains nothing here"
    remark = f"Medians of {args.turns} turns of {args.updates} updates, {args.threads} threads. bfloat16 is computed {native}."
    with tempfile.TemporaryDirectory() as folder:
        peer = None
        if args.tianshou:
            recorded = Path(folder) / "steps.npz"
            record(agents["32-true"], recorded)
            peer = Peer(args.tianshou, recorded, int(agents["32-true"].action_space.n), args.threads)
            measured = {"tianshou": peer, **measured}
            remark += f" The peer: {peer.name}."
        else:
            remark += f" Without tianshou, which is measured with `--tianshou PYTHON` after `{INSTALL}`."
        for measure in measured.values():
            measure(5)
        turns = [{name: measure(args.updates) for name, measure in measured.items()} for _ in range(args.turns)]
        if peer is not None:
            peer.close()
    report("rainbow_pixels", table(turns), remark, write=args.write)


if __name__ == "__main__":
    main()
