"""PCA whitening of patches: distances in which every principal direction of normal patches counts alike.

Distances between whitened patches are Mahalanobis distances under the covariance of all training patches. Kessy, Lewin and
Strimmer, "Optimal whitening and decorrelation", The American Statistician 2018, https://arxiv.org/abs/1512.00809. The
eigenvalues are drawn towards their mean, as Ledoit and Wolf (2004) do, so that directions of mere noise are not blown up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_core import DataError
from anomaly_patchcore.padim.moments import Moments

LEAST = 1e-10  # of the largest eigenvalue: smaller ones are rounding


def whitening_of(moments: Moments, components: int | None, shrinkage: float) -> Tensor:
    """The matrix that whitens patches x, as x @ matrix.

    Args:
        moments: of the training patches, at one location.
        components: principal directions that are kept, those of the largest variance; None: all.
        shrinkage: in [0, 1): each eigenvalue becomes (1 - shrinkage) of itself and ``shrinkage`` of their mean.

    Returns:
        float32 (D, components).

    Raises:
        DataError: the patches are not finite, or all alike.
    """
    scatter = moments.scatter()[0]
    device = scatter.device
    if not scatter.isfinite().all():
        raise DataError("the training patches hold NaN or infinity. Check the images and the backbone's weights.")
    if device.type == "mps":  # knows no float64
        scatter = scatter.cpu()
    covariance = scatter.double() / max(1, moments.count)
    variances, directions = torch.linalg.eigh(covariance)
    variances, directions = variances.flip(0), directions.flip(1)
    if not float(variances[0]) > 0:
        raise DataError("all training patches are alike, so that they have no covariance. Set model.whiten=false.")
    shrunk = (1 - shrinkage) * variances + shrinkage * variances.mean()
    scales = shrunk.clamp(min=LEAST * float(variances[0])).rsqrt()
    matrix: Tensor = (directions * scales)[:, :components].float().contiguous()
    return matrix.to(device)
