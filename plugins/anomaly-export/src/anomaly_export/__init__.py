"""Whole detectors in one file, and their use without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomaly_export.detector import Detector
    from anomaly_export.export import Report, export_run

__all__ = ["Detector", "Report", "export_run"]


def __getattr__(name: str) -> Any:
    """Detector needs no torch; what exports does, and is imported when it is first asked for."""
    if name == "Detector":
        from anomaly_export.detector import Detector

        return Detector
    if name in ("Report", "export_run"):
        from anomaly_export import export

        return getattr(export, name)
    raise AttributeError(f"module 'anomaly_export' has no attribute {name!r}")
