"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import CommandSpec

DOCTOR = CommandSpec(
    target="anomaly_doctor.doctor:doctor", summary="Say what is installed and works, and what is broken, for a bug report."
)
