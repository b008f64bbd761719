"""How many cores there are for this process, and how many threads decode images."""

from __future__ import annotations

import os

MOST_DECODERS = 8  # beyond it a disk has nothing more to give


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoders() -> int:
    """Threads that decode images: one a core, at most eight."""
    return min(MOST_DECODERS, cores())
