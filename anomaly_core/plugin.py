"""What the core itself registers, by the same entry points as anybody."""

from __future__ import annotations

from anomaly_core.specs import CommandSpec, EngineSpec, MetricSpec, TrainerSpec


def _metric(target: str, summary: str, *, default: bool = True, oracle: bool = False) -> MetricSpec:
    return MetricSpec(target=f"anomaly_core.metrics.{target}", summary=summary, default=default, oracle=oracle)


IMAGE_AUROC = _metric("image:ImageAUROC", "area under the ROC curve of the image scores")
IMAGE_AP = _metric("image:ImageAP", "average precision of the image scores")
IMAGE_F1_MAX = _metric("image:ImageF1Max", "best F1 of the image scores over all thresholds (oracle)", oracle=True)
PIXEL_AUROC = _metric("pixel:PixelAUROC", "area under the ROC curve of the map values")
PIXEL_AP = _metric("pixel:PixelAP", "average precision of the map values")
PIXEL_F1_MAX = _metric("pixel:PixelF1Max", "best F1 of the map values over all thresholds (oracle)", oracle=True)
AUPRO = _metric("pixel:AUPRO", "area under the per-region-overlap curve up to a false-positive rate of 0.3")
AUPRO_005 = _metric(
    "pixel:AUPRO005", "area under the per-region-overlap curve up to a false-positive rate of 0.05", default=False
)
AUPIMO = _metric("pixel:AUPIMO", "area under the per-image-overlap curve, false-positive rates 1e-5 to 1e-4", default=False)
IMAGE_ACCURACY = _metric("threshold:ImageAccuracy", "share of right verdicts at the calibrated threshold")
IMAGE_PRECISION = _metric("threshold:ImagePrecision", "precision at the calibrated threshold")
IMAGE_RECALL = _metric("threshold:ImageRecall", "recall at the calibrated threshold")
IMAGE_F1 = _metric("threshold:ImageF1", "F1 at the calibrated threshold")

MEMORY = TrainerSpec(
    target="anomaly_core.trainers.memory:MemoryTrainer",
    config="anomaly_core.trainers.config:MemoryTrainConfig",
    summary="one pass over the normal images, then the memory is built",
)

GRADIENT = TrainerSpec(
    target="anomaly_core.trainers.gradient:GradientTrainer",
    config="anomaly_core.trainers.config:GradientTrainConfig",
    summary="epochs of gradient descent; the best epoch on held-out normal images is kept",
)
FLOW = TrainerSpec(
    target="anomaly_core.trainers.flow:FlowTrainer",
    config="anomaly_core.trainers.config:FlowTrainConfig",
    summary="gradient descent on a likelihood: NLL and bits per dimension, gradients clipped",
)
CLASSIFICATION = TrainerSpec(
    target="anomaly_core.trainers.classification:ClassificationTrainer",
    config="anomaly_core.trainers.config:ClassificationTrainConfig",
    summary="gradient descent on synthetic anomalies, supervised by their pixels",
)

TORCH = EngineSpec(target="anomaly_core.engines:eager", summary="PyTorch itself, on every device")

RUN = CommandSpec(target="anomaly_core.cli.run:run", summary="Fit, calibrate and judge a detector.")
PREDICT = CommandSpec(target="anomaly_core.cli.predict:predict", summary="Score new images with a finished run.")
EVALUATE = CommandSpec(
    target="anomaly_core.cli.evaluate:evaluate", summary="Judge a finished run again, on the same or other data."
)
COMPARE = CommandSpec(
    target="anomaly_core.cli.compare:compare", summary="Put finished runs side by side: which differences are real."
)
BENCHMARK = CommandSpec(target="anomaly_core.cli.benchmark:benchmark", summary="Run a grid of models, categories and seeds.")
LIST_PLUGINS = CommandSpec(target="anomaly_core.cli.list_plugins:list_plugins", summary="Show what is installed, and whence.")
SHOW = CommandSpec(target="anomaly_core.cli.show:show", summary="Show every option of a model, data set or trainer.")
BACKBONES = CommandSpec(
    target="anomaly_core.cli.backbones:backbones", summary="List, fetch and verify the pretrained weights that methods need."
)
DOCTOR = CommandSpec(target="anomaly_core.cli.doctor:doctor", summary="Say what is installed and works, for a bug report.")
COMPLETION = CommandSpec(target="anomaly_core.cli.completion:completion", summary="Print the shell's completion script.")
CHECK = CommandSpec(target="anomaly_core.cli.check:check", summary="Check that a plugin's components keep the contract.")
