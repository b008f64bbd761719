"""How many cores this process may use, and how many threads compute and decode images."""

from __future__ import annotations

import os

MOST_DECODERS = 8  # more threads gain nothing: the disk is the limit


def core_count() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count(processes: int = 1) -> int:
    """Threads for each of several processes: ``$OMP_NUM_THREADS`` if set, else its share of the cores."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a list gives one number per nesting level
    return int(wanted) if wanted.isdecimal() and int(wanted) else max(1, core_count() // processes)


def decoders() -> int:
    """Threads that decode images: one per core, at most eight."""
    return min(MOST_DECODERS, core_count())
