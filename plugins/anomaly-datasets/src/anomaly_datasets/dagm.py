"""DAGM 2007 (Wieler and Hahn, DAGM symposium 2007): ten generated textures, each with one kind of defect, in 512 x 512 grey.

Half of each class's images are its ``Train``, half its ``Test``. Both hold defects; here the normal images of ``Train`` train,
``data.abnormal_train`` draws from its defective ones, and all of ``Test`` tests.

**Labels are weak**: an ellipse around each defect, which also covers sound texture. Pixel figures compare with each other
alone. An image is defective if ``Label`` holds its ellipse, or if ``Labels.txt`` names one; a copy without the folder
``Label`` is refused, since all its images would count as normal.

The totals are published; how the defective images are divided between ``Train`` and ``Test`` is taken from papers that use the
set. No copy was at hand to check either. The publisher states no licence.
"""

from __future__ import annotations

import re
from pathlib import Path

from anomaly_core import ANOMALOUS, NORMAL, BaseDataModule, DataError, Sample, read_untrusted
from anomaly_datasets.facts import DAGM
from anomaly_datasets.files import images_in, masks_in, missing_root


class DAGMData(BaseDataModule):
    """The root holds ``Class1`` and so on, or is the folder above ``DAGM_KaggleUpload``, as a common mirror packs it."""

    @property
    def tree(self) -> Path:
        """The folder that holds the classes."""
        inner = self.root / "DAGM_KaggleUpload"
        return inner if inner.is_dir() else self.root

    def categories(self) -> list[str]:
        names = [name for name in DAGM.categories if (self.tree / name / "Train").is_dir()]
        if not names:
            raise missing_root(self, DAGM.layout)
        return names

    def train_samples(self, category: str) -> list[Sample]:
        return [sample for sample in self._samples(category, "Train") if sample.label == NORMAL]

    def abnormal_samples(self, category: str) -> list[Sample]:
        return [sample for sample in self._samples(category, "Train") if sample.label == ANOMALOUS]

    def test_samples(self, category: str) -> list[Sample]:
        return self._samples(category, "Test")

    def _samples(self, category: str, part: str) -> list[Sample]:
        folder = self.tree / category / part
        images = images_in(folder)
        if not (folder / "Label").is_dir():
            raise DataError(
                f"there is no folder {str(folder / 'Label')!r}, which says which images are defective. "
                "Unpack the data set again."
            )
        masks = masks_in(folder / "Label")
        defective = {stem.removesuffix("_label") for stem in masks} | _listed(folder / "Label" / "Labels.txt")
        return [
            Sample(path, ANOMALOUS, masks.get(f"{path.stem}_label"), category, "defect")
            if path.stem in defective
            else Sample(path, NORMAL, None, category, "good")
            for path in images
        ]


def _listed(table: Path) -> set[str]:
    """The stems of the images for which ``Labels.txt`` names a label file; nothing where there is no such table."""
    if not table.is_file():
        return set()
    try:
        return set(re.findall(r"(\w+)_label\.png", read_untrusted(table).decode(), re.IGNORECASE))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {str(table)!r}: {error}. Unpack the data set again.") from error
