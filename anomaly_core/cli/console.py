"""The environment of a command: warnings and progress on standard error, safe console encoding, and an orderly exit."""

from __future__ import annotations

import codecs
import io
import json
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from anomaly_core.discovery import registry
from anomaly_core.errors import Interrupted, Terminated, printable, stop

LAUNCHED = "ANOMALY_LAUNCHED"  # marks a process whose launcher shows its errors
AGAIN = 0.05  # seconds after which a signal that was lost is sent again


@contextmanager
def prepared() -> Iterator[None]:
    """Inside, logs go to standard error, unencodable text raises no error, and signals stop a command in order."""
    _open_closed_streams()
    codecs.register_error(escape.__name__, escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=escape.__name__)
    logger, printer = logging.getLogger("anomaly_core"), _Printer()
    logger.addHandler(printer)
    level = logger.level
    logger.setLevel(logging.INFO)
    usual, warnings.formatwarning = warnings.formatwarning, _formatted
    try:
        with stoppable():
            yield
    finally:
        warnings.formatwarning = usual
        logger.setLevel(level)
        logger.removeHandler(printer)


def _formatted(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """A warning for users without the place in the code that gave it, which developers need of the others."""
    if category is UserWarning:
        return f"warning: {printable(str(message))}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, a signal is told apart from what a plugin raises; one that is ignored, as under nohup, stays so.

    One that comes in a destructor or the callback of a weak reference, which Python lets nothing escape from, comes again.
    Damaged distributions are hidden: torch and pydantic, among others, read the entry points of all, where one would stop them.
    """
    everything, hidden = metadata.distributions, {damaged.value for damaged in registry.damaged()}
    metadata.distributions = lambda **of: (d for d in everything(**of) if str(getattr(d, "_path", "")) not in hidden)
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():  # which alone may set signal handlers
        numbers = []
    previous = {number: handler for number in numbers if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
    for number in previous:
        signal.signal(number, stop)
    try:
        with _sent_again() if previous else nullcontext():
            yield
    finally:
        metadata.distributions = everything
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _sent_again() -> Iterator[None]:
    """Inside, a signal whose exception could not leave the function that it came in is sent again."""
    main, report, timers = threading.get_ident(), sys.unraisablehook, list[threading.Timer]()

    def noticed(fault: sys.UnraisableHookArgs) -> None:
        error = fault.exc_value
        if not isinstance(error, Interrupted | Terminated):
            report(fault)
            return
        number = error.args[0] - 128 if isinstance(error, Terminated) else signal.SIGINT
        timers.append(threading.Timer(AGAIN, _send, [main, number]))  # later: in here it would be lost once more
        timers[-1].daemon = True
        timers[-1].start()

    sys.unraisablehook = noticed
    try:
        yield
    finally:
        sys.unraisablehook = report
        for timer in timers:
            timer.cancel()


def _send(thread: int, number: int) -> None:
    """Send a signal to a thread, which wakes it. Windows sends none to a thread: there it comes as Ctrl-C does."""
    if sys.platform == "win32":
        signal.raise_signal(number)
    else:
        signal.pthread_kill(thread, number)


def _open_closed_streams() -> None:
    """Point closed standard streams to nowhere: else a file gets the number of one, and what libraries print."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open until the end


def escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write what a console cannot show as ``\\u691c``, and the undecodable bytes of a file name as those bytes."""
    if not isinstance(error, UnicodeEncodeError):
        return codecs.lookup_error("surrogateescape")(error)
    letters = error.object[error.start : error.end]
    parts = [bytes([ord(c) - 0xDC00]) if "\udc80" <= c <= "\udcff" else c.encode("ascii", "backslashreplace") for c in letters]
    return b"".join(parts), error.end


class _Printer(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        is_note = record.levelno <= logging.INFO
        text = printable(f"{'note' if is_note else record.levelname.lower()}: {record.getMessage()}", kept="\n")
        click.secho(text, fg=None if is_note else "yellow", err=True)  # colours only on a terminal


def progress_bar(items: Iterable[Any], description: str | Callable[[], str], total: int | None = None) -> Iterator[Any]:
    """Iterate with a live bar and rate on standard error if it is a terminal, else silently.
    ``description`` says what is being done; a function is called again for every item."""
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


def hand_over(text: str, code: int) -> bool:
    """Pass an error and its exit status to the process that launched this one; False if there is none."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if LAUNCHED not in os.environ or not file:
        return False
    now = time.time_ns()
    answer = {"message": text, "code": code, "timestamp": now // 10**9, "order": now}
    Path(file).write_text(json.dumps(answer), encoding="utf-8")
    return True
