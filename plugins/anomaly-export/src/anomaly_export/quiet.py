"""Imports OpenVINO and nncf without their telemetry."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import ModuleType

TELEMETRY = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """The package ``openvino``, without telemetry. By default, its import forks a process that reports to the vendor.
    If the telemetry module cannot be imported, OpenVINO works without it, and an inspection PC reports nothing."""
    with _without_telemetry("openvino"):
        import openvino

        return openvino  # type: ignore[no-any-return]  # mypy also runs without openvino installed


def import_nncf() -> ModuleType:
    """The package ``nncf``, likewise; it would also set the class of all loggers that follow."""
    chosen = logging.getLoggerClass()
    try:
        with _without_telemetry("nncf"), in_silence():
            import nncf
    finally:
        logging.setLoggerClass(chosen)
    return nncf  # type: ignore[no-any-return]  # mypy also runs without nncf installed


@contextmanager
def in_silence() -> Iterator[None]:
    """Without nncf's progress bars, which it prints on standard output, and without what it logs below an error."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


@contextmanager
def _without_telemetry(library: str) -> Iterator[None]:
    hide = library not in sys.modules and TELEMETRY not in sys.modules
    if hide:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # makes the import of this module fail
    try:
        yield
    finally:
        if hide:
            del sys.modules[TELEMETRY]
