"""Scores and maps compared, and shown in messages."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_testing.checks import require

RELATIVE, ABSOLUTE = 1e-4, 1e-6


def shown(scores: Tensor) -> str:
    """Scores (B,) in a message."""
    return ", ".join(f"{score:.6g}" for score in scores.tolist())


def require_near(name: str, one: Tensor, other: Tensor, where: str, relative: float = RELATIVE) -> None:
    """Raise :class:`~anomaly_testing.Broken` where two results differ by more than rounding."""
    require(one.shape == other.shape, f"{name} {where} have the shapes {tuple(one.shape)} and {tuple(other.shape)}.")
    near = torch.isclose(one, other, rtol=relative, atol=max(ABSOLUTE, relative * float(one.abs().max())))
    require(near.all(), f"{name} {where} differ by up to {float((one - other).abs().max()):.4g}.")
