"""Scale: a method's scores as minus the logarithm of the share of normal images that score as high."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

BODY = (0.0, 0.25, 0.5, 0.75, 0.9)  # shares of the normal images below a knot
TAIL = (0.9, 0.95, 0.975, 0.99)  # and beyond, where nothing is extrapolated
KNOTS = len(BODY) + len(TAIL)
NARROWEST = 1e-3  # of two knots' distance, as a share of the whole: scores may be tied


class Scale(nn.Module):
    """A rising, piecewise linear function, with the same meaning for every method: 0 is the lowest of the normal images, and
    2.3 a score that one in ten of them reaches.

    Up to that it follows their quantiles. Beyond, ``tail`` continues with the slope 1 / b, b being the mean excess of the
    highest tenth: for exceedances that are exponential, as of most light-tailed scores, that is minus the logarithm of the
    share (Pickands, Annals of Statistics 1975, with shape 0). So anomalous images far beyond all normal ones stay in order.
    ``p_value`` follows the quantiles to the greatest score and then stays at ln(N + 1), the conformal p-value of N images.

    Averaged over methods, this is Fisher's combination of their p-values (Statistical Methods for Research Workers, 1932). It
    is used as a score: nothing assumes that the methods are independent, for the ensemble has a threshold of its own.
    """

    knots: Tensor
    slopes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("knots", torch.zeros(KNOTS))  # where the slope changes
        self.register_buffer("slopes", torch.zeros(KNOTS))  # from each knot to the next, and beyond the last

    def fit(self, values: Sequence[float], *, low: float | None = None, extrapolate: bool = True) -> None:
        """Fit to the scores of normal images that the method did not see.

        Args:
            values: at least one.
            low: takes the place of the lowest: for maps, whose ``values`` are the images' greatest, a typical normal pixel.
            extrapolate: whether it goes on beyond the greatest.
        """
        scores = torch.tensor(sorted(values), dtype=torch.float64)
        shares = [*BODY, *([] if extrapolate else TAIL[1:])]
        places = [float(torch.quantile(scores, share)) for share in shares]
        if low is not None:
            places[0] = min(low, places[0])
        heights = [-math.log1p(-share) for share in shares]
        excess = float((scores[scores >= places[len(BODY) - 1]] - places[len(BODY) - 1]).mean())
        if not extrapolate:
            places.append(float(scores[-1]))
            heights.append(max(math.log(len(scores) + 1), heights[-1] + 0.1))
        width = max(places[-1] - places[0], abs(places[-1]) * 1e-5, 1e-12)
        for number in range(1, len(places)):
            places[number] = max(places[number], places[number - 1] + NARROWEST * width)
        slopes = [
            (above - below) / (right - left)
            for (left, right), (below, above) in zip(pairwise(places), pairwise(heights), strict=True)
        ]
        beyond = 1 / max(excess, NARROWEST * width) if extrapolate else 0.0
        slopes = [*slopes, beyond]
        padding = KNOTS - len(places)
        self.knots = torch.tensor([*places, *[places[-1]] * padding]).to(self.knots)
        self.slopes = torch.tensor([*slopes[:-1], *[0.0] * padding, slopes[-1]]).to(self.slopes)

    def forward(self, values: Tensor) -> Tensor:
        """float32 of any shape -> the same shape."""
        # Each piece adds its rise, so that steep ones do not cancel; the first goes on below the lowest, where it is negative.
        result = self.slopes[0] * (values.minimum(self.knots[1]) - self.knots[0])
        for slope, left, right in zip(self.slopes[1:-1], self.knots[1:-1], self.knots[2:], strict=True):
            result = result + slope * (values.minimum(right) - left).clamp(min=0)
        return result + self.slopes[-1] * (values - self.knots[-1]).clamp(min=0)
