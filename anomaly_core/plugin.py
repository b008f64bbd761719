"""What the core itself registers, by the same entry points as anybody."""

from __future__ import annotations

from anomaly_core.specs import CommandSpec, MetricSpec, TrainerSpec


def _metric(target: str, summary: str) -> MetricSpec:
    return MetricSpec(target=f"anomaly_core.metrics.{target}", summary=summary, default=True)


IMAGE_AUROC = _metric("image:ImageAUROC", "area under the ROC curve of the image scores")
IMAGE_AP = _metric("image:ImageAP", "average precision of the image scores")
IMAGE_F1_MAX = _metric("image:ImageF1Max", "best F1 of the image scores over all thresholds (oracle)")
PIXEL_AUROC = _metric("pixel:PixelAUROC", "area under the ROC curve of the map values")
PIXEL_AP = _metric("pixel:PixelAP", "average precision of the map values")
PIXEL_F1_MAX = _metric("pixel:PixelF1Max", "best F1 of the map values over all thresholds (oracle)")
IMAGE_ACCURACY = _metric("threshold:ImageAccuracy", "share of right verdicts at the calibrated threshold")
IMAGE_PRECISION = _metric("threshold:ImagePrecision", "precision at the calibrated threshold")
IMAGE_RECALL = _metric("threshold:ImageRecall", "recall at the calibrated threshold")
IMAGE_F1 = _metric("threshold:ImageF1", "F1 at the calibrated threshold")

MEMORY = TrainerSpec(
    target="anomaly_core.trainers.memory:MemoryTrainer",
    config="anomaly_core.trainers.config:MemoryTrainConfig",
    summary="one pass over the normal images, then the memory is built",
)

RUN = CommandSpec(target="anomaly_core.cli.run:run", summary="Fit, calibrate and judge a detector.")
PREDICT = CommandSpec(target="anomaly_core.cli.predict:predict", summary="Score new images with a finished run.")
LIST_PLUGINS = CommandSpec(target="anomaly_core.cli.list_plugins:list_plugins", summary="Show what is installed, and whence.")
SHOW = CommandSpec(target="anomaly_core.cli.show:show", summary="Show every option of a model, data set or trainer.")
