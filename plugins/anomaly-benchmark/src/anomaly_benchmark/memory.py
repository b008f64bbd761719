"""The observer that notes a run's peak memory, which the tables compare, among the facts of its manifest."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from anomaly_core import hookimpl

if TYPE_CHECKING:
    from anomaly_core import RunFolder


class PeakObserver:
    """From the start of a run, or of an evaluation, to the end of its test."""

    @hookimpl
    def anomaly_run_start(self) -> None:
        """Forget what was held before in this process."""
        forget_peak()

    @hookimpl
    def anomaly_tested(self, run: RunFolder) -> None:
        """Note the peak in MiB."""
        run.facts["peak_memory_mb"] = peak_megabytes()


def forget_peak() -> None:
    """Reset the peak before the next run in this process; Linux only: elsewhere it covers the whole process."""
    if sys.platform == "linux":
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_megabytes() -> float:
    """The peak memory of this process in MiB; on Linux, since :func:`forget_peak`."""
    if sys.platform == "win32":
        peak: float = psutil.Process().memory_info().peak_wset
    elif sys.platform == "linux":  # getrusage would include memory from before exec
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    else:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    return peak / 2**20


OBSERVERS = PeakObserver()
