"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import CommandSpec, EngineSpec, HookSpec

TORCH = EngineSpec(target="anomaly_features.engines:eager", summary="PyTorch itself, on every device", auto=100)
BACKBONES = CommandSpec(
    target="anomaly_features.commands:backbones", summary="List, fetch and verify the pretrained weights that methods need."
)
HOOKS = HookSpec(target="anomaly_features.hooks:OBSERVERS", summary="examines pretrained weights for `anomaly doctor`")
