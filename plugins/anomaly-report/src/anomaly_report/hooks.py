"""The observer that writes the report of a finished run or grid; the core guards it, so that it cannot cost the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_core import hookimpl
from anomaly_core.experiment import Experiment

if TYPE_CHECKING:
    from anomaly_core.benchmark import Cell
    from anomaly_report.runs import RunRow


class ReportWriter:
    """Writes ``figures/`` and ``report.html`` into a run's folder, ``leaderboard.html`` beside a grid's tables."""

    @hookimpl
    def anomaly_run_end(self, run: Experiment) -> None:
        from anomaly_report.report import write_report  # jinja2 and matplotlib are not needed before

        write_report(run.folder)

    @hookimpl
    def anomaly_benchmark_end(self, folder: Path, cells: list[Cell]) -> None:
        from anomaly_report.leaderboard import write_leaderboard
        from anomaly_report.runs import read_run

        found = [read_run(Path(cell.folder)) if cell.folder else _failed(cell) for cell in cells]
        write_leaderboard(folder, found, title="Benchmark")


def _failed(cell: Cell) -> RunRow:
    """The folder that a failed run left, or what is known without one."""
    from anomaly_core.config import RunConfig
    from anomaly_report.runs import RunRow, read_run

    output = str(cell.config["base"]["output"])
    found = Experiment.latest(output, cell.data, cell.category, cell.model, RunConfig.create(config=cell.config))
    row = None if found is None else read_run(found.folder)
    if row is not None and row.status != "complete":
        return replace(row, reason=cell.error, seed=cell.seed)
    return RunRow(
        Path(output).expanduser() / "(no folder)",
        "failed",
        cell.error,
        dataset=cell.data,
        category=cell.category,
        model=cell.model,
        preset=str(cell.config["base"].get("preset") or ""),
        seed=cell.seed,
    )


OBSERVERS = ReportWriter()
