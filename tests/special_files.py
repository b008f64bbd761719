"""What may lie where a file is expected and is none; and work that must not wait for it for ever."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 30.0  # seconds


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(".", os.O_RDONLY)  # a socket's path may have 107 bytes
        try:
            os.chdir(path.parent)
            server.bind(path.name)
        finally:
            os.fchdir(here)
            os.close(here)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def dead_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def loop(path: Path) -> None:
    other = path.with_name(f"other-{path.name}.link")
    other.symlink_to(path)
    path.symlink_to(other)


def folder(path: Path) -> None:
    path.mkdir()


SPECIAL: dict[str, Callable[[Path], None]] = {
    "pipe": pipe, "socket": listener, "device": device, "dead": dead_link, "loop": loop, "folder": folder,
}  # fmt: skip


def in_time(work: Callable[[], T], *pipes: Path) -> T:
    """The result of ``work``, or its error; an AssertionError if it still waits, after what waits for ``pipes`` was freed."""
    answers: list[T] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            answers.append(work())
        except BaseException as error:  # the test wants it
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    waits = thread.is_alive()
    for path in pipes if waits else ():
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    thread.join(PATIENCE)
    assert not waits, "it waits for a writer"
    if errors:
        raise errors[0]
    return answers[0]
