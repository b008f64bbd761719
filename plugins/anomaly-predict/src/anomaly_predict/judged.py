"""Predictions with verdicts, and those of several batches as one."""

from __future__ import annotations

from dataclasses import replace
from math import nan
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from anomaly_core import Calibration, DataError, Prediction
from anomaly_predict.arrays import is_tensor

Array = TypeVar("Array")


def judged(prediction: Prediction[Array], calibration: Calibration) -> Prediction[Array]:
    """The prediction, of tensors on the CPU or of numpy arrays, with the detector's threshold and p-values, if it has any."""
    if calibration.threshold is None:
        return prediction
    finite = finite_images(prediction)
    scores = np.asarray(prediction.scores, dtype=np.float64)
    values = [calibration.p_value(score) if fine else nan for score, fine in zip(scores.tolist(), finite, strict=True)]
    p_values: Any = np.array(values, dtype=np.float64)
    if is_tensor(prediction.scores):
        import torch

        p_values = torch.from_numpy(p_values)
    return replace(prediction, p_values=p_values, threshold=calibration.threshold)


def finite_images(prediction: Prediction[Any]) -> NDArray[np.bool_]:
    """For each image, whether its score and its map are finite: bool (B,)."""
    finite: NDArray[np.bool_] = np.isfinite(np.asarray(prediction.scores))
    if prediction.maps is None:
        return finite
    return finite & np.isfinite(np.asarray(prediction.maps)).reshape(len(finite), -1).all(axis=1)


def whole(parts: list[Prediction[Any]]) -> Prediction[Any]:
    """The predictions of several batches as one; DataError if there is none."""
    if not parts:
        raise DataError("no image was given to predict.")
    if len(parts) == 1:
        return parts[0]
    if is_tensor(parts[0].scores):
        return Prediction.joined(parts)
    columns = ([getattr(part, name) for part in parts] for name in ("scores", "maps", "reconstruction", "p_values"))
    arrays: list[Any] = [None if column[0] is None else np.concatenate(column) for column in columns]
    return Prediction(*[*arrays, parts[0].threshold])
