"""FlowTrainer: gradient descent on a likelihood; NLL and bits per dimension are logged, the best held-out NLL is kept."""

from __future__ import annotations

import math
from typing import cast

from anomaly_core.base.modeler import FlowModeler, GradientModeler
from anomaly_core.base.trainer import Figures
from anomaly_core.trainers.gradient import GradientTrainer


class FlowTrainer(GradientTrainer):
    """Fits a :class:`~anomaly_core.FlowModeler`.

    The loss of a flow leaves the Gaussian's constant out: NLL = loss + D/2 ln(2 pi), and bits per dimension = NLL / (D ln 2),
    with D the latent values of an image.
    """

    modelers = FlowModeler

    def summarize(self, modeler: GradientModeler, means: Figures) -> Figures:
        dimensions = cast(FlowModeler, modeler).dimensions
        nll = means["loss"] + 0.5 * dimensions * math.log(2 * math.pi)
        return {**means, "nll": nll, "bits_per_dim": nll / (dimensions * math.log(2))}
