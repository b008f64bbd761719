"""VisA (Zou et al., ECCV 2022): 12 objects in images of many sizes, with masks of class indices; the split is a CSV file.

The original tree is divided by ``split_csv/1cls.csv``. The same converted to MVTec AD's layout, in a folder ``1cls`` or not, is
read as well. Every value of a mask above 0 is defective.
"""

from __future__ import annotations

import csv
import io
import os
from functools import cached_property
from pathlib import Path

from anomaly_core import ANOMALOUS, NORMAL, DataError, Sample, read_untrusted
from anomaly_datasets.facts import VISA
from anomaly_datasets.files import MVTecTree, missing_root, natural_key, tree_categories


class VisAData(MVTecTree):
    """The original tree with ``split_csv/1cls.csv``, or the same converted to MVTec AD's layout."""

    layout = VISA.layout

    @property
    def tree(self) -> Path:
        """The root, or the folder ``1cls`` that the common conversion makes in it."""
        return self.root / "1cls" if (self.root / "1cls").is_dir() else self.root

    @property
    def table(self) -> Path:
        """The published one-class split."""
        return self.root / "split_csv" / "1cls.csv"

    def categories(self) -> list[str]:
        if self.table.is_file():
            names = [name for name in dict.fromkeys(row["object"] for row in self.rows) if (self.root / name).is_dir()]
        else:
            names = tree_categories(self.tree)
        if not names:
            raise missing_root(self, self.layout)
        return names

    def train_samples(self, category: str) -> list[Sample]:
        return self._listed(category, "train") if self.table.is_file() else super().train_samples(category)

    def test_samples(self, category: str) -> list[Sample]:
        return self._listed(category, "test") if self.table.is_file() else super().test_samples(category)

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The rows of the split: object, split, label, image, mask."""
        try:
            text = read_untrusted(self.table).decode("utf-8-sig")
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"cannot read the split {str(self.table)!r}: {error}. Unpack the data set again.") from error
        wanted = ("image", "label", "mask", "object", "split")
        if not rows or not set(wanted) <= set(rows[0]):
            raise DataError(
                f"the split {str(self.table)!r} must have the columns {', '.join(wanted)}. Unpack the data set again."
            )
        for number, row in enumerate(rows, 2):
            # What a short line lacks is None; a NUL is in no file's name.
            if any(row[name] is None or "\0" in row[name] for name in wanted) or row["label"] not in ("normal", "anomaly"):
                raise DataError(
                    f"row {number} of the split {str(self.table)!r} must hold {', '.join(wanted)}, the label being normal or "
                    "anomaly. Unpack the data set again."
                )
        return rows

    def _listed(self, category: str, part: str) -> list[Sample]:
        samples = [self._sample(row) for row in self.rows if row["object"] == category and row["split"] == part]
        missing = [sample.path for sample in samples if not os.path.lexists(sample.path)]
        if missing:
            raise DataError(
                f"{len(missing)} images of {str(self.table)!r} are not there, such as {str(missing[0])!r}. Unpack it again."
            )
        return sorted(samples, key=lambda sample: (sample.label, natural_key(sample.path)))

    def _sample(self, row: dict[str, str]) -> Sample:
        normal = row["label"] == "normal"
        mask = self.root / row["mask"] if row["mask"] else None
        return Sample(
            path=self.root / row["image"],
            label=NORMAL if normal else ANOMALOUS,
            mask_path=mask if mask and os.path.lexists(mask) else None,  # what is no mask is an error when it is read
            category=row["object"],
            defect="good" if normal else "anomaly",
        )
