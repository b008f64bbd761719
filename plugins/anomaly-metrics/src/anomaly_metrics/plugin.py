"""What this distribution registers."""

from __future__ import annotations

from typing import Any

from anomaly_core import MetricSpec

ORACLE = "That threshold was chosen on the test images themselves: do not expect this value on new ones."


def _metric(target: str, title: str, summary: str, **facts: Any) -> MetricSpec:
    facts = {"default": True, "bounded": True, **facts}
    return MetricSpec(target=f"anomaly_metrics.{target}", title=title, summary=summary, **facts)


IMAGE_AUROC = _metric(
    "image:ImageAUROC",
    "Image AUROC",
    "The chance that an anomalous image scores higher than a normal one; 1 is perfect, 0.5 is guessing.",
    prominence="headline",
)
IMAGE_AP = _metric(
    "image:ImageAP",
    "Image AP",
    "Mean precision over all recalls as the threshold falls (average precision); 1 is perfect.",
    prominence="table",
)
IMAGE_F1_MAX = _metric(
    "image:ImageF1Max", "Image F1-max", f"The best F1 that any threshold reaches. {ORACLE}", prominence="table", oracle=True
)
IMAGE_ACCURACY = _metric(
    "threshold:ImageAccuracy", "Image accuracy", "Share of images whose verdict is right at the run's threshold."
)
IMAGE_PRECISION = _metric(
    "threshold:ImagePrecision",
    "Image precision",
    "Share of true anomalies among the images called anomalous at the run's threshold.",
)
IMAGE_RECALL = _metric(
    "threshold:ImageRecall", "Image recall", "Share of the anomalous images that were found at the run's threshold."
)
IMAGE_F1 = _metric(
    "threshold:ImageF1",
    "Image F1",
    "Balance of precision and recall at the run's threshold; 1 is perfect.",
    prominence="table",
)
OBJECT_AUROC = _metric(
    "image:ObjectAUROC",
    "Object AUROC",
    "The chance that an anomalous object scores higher than a normal one, each as the worst of its views.",
    default=False,
)
PIXEL_AUROC = _metric(
    "pixel:PixelAUROC",
    "Pixel AUROC",
    "The chance that a defect's pixel scores higher than a good one.",
    level="pixel",
    prominence="headline",
)
PIXEL_AP = _metric(
    "pixel:PixelAP",
    "Pixel AP",
    "Mean precision over all recalls of the pixels (average precision); strict where defects are small.",
    level="pixel",
    prominence="table",
)
PIXEL_F1_MAX = _metric(
    "pixel:PixelF1Max",
    "Pixel F1-max",
    f"The best F1 of the pixels that any threshold reaches. {ORACLE}",
    level="pixel",
    oracle=True,
)
AUPRO = _metric(
    "pixel:AUPRO",
    "AUPRO",
    "How well each defect's area is covered, small defects counting as much as large ones, up to a pixel false-positive rate "
    "of 0.3.",
    level="pixel",
    prominence="headline",
)
AUPRO_005 = _metric(
    "pixel:AUPRO005", "AUPRO 0.05", "AUPRO up to a pixel false-positive rate of 0.05.", level="pixel", default=False
)
AUSPRO_005 = _metric(
    "saturated:AUSPRO005",
    "AU-sPRO 0.05",
    "As AUPRO 0.05, but a defect of which enough is marked counts as found whole (MVTec LOCO AD).",
    level="pixel",
    default=False,
)
AUPIMO = _metric(
    "pixel:AUPIMO",
    "AUPIMO",
    "How well each anomalous image's defect is covered when hardly a normal pixel may be marked.",
    level="pixel",
    default=False,
)
SEG_F1 = _metric(
    "pixel:SegF1",
    "SegF1",
    "Balance of precision and recall of all pixels at the run's map threshold, which held-out normal images set; 1 is perfect.",
    level="pixel",
    default=False,
)
