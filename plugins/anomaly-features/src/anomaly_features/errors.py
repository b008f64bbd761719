"""BackboneError. Torch-free."""

from __future__ import annotations

from anomaly_core import AnomalyError


class BackboneError(AnomalyError):
    """Pretrained weights that are missing or do not fit."""
