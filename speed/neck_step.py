"""Time of an update of Rainbow on features that were encoded beforehand, with each neck.

Quantile regression with batches of 32 on what an untrained `impala` makes of a game, 32 channels of 11x11 places. The agents
take turns, and ratios are those of the same turn. What is measured is the processor's time, which other programs
disturb less than the clock's.
"""

from __future__ import annotations

import statistics
import time
import warnings
from typing import Any, Literal

import torch
from support.report import parser, report

from pretrainrl.integrations.sb3 import AtariVecEnv, Rainbow, VecEncodeObservation, neck_policy_kwargs

ENCODER = "random.impala"
BATCH = 32
WARM_UP = 128  # environment steps with random actions, to fill the buffer
EMBEDDINGS = 8

Features = Literal["flat", "pooled", "map"]
Neck = tuple[str, Features, str | None, int]  # name, features, normalization, embeddings

NECKS: tuple[Neck, ...] = (
    *(("mlp", "flat", normalization, 1) for normalization in (None, "layer", "standardize")),
    *(("mlp", "pooled", normalization, 1) for normalization in (None, "layer", "standardize")),
    *(("spatial", "map", normalization, 1) for normalization in (None, "layer", "standardize")),
    *(("spatial", "map", normalization, EMBEDDINGS) for normalization in (None, "layer", "standardize")),
    ("spatial_mlp", "map", None, 1),
)
LAYER_NORM: Neck = ("mlp", "flat", "layer", 1)


def make_agent(game: str, neck: Neck) -> Rainbow:
    name, features, normalization, embeddings = neck
    chosen: dict[str, Any] = {"neck": name, "normalization": normalization, "embeddings": embeddings}
    agent = Rainbow(
        "MlpPolicy",
        VecEncodeObservation(AtariVecEnv(game, 8, seed=0), ENCODER, features=features),
        policy_kwargs=neck_policy_kwargs(**chosen),
        buffer_size=256,
        learning_starts=WARM_UP // 2,
        batch_size=BATCH,
        train_freq=1,
        gradient_steps=1,
        n_steps=5,
        tau=0.01,
        target_update_interval=1,
        dueling=False,
        noisy=False,
        distributional="quantile",
        n_quantiles=51,
        seed=0,
    )
    agent.learn(WARM_UP)
    return agent


def seconds(agent: Rainbow, updates: int) -> float:
    """Processor time of one update, the drawing of its batch included."""
    start = time.process_time()
    agent.train(updates, BATCH)
    return (time.process_time() - start) / updates


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--game", default="breakout")
    arguments.add_argument("--turns", type=int, default=30)
    arguments.add_argument("--updates", type=int, default=6, help="updates in one turn of each")
    args = arguments.parse_args()
    warnings.filterwarnings("ignore", message=".*GPU.*")
    torch.set_num_threads(1)

    agents = {neck: make_agent(args.game, neck) for neck in NECKS}
    for agent in agents.values():
        seconds(agent, args.updates)
    turns = [{neck: seconds(agent, args.updates) for neck, agent in agents.items()} for _ in range(args.turns)]

    def ratio(neck: Neck, other: Neck) -> str:
        return f"{statistics.median(turn[neck] / turn[other] for turn in turns):.2f}x"

    rows = [
        [
            "neck",
            "features, normalization",
            "updates a second of one core",
            "time beside `mlp` with LayerNorm",
            "time beside no normalization",
        ]
    ]
    for neck in NECKS:
        name, features, normalization, embeddings = neck
        sums = f", {embeddings} sums a channel" if embeddings > 1 else ""
        speed = 1 / statistics.median(turn[neck] for turn in turns)
        plain = (name, features, None, embeddings)
        label = f"{features}, {normalization or 'none'}"
        rows.append([f"`{name}`{sums}", label, f"{speed:.0f}", ratio(neck, LAYER_NORM), ratio(neck, plain)])
    remark = f"Medians of {args.turns} turns of {args.updates} updates, batch {BATCH}, processor time."
    report("neck_step", rows, remark, write=args.write)


if __name__ == "__main__":
    main()
