"""The observer that writes the report of a finished run; the core guards it, so that it cannot cost the run."""

from __future__ import annotations

from anomaly_core import hookimpl
from anomaly_core.experiment import Experiment


class ReportWriter:
    """Writes ``figures/`` and ``report.html`` into the run's folder."""

    @hookimpl
    def anomaly_run_end(self, run: Experiment) -> None:
        from anomaly_report.report import write_report  # jinja2 and matplotlib are not needed before

        write_report(run.folder)


OBSERVERS = ReportWriter()
