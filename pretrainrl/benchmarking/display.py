"""What a running benchmark shows: a line for each task and encoder under way, with its last score and the time left."""

from __future__ import annotations

from types import TracebackType

from rich.progress import TaskID

from pretrainrl.benchmarking.cells import CellSpec
from pretrainrl.benchmarking.plan import BenchmarkPlan, PlanRow
from pretrainrl.benchmarking.results import CellResult
from pretrainrl.progress import progress_bar


class BenchmarkDisplay:
    """Lines of a benchmark that is being computed; a context manager.

    Args:
        plan: The benchmark.
        disable: Whether nothing is shown.
    """

    def __init__(self, plan: BenchmarkPlan, *, disable: bool) -> None:
        self._bar = progress_bar(disable=disable)
        done = sum(row.done + row.failed for row in plan.rows)
        self._total = self._bar.add_task(plan.suite.name, total=len(plan.specs), completed=done, note="")
        self._lines = {(row.task, row.encoder): self._line(row) for row in plan.rows}

    def __enter__(self) -> BenchmarkDisplay:
        """Begin to draw."""
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave what was drawn last."""
        self._bar.stop()

    def started(self, spec: CellSpec) -> None:
        """Show the line of a cell whose work begins."""
        self._bar.update(self._lines[spec.task, spec.entrant.name], visible=True, note=f"{spec.game} {spec.seed}")

    def finished(self, spec: CellSpec, result: CellResult) -> None:
        """Count a cell, and show what it scored or why it failed."""
        key = spec.task, spec.entrant.name
        note = result.error or f"{spec.game} {result.score:.1f}"
        line = self._lines[key]
        self._bar.update(line, advance=1, note=note)
        self._bar.update(line, visible=not self._bar.tasks[self._bar.task_ids.index(line)].finished)
        self._bar.update(self._total, advance=1, note=f"{spec.title}: {note}")

    def _line(self, row: PlanRow) -> TaskID:
        description = f"  {row.task} {row.encoder}"
        return self._bar.add_task(description, total=row.cells, completed=row.done + row.failed, note="", visible=False)
