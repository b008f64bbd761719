"""Imports OpenVINO without its telemetry."""

from __future__ import annotations

import sys
from types import ModuleType

TELEMETRY = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """The package ``openvino``, without telemetry. By default, its import forks a process that reports to the vendor.
    If the telemetry module cannot be imported, OpenVINO works without it, and an inspection PC reports nothing."""
    if "openvino" not in sys.modules and TELEMETRY not in sys.modules:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # makes the import of this module fail
        try:
            import openvino
        finally:
            del sys.modules[TELEMETRY]
        return openvino  # type: ignore[no-any-return]  # mypy also runs without openvino installed
    import openvino

    return openvino  # type: ignore[no-any-return]
