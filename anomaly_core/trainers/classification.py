"""ClassificationTrainer: gradient descent on synthetic anomalies, whose pixels supervise; their F1 is logged."""

from __future__ import annotations

from anomaly_core.base.modeler import ClassificationModeler, GradientModeler
from anomaly_core.base.trainer import Figures
from anomaly_core.trainers.gradient import GradientTrainer


class ClassificationTrainer(GradientTrainer):
    """Fits a :class:`~anomaly_core.ClassificationModeler`; ``pixel_f1`` is that of synthetic pixels at probability 0.5."""

    modelers = ClassificationModeler

    def summarize(self, modeler: GradientModeler, means: Figures) -> Figures:
        found, extra, missed = (means.pop(name, 0.0) for name in ("true_positives", "false_positives", "false_negatives"))
        both = 2 * found + extra + missed
        return {**means, "synthetic_pixel_f1": 2 * found / both if both else 0.0}
