"""The report of a benchmark: one HTML page, a table of its cells as CSV, and the main figure as PNG."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from pretrainrl.benchmarking import figures
from pretrainrl.benchmarking.aggregate import Estimate, correlation
from pretrainrl.benchmarking.analysis import Analysis, Section, analyze, read_suite, way
from pretrainrl.benchmarking.kinds import SITUATIONS, atari_pb, encoder_kind, in_atari_pb, number
from pretrainrl.benchmarking.results import CellResult
from pretrainrl.benchmarking.suite import Suite
from pretrainrl.benchmarking.table import is_ill_conditioned
from pretrainrl.cards import ENCODERS
from pretrainrl.errors import InputError
from pretrainrl.games import all_scores
from pretrainrl.optional import require
from pretrainrl.paths import atomic_path, output_folder, resolve_path, writable_folder
from pretrainrl.results import ReportResult

_COLUMNS = [
    "suite",
    "version",
    "task",
    "split",
    "game",
    "encoder",
    "kind",
    "sha256",
    "seed",
    "length",
    "status",
    "episodes",
    "score",
    "normalized",
    "human_normalized",
    "seconds",
    "dtype",
    "device",
    "error",
]
_TOLD = {  # settings of a task, by its kind
    "finetune": ("agent", "preset", "features", "neck", "n_envs", "dataset"),
    "probe": ("metric", "dataset"),
    "zero_shot": ("returns",),
}
PAGE, TABLE, FIGURE = "index.html", "cells.csv", "figure.png"


def report(folder: str | Path, *, suite: str | Path | None = None, out: str | Path | None = None) -> ReportResult:
    """Write a page, a table and a picture on the results of a benchmark.

    Args:
        folder: Folder of results, as `pretrainrl.benchmark` makes it.
        suite: Path of the suite's TOML file, where the suite is not registered.
        out: Folder to write into, by default `<folder>/report`.

    Returns:
        Files that were written, and the advice that the results give.

    Raises:
        InputError: The folder is none, holds no finished cells, or results of another suite or version.
        MissingExtraError: The extra `plot` is not installed.
    """
    source = resolve_path(folder)
    target = output_folder(source / "report" if out is None else out)
    for module in ("jinja2", "matplotlib"):
        require(module, "plot")
    from pretrainrl.reports.pages import write_html
    from pretrainrl.reports.pictures import write_intervals

    analysis = analyze(*read_suite([source], suite))
    writable_folder(target)
    shown = figures.entrants(analysis)
    return ReportResult(
        write_html(target / PAGE, "report.html", _context(analysis, shown)),
        _write_table(target / TABLE, analysis),
        write_intervals(target / FIGURE, figures.panels(analysis, shown), "normalized IQM"),
        {key: section.advice.text for key, section in analysis.sections.items() if section.advice},
    )


def _write_table(path: Path, analysis: Analysis) -> Path:
    """Write one line for each cell."""
    splits = analysis.suite.splits
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for one in sorted(analysis.results, key=lambda one: (one.task, one.game, one.encoder, one.seed)):
            score = one.score if one.status == "done" else None
            more = {
                "split": splits[one.game],
                "kind": encoder_kind(one.encoder),
                "episodes": len(one.scores),
                "score": _text(score),
                "normalized": _text(_normalized(analysis.suite, one.task, one.game, score)),
                "human_normalized": _text(_human(analysis.suite, one.task, one.game, score)),
                "device": one.hardware.device if one.hardware else "",
            }
            writer.writerow({**vars(one), **more})
    return path


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _normalized(suite: Suite, task: str, game: str, score: float | None) -> float | None:
    if score is None or suite.tasks[task].kind == "probe":
        return score
    return all_scores()[game].normalize(score)


def _human(suite: Suite, task: str, game: str, score: float | None) -> float | None:
    facts = all_scores()[game]
    if score is None or facts.human is None or suite.tasks[task].kind == "probe":
        return None
    return (score - facts.random) / (facts.human - facts.random)


def _context(analysis: Analysis, shown: Mapping[str, figures.Entrant]) -> dict[str, Any]:
    """Collect everything that the template shows."""
    suite, done = analysis.suite, analysis.done
    tasks = [task for task in suite.tasks if figures.sections_of(analysis, task)]
    learning = {
        task: "epochs" if way(suite, task) == "BC" else "steps" for task in tasks if suite.tasks[task].kind == "finetune"
    }
    sections = {task: figures.sections_of(analysis, task) for task in tasks}
    return {
        "suite": suite,
        "analysis": analysis,
        "shown": shown,
        "legend": _legend(shown),
        "tasks": [{"name": task, "title": _title(suite, task), "sections": sections[task]} for task in tasks],
        "learning": learning,
        "split_names": figures.SPLIT_NAMES,
        "split_titles": figures.SPLITS,
        "situations": {split: words for split, words in SITUATIONS.items() if suite.games.get(split)},
        "main": {task: [figures.by_kind(*item, shown) for item in sections[task].items()] for task in tasks},
        "rankings": {task: [figures.ranking(*item, shown) for item in sections[task].items()] for task in tasks},
        "differences": {
            name: {task: panels for task in tasks if (panels := _differences(sections[task], name, shown))}
            for name in analysis.baselines
        },
        "scatters": [
            (one, figures.scatter(analysis, one, shown))
            for one in analysis.correlations
            if one.encoders and one.tasks == analysis.correlations[0].tasks
        ],
        "profiles": {task: {split: figures.profiles(one, shown) for split, one in sections[task].items()} for task in tasks},
        "curves": {
            task: {split: figures.curves(one, shown, learning[task]) for split, one in sections[task].items() if one.curves}
            for task in learning
        },
        "times": {task: {split: figures.against_time(one, shown) for split, one in sections[task].items()} for task in tasks},
        "costs": _costs(analysis, shown, tasks),
        "games": _games(analysis, tasks),
        "atari_pb": _beside_atari_pb(analysis, shown, tasks),
        "words": figures.words,
        "text": number,
        "run": _run(analysis),
        "hours": sum(one.seconds for one in analysis.results) / 3600,
        "seeds": sorted({one.seed for one in done}),
        "failed": [one for one in analysis.results if one.status == "failed"],
        "files": {"table": TABLE, "figure": FIGURE},
    }


def _title(suite: Suite, task: str) -> str:
    what = suite.tasks[task]
    return f"{figures.title(task)}, {what.metric.replace('_', ' ')}" if what.kind == "probe" else figures.title(task)


def _differences(sections: Mapping[str, Section], baseline: str, shown: Mapping[str, figures.Entrant]) -> list[figures.Panel]:
    panels = [figures.differences(split, section, baseline, shown) for split, section in sections.items()]
    return [panel for panel in panels if panel]


def _legend(shown: Mapping[str, figures.Entrant]) -> list[tuple[str, str, list[figures.Entrant]]]:
    kinds = dict.fromkeys(one.kind for one in shown.values())
    return [(kind, figures.kind_style(kind), [one for one in shown.values() if one.kind == kind]) for kind in kinds]


def _costs(analysis: Analysis, shown: Mapping[str, figures.Entrant], tasks: Iterable[str]) -> list[dict[str, Any]]:
    """List what each encoder costs: its pre-training, and the time of its cells."""
    rows = []
    for name, one in shown.items():
        own = [result for result in analysis.results if result.encoder == name]
        card = ENCODERS.get(name) if name in ENCODERS.names() else None
        spent = {task: [each.seconds for each in own if each.task == task and each.status == "done"] for task in tasks}
        rows.append(
            {
                "entrant": one,
                "minutes": card.training.minutes if card and card.training else None,
                "features": card.features_dim if card else None,
                "seconds": [fmean(found) if found else None for found in spent.values()],
                "hours": sum(each.seconds for each in own) / 3600,
            }
        )
    return rows


def _games(analysis: Analysis, tasks: Iterable[str]) -> list[dict[str, Any]]:
    """List the mean score of each encoder on each game, over the seeds that it has finished."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for one in analysis.done:
        found.setdefault((one.task, one.game), {}).setdefault(one.encoder, []).append(one.score)
    rows = []
    for task in tasks:
        for game, split in analysis.suite.splits.items():
            if (task, game) not in found:
                continue
            means = {name: fmean(scores) for name, scores in found[task, game].items()}
            rows.append(
                {
                    "task": task,
                    "game": game,
                    "split": split,
                    "facts": all_scores()[game],
                    "flagged": is_ill_conditioned(game),
                    "scores": {name: (raw, _normalized(analysis.suite, task, game, raw)) for name, raw in means.items()},
                    "best": max(means, key=lambda name: means[name]),
                }
            )
    return rows


def _beside_atari_pb(analysis: Analysis, shown: Mapping[str, figures.Entrant], tasks: Iterable[str]) -> list[dict[str, Any]]:
    """List our interquartile means beside Atari-PB's, and how the two correlate."""
    tables = []
    for task in tasks:
        tuning = way(analysis.suite, task)
        sections = figures.sections_of(analysis, task)
        rows = []
        for name, one in shown.items():
            theirs = {split: atari_pb().get((in_atari_pb(name, analysis.suite.backbone), split, tuning)) for split in sections}
            ours = {
                split: next((row.metrics["iqm"] for row in section.rows if row.encoder == name), None)
                for split, section in sections.items()
            }
            if any(theirs.values()) and any(ours.values()):
                rows.append((one, [(ours[split], theirs[split]) for split in sections]))
        if rows:
            together = [_together([pairs[number] for _, pairs in rows]) for number in range(len(sections))]
            tables.append(
                {"task": figures.title(task), "tuning": tuning, "splits": list(sections), "rows": rows, "together": together}
            )
    return tables


def _together(pairs: Iterable[tuple[Estimate | None, Estimate | None]]) -> Estimate | None:
    import numpy as np

    both = [(ours.value, theirs.value) for ours, theirs in pairs if ours and theirs]
    try:
        return correlation(*np.array(both, np.float64).reshape(-1, 2).T)
    except InputError:  # too few encoders, or none differs
        return None


def _run(analysis: Analysis) -> dict[str, Any]:
    """List what was run: machines, versions, digests, budgets."""
    suite, results = analysis.suite, analysis.results
    machines = Counter(
        f"{one.hardware.device}, {one.hardware.threads} threads, {one.hardware.system}" for one in results if one.hardware
    )
    versions: dict[str, set[str]] = {}
    for one in analysis.done:
        for package, version in one.versions.items():
            versions.setdefault(package, set()).add(version)
    return {
        "machines": machines.most_common(),
        "versions": {package: sorted(found) for package, found in versions.items()},
        "dtypes": sorted({one.dtype for one in results}),
        "budgets": {one.task: one.length for one in analysis.done},
        "settings": {
            one.task: {name: one.settings[name] for name in _TOLD[suite.tasks[one.task].kind] if name in one.settings}
            for one in analysis.done
        },
        "encoders": _encoders(results),
    }


def _encoders(results: Iterable[CellResult]) -> list[tuple[str, str, int, int]]:
    """List name, digest, and numbers of finished and failed cells of each encoder."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for one in results:
        counts.setdefault((one.encoder, one.sha256), Counter())[one.status] += 1
    return [(name, sha256, found["done"], found["failed"]) for (name, sha256), found in sorted(counts.items())]
