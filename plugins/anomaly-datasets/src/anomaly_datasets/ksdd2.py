"""Kolektor SDD2 (Božič, Tabernik and Skočaj, Computers in Industry 2021): 3,335 images of one coated surface, about 230 x 630.

Every image has a mask, ``10000_GT.png`` beside ``10000.png``, and **a black mask means a normal image**: the label comes from
the mask. Each mask is therefore read once when the samples are listed, which takes a few seconds. ``train`` holds 246 defective
images too; only its 2,085 normal ones train, and ``data.abnormal_train`` draws from the others.

Files whose name is not a number, such as a copy that a file manager made, are left out with a warning. The counts are those of
the paper; no copy was at hand to check them.
"""

from __future__ import annotations

import warnings
from functools import cached_property

from anomaly_core import ANOMALOUS, NORMAL, BaseDataModule, DataError, Sample, progress_bar, read_mask
from anomaly_datasets.facts import KSDD2
from anomaly_datasets.files import images_in, missing_root

CATEGORY = KSDD2.categories[0]


class KSDD2Data(BaseDataModule):
    """One category, with the published split."""

    def categories(self) -> list[str]:
        if not all((self.root / part).is_dir() for part in ("train", "test")):
            raise missing_root(self, KSDD2.layout)
        return [CATEGORY]

    def train_samples(self, category: str) -> list[Sample]:
        return [sample for sample in self.train if sample.label == NORMAL]

    def abnormal_samples(self, category: str) -> list[Sample]:
        return [sample for sample in self.train if sample.label == ANOMALOUS]

    def test_samples(self, category: str) -> list[Sample]:
        return self.test

    @cached_property
    def train(self) -> list[Sample]:
        """All images of the folder ``train``. DataError if one has no mask, for its label is unknown then."""
        return self._samples("train")

    @cached_property
    def test(self) -> list[Sample]:
        """As :attr:`train`, of the folder ``test``."""
        return self._samples("test")

    def _samples(self, part: str) -> list[Sample]:
        images = [path for path in images_in(self.root / part) if not path.stem.endswith("_GT")]
        strange = [path for path in images if not path.stem.isdecimal()]
        if strange:
            warnings.warn(
                f"{len(strange)} files of {str(self.root / part)!r} are left out, for their names are no numbers, such as "
                f"{strange[0].name!r}.",
                stacklevel=2,
            )
        samples = []
        for path in progress_bar([path for path in images if path.stem.isdecimal()], f"reading the masks of {part}"):
            mask = path.with_name(f"{path.stem}_GT.png")
            if not mask.is_file():
                raise DataError(
                    f"{str(path)!r} has no mask {mask.name!r} beside it, which says whether it is defective. "
                    "Unpack the data set again."
                )
            if read_mask(mask).getbbox() is None:
                samples.append(Sample(path, NORMAL, None, CATEGORY, "good"))
            else:
                samples.append(Sample(path, ANOMALOUS, mask, CATEGORY, "defect"))
        return samples
