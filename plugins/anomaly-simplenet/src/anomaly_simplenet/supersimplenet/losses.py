"""The losses of both heads: truncated L1 and focal loss of the map's logits, focal loss of the score's."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

MARGIN = 0.5  # map logits shall be beyond it
GAMMA = 4


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Lin et al., 2017, with gamma 4 and without alpha: the mean, a scalar; 0 of nothing.

    Args:
        logits: float, any shape.
        targets: bool, the same shape.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
    missed = (logits.sigmoid() - targets.to(logits.dtype)).abs()  # 1 - p_t
    return _mean(cross_entropy * missed**GAMMA)


def truncated_l1(logits: Tensor, masks: Tensor) -> Tensor:
    """Normal cells shall have map logits below -0.5, anomalous ones above 0.5: the sum of both means, a scalar.

    Args:
        logits: float, any shape.
        masks: bool, the same shape.
    """
    return _mean((logits[~masks] + MARGIN).clamp(min=0)) + _mean((MARGIN - logits[masks]).clamp(min=0))


def losses(
    map_logits: Tensor, score_logits: Tensor, masks: Tensor, labels: Tensor, known: Tensor | None = None
) -> dict[str, Tensor]:
    """What is minimised, ``loss``, and its three parts.

    Args:
        map_logits: float32 (B, 1, h, w).
        score_logits: float32 (B,).
        masks: bool (B, 1, h, w), the anomalous cells.
        labels: bool (B,), the anomalous images.
        known: bool (B,), the images whose masks say where they are anomalous; the map of the others is not judged. None: all.
    """
    if known is not None:
        map_logits, masks = map_logits[known], masks[known]
    parts = {
        "l1_map": truncated_l1(map_logits, masks),
        "focal_map": focal_loss(map_logits, masks),
        "focal_score": focal_loss(score_logits, labels),
    }
    return {"loss": parts["l1_map"] + parts["focal_map"] + parts["focal_score"], **parts}


def _mean(values: Tensor) -> Tensor:
    """The mean, and 0 of nothing."""
    return values.sum() / max(values.numel(), 1)
