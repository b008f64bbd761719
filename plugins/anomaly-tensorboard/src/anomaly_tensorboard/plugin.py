"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import HookSpec

HOOKS = HookSpec(
    target="anomaly_tensorboard.hooks:OBSERVERS",
    summary="writes losses, metrics and pictures for TensorBoard",
)
