"""Metrics in plain words, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Iterable

from anomaly_core.errors import PluginError
from anomaly_core.registry import registry
from anomaly_core.results import is_oracle as is_oracle_by_spec

ORACLE = "That threshold was chosen on the test images themselves: do not expect this value on new ones."

WORDS = {
    "image_auroc": "The chance that an anomalous image scores higher than a normal one; 1 is perfect, 0.5 is guessing.",
    "image_ap": "Mean precision over all recalls as the threshold falls (average precision); 1 is perfect.",
    "image_f1": "Balance of precision and recall at the run's threshold; 1 is perfect.",
    "image_recall": "Share of the anomalous images that were found at the run's threshold.",
    "image_precision": "Share of true anomalies among the images called anomalous at the run's threshold.",
    "image_accuracy": "Share of images whose verdict is right at the run's threshold.",
    "image_f1_max": f"The best F1 that any threshold reaches. {ORACLE}",
    "pixel_auroc": "The chance that a defect's pixel scores higher than a good one.",
    "pixel_ap": "Mean precision over all recalls of the pixels (average precision); strict where defects are small.",
    "aupro": "How well each defect's area is covered, small defects counting as much as large ones, up to a pixel "
    "false-positive rate of 0.3.",
    "aupro_005": "The same up to a pixel false-positive rate of 0.05.",
    "aupimo": "How well each anomalous image's defect is covered when hardly a normal pixel may be marked.",
    "pixel_f1_max": f"The best F1 of the pixels that any threshold reaches. {ORACLE}",
    "psnr": "How close reconstructions are to the images, in decibels.",
    "ssim": "How alike reconstructions and images are in structure; 1 is equal.",
    "lpips": "How different reconstructions look from the images; 0 is equal.",
}
NAMES = {
    "image_auroc": "Image AUROC",
    "image_ap": "Image AP",
    "image_f1": "Image F1",
    "image_recall": "Image recall",
    "image_precision": "Image precision",
    "image_accuracy": "Image accuracy",
    "image_f1_max": "Image F1-max",
    "pixel_auroc": "Pixel AUROC",
    "pixel_ap": "Pixel AP",
    "aupro": "AUPRO",
    "aupro_005": "AUPRO 0.05",
    "aupimo": "AUPIMO",
    "pixel_f1_max": "Pixel F1-max",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips": "LPIPS",
}
ORACLES = {"image_f1_max", "pixel_f1_max"}  # whatever is installed; other plugins' are found by their specs
LOWER_IS_BETTER = {"lpips"}


def is_metric(name: str) -> bool:
    """Whether it judges the run; other figures are what a method tells of itself."""
    return name in WORDS or name in registry.metrics


def title(name: str) -> str:
    """The name as a table's head shows it."""
    return NAMES.get(name, name.replace("_", " "))


def meaning(name: str) -> str:
    """One sentence; the registry's summary for a metric that is not ours."""
    return WORDS.get(name) or _summary(name)


def higher_is_better(name: str) -> bool:
    """The direction in which a method improves, as the metric's spec says."""
    try:
        return bool(registry.metrics[name].spec.higher_is_better)
    except PluginError:  # the plugin of an old run need not be installed to look at it
        return name not in LOWER_IS_BETTER


def is_oracle(name: str) -> bool:
    """Whether its threshold is chosen on the test set itself."""
    return name in ORACLES or is_oracle_by_spec(name)


def ordered(names: Iterable[str]) -> list[str]:
    """Metrics alone, without repetition: ours as above, then others by name."""
    found = {name for name in names if is_metric(name)}
    return [name for name in WORDS if name in found] + sorted(found - WORDS.keys())


def _summary(name: str) -> str:
    try:
        return str(registry.metrics[name].spec.summary)
    except PluginError:
        return ""
