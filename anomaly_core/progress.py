"""Progress on a terminal, by rich; silence in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any


def progress_bar(items: Iterable[Any], description: str, total: int | None = None) -> Iterator[Any]:
    """Iterate with a live bar on standard error where that is a terminal, and without a word where it is not."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, description=description, total=total, console=Console(stderr=True), transient=True)
