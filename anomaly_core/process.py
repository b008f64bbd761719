"""What the program does to its own process: it keeps the memory that it will need again, and ends without a teardown.

Beside that, how it imports what takes long.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h
_KEPT = (1 << 31) - 1  # bytes, the greatest that malloc.h takes. With 512 MiB, a batch still gave back half of its pages.


def keep_memory() -> bool:
    """Let malloc keep freed memory for the next allocation, up to 2 GiB at the heap's end; returns whether it does.

    By itself, glibc gives each large block back to the kernel as soon as it is free, and the kernel clears the pages of the
    next one: with networks on the CPU that can take as long as computing. It is the C library's setting for the whole
    process and cannot be undone, so only programs choose it, such as ``anomaly``: call it before the first images are computed.
    Without glibc (Windows, macOS, musl), or where ``$MALLOC_...`` or ``$GLIBC_TUNABLES`` chose already, nothing changes.
    """
    chosen = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    if platform.system() != "Linux" or any(name in os.environ for name in chosen):
        return False
    try:
        library = ctypes.CDLL(None)
        _ = library.gnu_get_libc_version  # musl has none, and its mallopt, if there is one, is another
        return bool(library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, _KEPT))
    except (AttributeError, OSError):
        return False


def return_memory() -> None:
    """Give what malloc keeps back to the kernel: between phases that need other blocks, or the peak would grow by both."""
    if platform.system() == "Linux":
        with suppress(AttributeError, OSError):  # musl has no malloc_trim
            ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def importing() -> Iterator[None]:
    """Inside, Python looks for no garbage, which takes a seventh of the time of importing torch and finds none."""
    looked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looked:
            gc.enable()


def is_program(frame: FrameType | None) -> bool:
    """Whether the script ``anomaly`` or ``python -m anomaly_core`` called it, with no debugger or profiler around."""
    caller = frame and frame.f_back
    if caller is None or caller.f_globals.get("__name__") != "__main__":
        return False
    spec = caller.f_globals.get("__spec__")
    if (spec.name if spec else Path(caller.f_globals.get("__file__") or "").name) not in ("anomaly", "anomaly_core.__main__"):
        return False
    while (caller := caller.f_back) is not None:
        if caller.f_globals.get("__name__") != "runpy":  # python -m
            return False
    return not (sys.gettrace() or sys.getprofile())


def end(status: int) -> None:
    """End the process as Python would, without tearing down its modules, which takes a second where torch has been imported.

    Threads are awaited, exit handlers run, and what files and streams still hold is written. If that fails, or where it may
    not be enough (Windows, ``python -i``, one of several processes), it returns: Python then ends as ever and reports errors.
    """
    await_threads, run_handlers = getattr(threading, "_shutdown", None), getattr(atexit, "_run_exitfuncs", None)
    usual = os.name != "posix" or sys.flags.inspect or "WORLD_SIZE" in os.environ
    if usual or await_threads is None or run_handlers is None:
        return
    await_threads()
    run_handlers()
    with suppress(Exception):
        for one in gc.get_objects():  # by type: isinstance would ask a proxy for its class, and run its code
            if issubclass(type(one), io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom) and not one.closed:
                one.flush()
        sys.stdout.flush()
        sys.stderr.flush()
        ctypes.CDLL(None).fflush(None)
        os._exit(status)
