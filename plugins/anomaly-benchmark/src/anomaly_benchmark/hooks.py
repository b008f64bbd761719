"""The hook of a grid; who implements it marks it ``@anomaly_core.hookimpl(optionalhook=True)``."""

from __future__ import annotations

from typing import Any

from anomaly_core import hookspec


class BenchmarkHooks:
    """What a plugin may observe of a grid."""

    @hookspec
    def anomaly_benchmark_end(self, folder: Any, cells: Any) -> None:
        """A grid is done; its tables are in ``folder``, ``cells`` are its :class:`~anomaly_benchmark.Cell` objects."""
