"""The moments that a finished PaDiM was built from, found again in its state."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_patchcore.padim.model import CELLS, PaDiMModel
from anomaly_patchcore.padim.moments import Moments


def reopened(model: PaDiMModel) -> Moments:
    """The moments of all training embeddings; the model is empty afterwards, for they take over the memory of its whitening.

    The covariance is the inverse of W^T W less the regularisation, computed in float64. W was rounded to float32 when it was
    stored: an entry of the scatter comes back to about 1e-5 of the greatest one, which changes distances by less than that
    (measured in ``docs/guides/own-images.md``).
    """
    count, mean, whitening = int(model.images), model.mean.flatten(0, 1), model.whitening.flatten(0, 1)
    dim = mean.shape[1]
    model.mean, model.whitening = mean.new_empty(0, 0, dim), mean.new_empty(0, 0, dim, dim)
    with torch.inference_mode():  # as a fit of this process made them
        _scatter(whitening, count, model.regularization)
    return Moments.of(mean, whitening, count)


def _scatter(whitening: Tensor, count: int, regularization: float) -> None:
    """Overwrite (L, D, D) inverse Cholesky factors of regularised covariances with the scatter matrices."""
    dim = whitening.shape[1]
    exact = "cpu" if whitening.device.type == "mps" else whitening.device  # MPS has no float64
    identity = torch.eye(dim, dtype=torch.float64, device=exact)
    for part in whitening.split(max(1, CELLS // dim**2)):
        factor = torch.linalg.solve_triangular(part.to(exact, torch.float64), identity.expand(len(part), dim, dim), upper=False)
        part.copy_((factor @ factor.transpose(1, 2) - regularization * identity) * (count - 1))
