"""The tables of the pages on objectives: index, presets, cost, and what Atari-PB measured. `make figures` writes them.

Presets come from the objectives' cards, costs from running and counting, Atari-PB's numbers from registry/atari_pb.csv, those
of the bundled encoders from their cards.
"""

from __future__ import annotations

import csv
import inspect
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from reading import KINDS, Reading, reading, shipped

import pretrainrl
from pretrainrl.cards import OBJECTIVES, ObjectiveCard, Preset
from pretrainrl.objectives import Objective, make_objective
from pretrainrl.paths import registry_folder
from pretrainrl.registry import import_target

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "objectives" / "tables"
GAMES = {"nano": 8, "paper": 50}  # games of the bundled encoders, and of Atari-PB's

ATARI_PB_NAMES = {"SPR+IDM": "spr_idm", "SiamMAE": "siammae", "CQL-M": "cql_m", "CQL-D": "cql_d"}
BASELINES = {
    "Random": "untrained ResNet-50",
    "E2E(RN50)": "ResNet-50 from end to end",
    "E2E(CNN3)": "small CNN from end to end",
}
PROBES = ("ram_balanced_accuracy", "action_accuracy", "rankme")
TASKS = [(games, tuning) for games in ("ID", "Near", "Far") for tuning in ("BC", "RL")]


def table(rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    """Markdown of rows, of which the first is the header; columns after the first are aligned right if `numbers`."""
    header, *body = [list(row) for row in rows]
    rule = ["---"] + ["--:" if numbers else "---"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *body]) + "\n"


def show(value: Any) -> str:
    """A setting as the cards write it: 0.0003 is 3e-4."""
    if isinstance(value, list | tuple):
        return ", ".join(show(item) for item in value)
    if isinstance(value, float) and 0 < value < 0.01:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def presets(name: str) -> str:
    """What `nano` and `paper` set; an option that a card leaves out has its class's default."""
    card = OBJECTIVES.get(name)
    nano, paper = card.presets["nano"], card.presets["paper"]
    defaults = {key: item.default for key, item in inspect.signature(import_target(card.target)).parameters.items()}
    rows = [["", "`nano`", "`paper`"], ["backbone", f"`{nano.backbone}`", f"`{paper.backbone}`"]]
    for option in dict.fromkeys([*paper.model, *nano.model]):
        rows.append([f"`{option}`", *(show(preset.model.get(option, defaults[option])) for preset in (nano, paper))])
    settings = [preset.training.model_dump() for preset in (nano, paper)]
    for setting, values in ((key, [each[key] for each in settings]) for key in settings[0]):
        if values != [None, None]:
            rows.append([f"`{setting}`", *("" if value is None else show(value) for value in values)])
    return table(rows)


def made(name: str, preset: str) -> Objective:
    """The objective as the preset has it, without memory for its weights."""
    card: Preset = OBJECTIVES.get(name).presets[preset]
    with torch.device("meta"):
        return make_objective(name, encoder=card.backbone, num_games=GAMES[preset], preset=preset)


def parameters(objective: Objective) -> int:
    """Trained parameters beside the backbone's."""
    return sum(p.numel() for p in objective.parameters() if p.requires_grad) - sum(
        p.numel() for p in objective.backbone.parameters()
    )


COST_HEADER = [
    "observations a window that the backbone sees",
    "that its momentum copy sees",
    *(f"parameters beside the backbone's, `{preset}`, {games} games" for preset, games in GAMES.items()),
]


@cache
def cost(name: str) -> list[str]:
    """What `COST_HEADER` names."""
    passes = reading(name).passes
    return [
        str(passes["trained"]),
        str(passes["copy"]),
        *(f"{parameters(made(name, preset)) / 1e6:.2f} M" for preset in GAMES),
    ]


def atari_pb() -> dict[str, dict[tuple[str, str], tuple[str, str]]]:
    """Name -> (games, fine-tuning) -> interquartile mean and its interval, as text."""
    found: dict[str, dict[tuple[str, str], tuple[str, str]]] = {}
    with (registry_folder() / "atari_pb.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = BASELINES.get(row["algorithm"]) or f"`{ATARI_PB_NAMES.get(row['algorithm'], row['algorithm'].lower())}`"
            low, high = (f"{float(row[key]):.3f}" if row[key] else "?" for key in ("ci_lo", "ci_hi"))
            found.setdefault(name, {})[row["distribution"], row["finetune"]] = (f"{float(row['iqm']):.3f}", f"{low} to {high}")
    return found


TASK_HEADER = [f"{ {'ID': 'ID', 'Near': 'Near-OOD', 'Far': 'Far-OOD'}[games] }, {tuning}" for games, tuning in TASKS]


def scores_of(name: str) -> str:
    """The objective's numbers beside those of an untrained network and of the best of the twelve."""
    results = atari_pb()
    own = [f"{score} ({interval})" for score, interval in (results[f"`{name}`"][task] for task in TASKS)]
    random = [results[BASELINES["Random"]][task][0] for task in TASKS]
    best = []
    for task in TASKS:
        winner = max((each for each in results if each.startswith("`")), key=lambda each: float(results[each][task][0]))
        best.append(f"{results[winner][task][0]} {winner}")
    rows = zip(TASK_HEADER, own, random, best, strict=True)
    return table([["games, fine-tuning", f"`{name}`", "untrained", "best of the twelve"], *rows])


def kinds() -> str:
    """Mean over the objectives of each kind with behavior cloning, as Atari-PB has it: without spr_idm."""
    results = atari_pb()
    members = {"untrained": [BASELINES["Random"]], **{kind: [] for kind in KINDS}}
    for card in shipped():
        if f"`{card.name}`" in results and card.name != "spr_idm":
            members[card.data].append(f"`{card.name}`")
    rows = []
    for kind, names in members.items():
        scores = [sum(float(results[name][games, "BC"][0]) for name in names) / len(names) for games in ("ID", "Near", "Far")]
        rows.append([kind, *(f"{score:.2f}" for score in scores)])
    return table([["", "ID", "Near-OOD", "Far-OOD"], *rows], numbers=True)


def bundled() -> str:
    """What comes with the package, from its cards."""
    rows = [["name", "learned from", "minutes", "RAM", "action", "RankMe"]]
    for name in pretrainrl.list_encoders("*.impala_atari8"):
        card = pretrainrl.encoder_card(name)
        assert card.training is not None
        data = "agents' logs" if any("-qrdqn-" in dataset for dataset in card.training.datasets) else "random play"
        probes = [card.metrics[key] for key in PROBES]
        rows.append([f"`{card.objective}`", data, f"{card.training.minutes:.0f}", *map(_probe, PROBES, probes)])
    untrained = [card.metrics[f"random_{key}"] for key in PROBES]
    return table([*rows, ["`random`", "", "0", *map(_probe, PROBES, untrained)]], numbers=True)


def _probe(key: str, value: float) -> str:
    return f"{value:.0f}" if key == "rankme" else f"{value:.2f}"


def page_tables(name: str) -> str:
    """The tables of an objective's page, as sections that the page includes one by one."""
    costs = table([["", f"`{name}`"], *zip(COST_HEADER, cost(name), strict=True)])
    parts = {"presets": presets(name), "cost": costs}
    if f"`{name}`" in atari_pb():
        parts["scores"] = scores_of(name)
    return "\n".join(f"<!-- --8<-- [start:{key}] -->\n{text}<!-- --8<-- [end:{key}] -->\n" for key, text in parts.items())


def page_of(card: ObjectiveCard) -> str:
    """File name of an objective's page: the objectives of one module share a page."""
    return f"{card.target.partition(':')[0].rpartition('.')[2]}.md"


def window(found: Reading) -> str:
    """What an objective reads of a window, in words."""
    times = sorted({seen.offset for seen in found.observations})
    marks = [f"`o_t+{time}`" if time else "`o_t`" for time in times]
    in_a_row = len(times) > 2 and times == list(range(len(times)))
    words = f"{marks[0]} to {marks[-1]}" if in_a_row else ", ".join(marks)
    if (count := sum(found.passes.values())) < len(times):
        words = f"{count} of {words}"
    steps = [read.name.removesuffix("s" if read.first else "") for read in found.steps if read.name != "terminations"]
    return ", ".join([words, *steps])


def index() -> str:
    """The objectives that ship with the package, from their cards."""
    header = ["name", "data", "reads", "learns", "paper"]
    rows = [
        [
            f"[`{card.name}`]({page_of(card)})",
            card.data,
            window(reading(card.name)),
            card.summary,
            f"[paper]({card.paper.url})",
        ]
        for card in shipped()
    ]
    return table([header, *rows])


def all_tables() -> dict[str, str]:
    """File name -> contents."""
    names = [card.name for card in shipped()]
    files = {f"{name}.md": page_tables(name) for name in names}
    files["index.md"] = index()
    files["cost.md"] = table([["", *COST_HEADER], *([f"`{name}`", *cost(name)] for name in names)], numbers=True)
    scores = [[name, *(results[task][0] for task in TASKS)] for name, results in atari_pb().items()]
    files["bundled.md"] = bundled()
    return {**files, "atari_pb.md": table([["", *TASK_HEADER], *scores], numbers=True), "kinds.md": kinds()}


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    for file, text in all_tables().items():
        (OUT / file).write_text(text, encoding="utf-8")
