"""Results of a whole benchmark that nobody ran: scores drawn around a level of each kind of data."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pretrainrl.benchmarking.cells import END_TO_END, CellSpec, Entrant
from pretrainrl.benchmarking.results import ResultStore
from pretrainrl.benchmarking.suite import Suite
from pretrainrl.cards import ENCODERS
from pretrainrl.games import all_scores

LEVELS = {"id": 0.3, "near_ood": 0.2, "far_ood": 0.4}
OBJECTIVES = ["curl", "mae", "atc", "siammae", "r3m", "bc", "spr", "idm", "spr_idm", "dt", "cql_m", "cql_d"]
TWELVE = [f"{name}.impala_atari8" for name in OBJECTIVES]
GAINS = dict(zip(OBJECTIVES, (0.25, 0.2, 0.5, 0.7, 0.65, 0.8, 0.85, 0.9, 0.75, 0.95, 1.1, 1.0), strict=True))


def entrants(suite: Suite, encoders: Sequence[str]) -> list[Entrant]:
    """The encoders, with the digests of their cards, and three baselines."""
    cards = {name: ENCODERS.get(name) for name in ENCODERS.names()}
    digests = {name: cards[name].sha256 if name in cards else hashlib.sha256(name.encode()).hexdigest() for name in encoders}
    found = [Entrant(name=name, encoder=name, sha256=digest or "0" * 64) for name, digest in digests.items()]
    frozen = f"random.{suite.backbone}"
    found.append(Entrant(name=frozen, encoder=frozen, sha256="a" * 64))
    for backbone, digit in {suite.backbone: "c", "nature": "b"}.items():
        name = END_TO_END + backbone
        found.append(Entrant(name=name, encoder=f"random.{backbone}", sha256=digit * 64, frozen=False))
    return found


def write_grid(
    out: Path, suite: Suite, encoders: Sequence[str] = tuple(TWELVE), *, seeds: int = 3, episodes: int = 4, level: float = 1.0
) -> int:
    """Write a result for every cell of the suite; returns their number."""
    store, rng, count = ResultStore(out, suite.name, suite.version), np.random.default_rng(0), 0
    for entrant in entrants(suite, encoders):
        gain = level * GAINS.get(entrant.name.split(".")[0], 0.45 if not entrant.frozen else 0.1)
        for task, game, seed in suite.select(seeds=seeds):
            what, facts = suite.tasks[task], all_scores()[game]
            if what.kind != "finetune" and not entrant.frozen:
                continue
            if what.kind == "zero_shot" and entrant.name.split(".")[0] not in ("bc", "dt", "cql_m", "cql_d"):
                continue
            spec, online = CellSpec.of(suite, task, game, seed, entrant, out / "runs"), what.agent == "rainbow"
            mean = LEVELS[suite.splits[game]] * gain * (0.5 if online else 1.0) * (0.8 + 0.4 * math.sin(len(game)))
            shares = mean * rng.normal(1, 0.12) + 0.05 * rng.normal(size=episodes)
            scores = tuple(float(round(facts.random + share * (facts.reference - facts.random), 2)) for share in shares)
            scores = (round(0.3 + 0.3 * mean, 4),) if what.kind == "probe" else scores
            score, steps = sum(scores) / len(scores), what.length or 1
            curve = [(steps * part / 4, facts.random + (score - facts.random) * (part / 4) ** 0.5) for part in range(1, 5)]
            result = spec.result(
                status="done",
                scores=scores,
                lengths=() if what.kind == "probe" else (400,) * episodes,
                curve=tuple(curve),
                seconds=float((900 if online else 60) * (1 if entrant.frozen else 3) * rng.uniform(0.9, 1.1)),
                versions={"pretrainrl": "0.1.0", "torch": "2.9.0", "ale-py": "0.12.1"},
            )
            store.write(result, spec.cell)
            count += 1
    return count
