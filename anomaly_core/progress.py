"""Progress on a terminal, by rich, and silence in a pipe; warnings in both."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def warn(text: str) -> None:
    """A warning on standard error."""
    from rich.console import Console

    Console(stderr=True, soft_wrap=True).print(f"warning: {text}", style="yellow", markup=False, highlight=False)


def progress_bar(items: Iterable[Any], description: str | Callable[[], str], total: int | None = None) -> Iterator[Any]:
    """Iterate with a live bar and rate on standard error where that is a terminal, and without a word where it is not.

    Args:
        description: what is going on; a function is asked again for every item.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.3g}/s", style="progress.data.speed")

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        words = description if callable(description) else lambda: description
        task = bar.add_task(words(), total=total)
        for item in items:
            yield item
            bar.update(task, advance=1, description=words())
