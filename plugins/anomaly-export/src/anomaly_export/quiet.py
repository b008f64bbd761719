"""OpenVINO, imported without a word to anybody."""

from __future__ import annotations

import sys
from types import ModuleType

TELEMETRY = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """The package ``openvino``. Its import would fork a process that tells its makers of it; where its telemetry cannot be
    imported, it does without, and an inspection PC tells nobody what it does."""
    if "openvino" not in sys.modules and TELEMETRY not in sys.modules:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # how Python is told that a module cannot be imported
        try:
            import openvino
        finally:
            del sys.modules[TELEMETRY]
        return openvino  # type: ignore[no-any-return]  # it is checked without being installed
    import openvino

    return openvino  # type: ignore[no-any-return]
