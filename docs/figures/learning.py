"""The pictures and tables of what agents learned, from the scores in docs/learning. `make figures` writes them.

The scores themselves are made by `speed/learning/run.py`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")
import matplotlib.pyplot as plt

OUT = Path(__file__).resolve().parent.parent / "learning"
CURVES = {"cartpole": "CartPole-v1", "upndown": "Up'n Down", "assault": "Assault"}
RANDOM = {"cartpole": 23.0, "upndown": 533.4, "assault": 222.4, "mspacman": 307.3}  # scores of random play
FEATURES = {"upndown": "Up'n Down", "assault": "Assault", "mspacman": "Ms. Pac-Man"}
NAMES = {
    "rainbow": "Rainbow",
    "qrdqn": "QR-DQN",
    "dqn": "DQN",
    "without_double_q": "without double Q-learning",
    "without_prioritized": "without prioritized replay",
    "without_dueling": "without dueling",
    "without_noisy": "without noise (ε-greedy)",
    "without_n_steps": "without n-step returns",
    "without_distributional": "without distributions",
    "frames": "frames, augmented and encoded in every update",
    "map": "feature maps",
    "map_shifted": "feature maps, shifted by up to a cell",
    "map_views": "feature maps of two augmented views",
}
COLORS = {"rainbow": "#4f5fc4", "qrdqn": "#b36b00", "dqn": "#6b7280"}

Scores = dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]  # agent: steps (T,), scores (seeds, T)


def read(experiment: str) -> Scores:
    """Scores of each agent, in the order of `NAMES`."""
    with (OUT / f"{experiment}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores: Scores = {}
    for agent in NAMES:
        own = [row for row in rows if row["agent"] == agent]
        if own:
            steps = sorted({int(row["step"]) for row in own})
            seeds = sorted({row["seed"] for row in own})
            at = {(row["seed"], int(row["step"])): float(row["score"]) for row in own}
            scores[agent] = np.array(steps), np.array([[at[seed, step] for step in steps] for seed in seeds])
    return scores


def interval(scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % bootstrap interval of the mean over seeds, of (seeds, ...): with so few, all resamples are looked at."""
    draws = np.array(list(product(range(len(scores)), repeat=len(scores))))
    low, high = np.percentile(scores[draws].mean(axis=1), [2.5, 97.5], axis=0)
    return low, high


def draw_curves() -> None:
    """Rainbow, QR-DQN and DQN while they learn, an environment each panel."""
    figure, panels = plt.subplots(1, len(CURVES), figsize=(11, 3.4), layout="constrained")
    for panel, (experiment, title) in zip(panels, CURVES.items(), strict=True):
        scores = read(experiment)
        for agent, color in COLORS.items():
            steps, values = scores[agent]
            low, high = interval(values)
            panel.plot(steps, values.mean(axis=0), color=color, label=NAMES[agent], linewidth=2)
            panel.fill_between(steps, low, high, color=color, alpha=0.18, linewidth=0)
        panel.axhline(RANDOM[experiment], color="black", linewidth=1, linestyle=":", label="random play")
        panel.set_title(title)
        panel.set_xlabel("steps")
        panel.set_ylim(bottom=0)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("mean score of 10 games")
    panels[0].legend(frameon=False, loc="upper left")
    figure.savefig(OUT / "curves.png", dpi=150)
    plt.close(figure)


def draw_ablation() -> None:
    """What Rainbow reaches on CartPole without each of its components: mean score over all evaluations of a run."""
    scores = {agent: values.mean(axis=1) for agent, (_, values) in read("cartpole").items() if agent not in ("qrdqn", "dqn")}
    figure, panel = plt.subplots(figsize=(8, 3.2), layout="constrained")
    for place, (agent, values) in enumerate(reversed(scores.items())):
        low, high = interval(values)
        panel.barh(place, values.mean(), color=COLORS["rainbow"] if agent == "rainbow" else "#9aa3d9", height=0.7)
        panel.plot([low, high], [place, place], color="black", linewidth=1.2)
        panel.plot(values, [place] * len(values), "o", color="black", markersize=3)
    panel.set_yticks(range(len(scores)), [NAMES[agent] for agent in reversed(scores)])
    panel.set_xlabel("mean score of CartPole-v1 while learning")
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(OUT / "ablation.png", dpi=150)
    plt.close(figure)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def cell(values: NDArray[np.float64]) -> str:
    """Mean over seeds, and its interval."""
    low, high = interval(values)
    return f"{values.mean():,.0f} ({low:,.0f} to {high:,.0f})"


def all_tables() -> dict[str, str]:
    """Every table by the name of its file."""
    last = {name: {agent: values[:, -1] for agent, (_, values) in read(name).items()} for name in CURVES}
    final = [[NAMES[agent], *(cell(last[name][agent]) for name in CURVES)] for agent in COLORS]
    final.append(["random play", *(f"{RANDOM[name]:.0f}" for name in CURVES)])
    learning = {agent: values.mean(axis=1) for agent, (_, values) in read("cartpole").items()}
    ablation = [
        [NAMES[agent], cell(values), cell(last["cartpole"][agent])]
        for agent, values in learning.items()
        if agent not in ("qrdqn", "dqn")
    ]
    kept = {game: read(f"features_{game}") for game in FEATURES}
    features = [[NAMES[agent], *(cell(kept[game][agent][1][:, -1]) for game in FEATURES)] for agent in kept["upndown"]]
    features.append(["random play", *(f"{RANDOM[game]:.0f}" for game in FEATURES)])
    return {
        "curves.md": table(["after learning", *CURVES.values()], final),
        "ablation.md": table(["CartPole-v1", "while learning", "after learning"], ablation),
        "features.md": table(["Rainbow learns from", *FEATURES.values()], features),
    }


def main() -> None:
    """Write all."""
    for name, text in all_tables().items():
        (OUT / name).write_text(text, encoding="utf-8")
    draw_curves()
    draw_ablation()


if __name__ == "__main__":
    main()
