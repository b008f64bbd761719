"""``data.list``: a list of images that says of each what is known: label, mask, split, category, group."""

from __future__ import annotations

import difflib
import os
import warnings
from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from anomaly_core import NORMAL, ConfigError, DataError, Sample, expanded
from anomaly_datasets.config import FolderConfig
from anomaly_datasets.division import Groups
from anomaly_datasets.layouts import CategoryImages, tell_unknown
from anomaly_datasets.table import Rows, read_table
from anomaly_datasets.words import NORMAL_WORDS, meaning, product_name

COLUMNS = ("path", "label", "mask", "split", "category", "group")
PARTS = {"": "", "train": "train", "training": "train", "fit": "train", "val": "train", "validation": "train", "test": "test"}


class Listed:
    """Rows with a split are taken as they say. Of the others, normal images are divided, and all else tests; where no row has
    a label, all are divided.
    """

    def __init__(self, options: FolderConfig, groups: Groups) -> None:
        self.options = options
        self.groups = groups
        self.path = expanded(options.list or "")

    def categories(self) -> list[str]:
        names = list(dict.fromkeys(row.get("category", "") or self._product for _, row in self._rows))
        if self.options.product and names != [self.options.product]:
            raise ConfigError(
                f"data.product={self.options.product!r} names one product, and {str(self.path)!r} has the categories "
                f"{', '.join(names)}. Leave data.product out, and choose with --category."
            )
        return names

    def found(self, category: str) -> CategoryImages:
        found = CategoryImages()
        rows = [(number, row) for number, row in self._rows if (row.get("category", "") or self._product) == category]
        is_labelled = any(row.get("label", "") for _, row in rows)
        samples: dict[tuple[Path, str], Sample] = {}
        for number, row in rows:
            sample, part = self._sample(number, row, category), self._part(number, row)
            known = samples.setdefault((sample.path, part), sample)
            if known is not sample:
                samples[sample.path, part] = self._joined(number, known, sample)
        for (_, part), sample in samples.items():
            undivided = sample.label == NORMAL or not is_labelled
            {"train": found.train, "test": found.test}.get(part, found.undivided if undivided else found.test).append(sample)
        self._check([*samples.values()], found)
        self._tell(found, is_labelled)
        return found

    def _tell(self, found: CategoryImages, is_labelled: bool) -> None:
        unknown = dict.fromkeys(name for _, row in self._rows for name in row if name and name not in COLUMNS)
        if unknown:
            warnings.warn(
                f"columns of the list {str(self.path)!r} are not used: {', '.join(unknown)}. It may have {', '.join(COLUMNS)}.",
                stacklevel=3,
            )
        unlabelled = sum(sample.label is None for sample in [*found.test, *found.undivided])
        if not is_labelled:
            tell_unknown(f"the list {str(self.path)!r}", unlabelled + len(found.train), self.options.normal_test_share)
        elif unlabelled:
            warnings.warn(
                f"{unlabelled} test images of the list {str(self.path)!r} have no label: they get scores, and no metric counts "
                "them.",
                stacklevel=3,
            )
        if found.train and self.options.normal_test_share == 1:
            warnings.warn(
                f"{len(found.train)} images of the list {str(self.path)!r} have the split train: they are not tested.",
                stacklevel=3,
            )

    @property
    def _product(self) -> str:
        return self.options.product or product_name([self.path.absolute().parent])

    @cached_property
    def _rows(self) -> Rows:
        rows = read_table(self.path, "path")
        names = list(dict.fromkeys(name for _, row in rows for name in row if name))
        for name in names:
            if name in COLUMNS:
                continue
            if close := difflib.get_close_matches(name, [column for column in COLUMNS if column not in names], 1):
                raise DataError(
                    f"the list {str(self.path)!r} has a column {name!r}. Call it {close[0]!r} if it is that, or otherwise."
                )
        nowhere = next((number for number, row in rows if not row.get("path")), None)
        if nowhere is not None:
            raise DataError(
                f"row {nowhere} of the list {str(self.path)!r} has no path. Name an image there, or remove the row."
            )
        return rows

    def _sample(self, number: int, row: dict[str, str], category: str) -> Sample:
        try:
            label, defect = meaning(row.get("label", ""))
        except ValueError as error:
            raise DataError(
                f"row {number} of the list {str(self.path)!r}: {error}. Write good or 0, a kind of defect or 1, or nothing."
            ) from None
        group = {"group": row["group"]} if row.get("group") else self.groups.of(row["path"])
        mask = self._file(row["mask"]) if row.get("mask") else None
        return Sample(self._file(row["path"]), label, mask, category, defect or "unlabelled", group)

    def _file(self, name: str) -> Path:
        """A file that the list names, from the list's own folder; with the separators of Windows too."""
        folder = self.path.parent
        path = folder / name
        return path if "\\" not in name or os.path.lexists(path) else folder / name.replace("\\", "/")

    def _part(self, number: int, row: dict[str, str]) -> str:
        part = PARTS.get(row.get("split", "").lower())
        if part is None:
            raise DataError(
                f"row {number} of the list {str(self.path)!r} has the split {row['split']!r}. It is train or test, or empty."
            )
        return part

    def _joined(self, number: int, known: Sample, sample: Sample) -> Sample:
        """An image that is listed twice, with a mask each time."""
        if known.label != sample.label or sample.mask_path is None or known.mask_path is None:
            raise DataError(
                f"row {number} of the list {str(self.path)!r} lists {str(sample.path)!r} again. An image stands there once, or "
                "once for each of its masks. Remove one of the rows."
            )
        return replace(known, mask_path=tuple(dict.fromkeys((*known.mask_files, *sample.mask_files))))

    def _check(self, samples: list[Sample], found: CategoryImages) -> None:
        files = [sample.path for sample in samples]
        files += [mask for sample in samples for mask in sample.mask_files]
        missing = [path for path in files if not os.path.lexists(path)]
        if missing:
            raise DataError(
                f"files in the list {str(self.path)!r} are not there: {len(missing)} of {len(files)}, such as "
                f"{str(missing[0])!r}. Paths begin at the list's own folder. Correct them, or put the files there."
            )
        both = {sample.path for sample in found.train} & {sample.path for sample in found.test}
        if both:
            raise DataError(
                f"the list {str(self.path)!r} has {len(both)} images in train and in test, such as {str(min(both))!r}. "
                "Remove one of the two rows."
            )
        labels = Counter(sample.defect for sample in samples if sample.label is not None)
        if labels and "good" not in labels and not found.train and self.options.normal_test_share < 1:
            named = ", ".join(list(labels)[:5])
            raise DataError(
                f"no image of the list {str(self.path)!r} is labelled normal: the labels are {named}. A normal image's label "
                f"is one of {', '.join(NORMAL_WORDS)}, 0."
            )
