"""The core's own component, registered through the same entry point as any plugin's."""

from __future__ import annotations

from anomaly_core.specs import CommandSpec

RUN = CommandSpec(target="anomaly_core.cli.run:run", summary="Fit, calibrate and test a detector.")
