"""MVTec LOCO AD (Bergmann et al., IJCV 2022): five categories with structural and logical anomalies, several masks an image.

A logical anomaly is a missing, surplus or misplaced part. Where any of several places would be right, the mask marks all of
them, and a method that finds a part of it has found all: ``defects_config.json`` says from how much on, for each value that a
mask may hold. The layout is that of public descriptions, and the counts are those that users of the published copy report: six
training images and one for validation more than the paper has, all of splicing_connectors. No copy was at hand to check them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, cast

from pydantic import Field, TypeAdapter, ValidationError

from anomaly_core import ANOMALOUS, NORMAL, DataError, Sample, fault, read_untrusted
from anomaly_datasets.config import MVTecLOCOConfig
from anomaly_datasets.facts import MVTEC_LOCO
from anomaly_datasets.files import image_files, samples_in
from anomaly_datasets.validation import ValidatedTree


@dataclass(frozen=True)
class Saturation:
    """An entry of ``defects_config.json``: how much of a defect must be marked before all of it counts as found.

    Attributes:
        defect_name: the defect, in words.
        pixel_value: the value of its pixels in a mask.
        saturation_threshold: pixels, or with ``relative_saturation`` a share of the mask.
    """

    defect_name: str
    pixel_value: Annotated[int, Field(ge=1, le=65535)]
    saturation_threshold: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    relative_saturation: bool

    def pixels(self, area: int) -> float:
        """How many of the ``area`` pixels of a mask are enough."""
        return min(self.saturation_threshold * (area if self.relative_saturation else 1), area)


_TABLE = TypeAdapter(list[Saturation])


class MVTecLOCOData(ValidatedTree):
    """The tree as it is published; a copy with some of the categories is accepted.

    ``Sample.mask_path`` holds all masks of an image. ``Sample.extra["saturation"]`` of an anomalous image maps each value that
    a mask may hold to its :class:`Saturation`.
    """

    layout = MVTEC_LOCO.layout

    def test_samples(self, category: str) -> list[Sample]:
        folder = self.folder(category)
        saturation = self._saturation(folder / "defects_config.json")
        samples = samples_in(folder / "test" / self.good, NORMAL, category, "good")
        for kind in cast(MVTecLOCOConfig, self.config).kinds:
            defect = f"{kind}_anomalies"
            for sample in samples_in(folder / "test" / defect, ANOMALOUS, category, defect):
                masks = folder / "ground_truth" / defect / sample.path.stem
                files = tuple(image_files(masks)) if masks.is_dir() else ()
                samples.append(replace(sample, mask_path=files or None, extra=saturation))
        return samples

    def _saturation(self, file: Path) -> dict[str, dict[int, Saturation]]:
        if not file.exists():
            warnings.warn(
                f"there is no {str(file)!r}: from how much on a defect counts as found is not known, and metrics that "
                "need it have no value. The published archive has this file.",
                stacklevel=2,
            )
            return {}
        try:
            entries = _TABLE.validate_json(read_untrusted(file))
        except (OSError, ValidationError) as error:
            raise DataError(
                f"{str(file)!r} must list the defects with defect_name, pixel_value, saturation_threshold and "
                f"relative_saturation: {fault(error)}. Unpack the data set again."
            ) from error
        return {"saturation": {entry.pixel_value: entry for entry in entries}}
