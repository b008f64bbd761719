"""MVTec LOCO AD (Bergmann et al., IJCV 2022): five categories with structural and logical anomalies, several masks an image.

A logical anomaly is a missing, surplus or misplaced part. Where any of several places would be right, the mask marks all of
them, and a method that finds a part of it has found all: ``defects_config.json`` says from how much on, for each value that a
mask may hold. The layout is that of public descriptions, and the counts are those that users of the published copy report: six
training images and one for validation more than the paper has, all of splicing_connectors. No copy was at hand to check them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from anomaly_core import ANOMALOUS, NORMAL, Sample
from anomaly_datasets.config import MVTecLOCOConfig
from anomaly_datasets.facts import MVTEC_LOCO
from anomaly_datasets.files import image_files, samples_in
from anomaly_datasets.saturation import DEFECTS_CONFIG, saturation_of
from anomaly_datasets.validation import ValidatedTree


class MVTecLOCOData(ValidatedTree):
    """The tree as it is published; a copy with some of the categories is accepted.

    ``Sample.mask_path`` holds all masks of an image. ``Sample.extra["saturation"]`` of an anomalous image maps each value that
    a mask may hold to its :class:`~.saturation.Saturation`.
    """

    layout = MVTEC_LOCO.layout

    def test_samples(self, category: str) -> list[Sample]:
        folder = self.folder(category)
        saturation = saturation_of(folder / DEFECTS_CONFIG)
        samples = samples_in(folder / "test" / self.good, NORMAL, category, "good")
        for kind in cast(MVTecLOCOConfig, self.config).kinds:
            defect = f"{kind}_anomalies"
            for sample in samples_in(folder / "test" / defect, ANOMALOUS, category, defect):
                masks = folder / "ground_truth" / defect / sample.path.stem
                files = tuple(image_files(masks)) if masks.is_dir() else ()
                samples.append(replace(sample, mask_path=files or None, extra=saturation))
        return samples
