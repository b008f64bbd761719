"""Scores, labels, maps and masks as numpy arrays, checked once for every metric."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import AnomalyError, UndefinedMetric


def as_array(values: Any) -> NDArray[Any]:
    """A numpy array from a tensor, an array or a list, without a copy if possible."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        # numpy has no bfloat16; float32 holds its values exactly.
        values = values.float().numpy() if "bfloat16" in str(values.dtype) else values.numpy()
    return np.asarray(values)


def scores_and_labels(scores: Any, labels: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(scores (N,), anomalous bool (N,)); AnomalyError where they do not match, are not finite, or a label is negative."""
    values, anomalous = as_array(scores).ravel(), as_array(labels).ravel()
    if values.size != anomalous.size:
        raise AnomalyError(f"{values.size} scores and {anomalous.size} labels: a metric needs one label a score.")
    require_finite(values)
    if anomalous.size and anomalous.min() < 0:
        raise AnomalyError(f"a label is {anomalous.min()}: 0 is normal, above 0 anomalous. Leave out what has no known label.")
    return values, anomalous != 0


def maps_and_masks(maps: Any, masks: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(maps (N, H, W), masks bool (N, H, W)) of tensors or arrays (N, H, W) or (N, 1, H, W); AnomalyError as above."""
    images, truth = (_without_channel(as_array(values)) for values in (maps, masks))
    if images.ndim != 3 or images.shape != truth.shape:
        raise AnomalyError(
            f"anomaly maps of shape {images.shape} against masks of {truth.shape}: both must be (N, H, W) or (N, 1, H, W)."
        )
    require_finite(images)
    return images, truth != 0


def require_finite(values: NDArray[Any]) -> None:
    """AnomalyError that says how many values are NaN or infinite, and where the first stands."""
    finite = np.isfinite(values)
    if not finite.all():
        first = int(np.argmin(finite))
        raise AnomalyError(
            f"{int((~finite).sum())} of {values.size} scores are NaN or infinite, first {values.flat[first]} at position "
            f"{first}: the model's output is damaged. Check its input and weights, and fit it again."
        )


def require_both_classes(normal: int, anomalous: int) -> None:
    """Raise UndefinedMetric if one or both classes are missing."""
    if not normal or not anomalous:
        only = "normal" if normal else "anomalous"
        raise UndefinedMetric(f"all {normal + anomalous} labels are {only}" if normal + anomalous else "there are no scores")


def _without_channel(values: NDArray[Any]) -> NDArray[Any]:
    return values[:, 0] if values.ndim == 4 and values.shape[1] == 1 else values
