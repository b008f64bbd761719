"""Trees with ``train`` and ``test``, as MVTec AD has them: the root holds the categories, or is one itself."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from anomaly_core import ANOMALOUS, NORMAL, ConfigError, DataError, Sample
from anomaly_datasets.config import FolderConfig
from anomaly_datasets.division import Groups
from anomaly_datasets.files import image_files, tell_left_out
from anomaly_datasets.kinds import located, samples_below, subfolders
from anomaly_datasets.layouts import CategoryImages
from anomaly_datasets.words import is_normal, is_unlabelled, product_name

TREE = "<category>/{train/good, test/<defect|good>, ground_truth/<defect>/NNN_mask.png}, or a single category's train and test"


class Tree:
    """The root holds the categories, each with ``train`` and mostly ``test``, or is one category itself."""

    def __init__(self, options: FolderConfig, groups: Groups, root: Path) -> None:
        self.options = options
        self.groups = groups
        self._named = root

    @cached_property
    def root(self) -> Path:
        return located(self._named)

    def categories(self) -> list[str]:
        if _part(self.root, "train"):
            return [self.options.product or product_name([self.root])]
        names = [folder.name for folder in subfolders(self.root) if _part(folder, "train")]
        if self.options.product and len(names) > 1:
            raise ConfigError(
                f"data.product={self.options.product!r} names one product, and {str(self.root)!r} holds {len(names)}: "
                f"{', '.join(names)}. Choose with --category, or name one product's folder with --set data.root=DIR."
            )
        return [self.options.product] if self.options.product and names else names

    def found(self, category: str) -> CategoryImages:
        folder = self._folder(category)
        train = self._train(folder, category)
        test = self._test(folder, category)
        if test:
            return CategoryImages(train, test, [], _part(folder, "ground_truth"))
        warnings.warn(
            f"there is no test image in {str(folder / 'test')!r}: a share of {self.options.normal_test_share:g} of the normal "
            "images in train tests (data.normal_test_share).",
            stacklevel=2,
        )
        return CategoryImages(undivided=train)

    def _folder(self, category: str) -> Path:
        if _part(self.root, "train"):
            return self.root
        named = self.root / category
        return named if not self.options.product else next(f for f in subfolders(self.root) if _part(f, "train"))

    def _train(self, folder: Path, category: str) -> list[Sample]:
        train = _part(folder, "train") or folder / "train"
        kinds = subfolders(train)
        normal = [kind for kind in kinds if is_normal(kind.name)]
        if not normal and kinds and not image_files(train):
            raise DataError(
                f"{str(train)!r} holds no folder of normal images, such as good or ok, but {_named(kinds)}. Rename the one "
                "with the normal images to good; where all of them are normal, name them with --set data.normal=DIR,DIR."
            )
        others = [kind for kind in kinds if not is_normal(kind.name)]
        if others:
            warnings.warn(
                f"what lies in {_named(others)} of {str(train)!r} is left out: a detector is fitted on normal images, in a "
                "folder called good or ok. One that learns from known defects takes them with data.abnormal_train=DIR.",
                stacklevel=3,
            )
        samples = self._direct(train, NORMAL, category, "good") if kinds else self._below(train, NORMAL, category, "good")
        return samples + [sample for kind in normal for sample in self._below(kind, NORMAL, category, "good")]

    def _test(self, folder: Path, category: str) -> list[Sample]:
        test = _part(folder, "test")
        if test is None:
            return []
        samples = []
        for kind in subfolders(test):
            if is_normal(kind.name):
                samples += self._below(kind, NORMAL, category, "good")
            elif is_unlabelled(kind.name):
                samples += self._below(kind, None, category, "unlabelled")
            else:  # the label comes from the folder, never from the mask, which may be empty
                samples += self._below(kind, ANOMALOUS, category, kind.name)
        direct = self._direct(test, None, category, "unlabelled")
        if unlabelled := sum(sample.label is None for sample in [*direct, *samples]):
            warnings.warn(
                f"{unlabelled} test images in {str(test)!r} have no label, as they lie in no folder of good or of defective "
                "images: they get scores, and no metric counts them.",
                stacklevel=3,
            )
        return [*samples, *direct]

    def _below(self, folder: Path, label: int | None, category: str, defect: str) -> list[Sample]:
        return samples_below([folder], label, category, defect, self.groups.of)

    def _direct(self, folder: Path, label: int | None, category: str, defect: str) -> list[Sample]:
        tell_left_out(folder)
        return [Sample(path, label, None, category, defect, self.groups.of(path.name)) for path in image_files(folder)]


def _named(items: Sequence[Path]) -> str:
    """At most five names."""
    names = [item.name for item in items]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _part(folder: Path, name: str) -> Path | None:
    """The folder's ``train``, ``test`` or ``ground_truth``, in letters of any case."""
    if (folder / name).is_dir():
        return folder / name
    return next((item for item in subfolders(folder) if item.name.lower() == name), None)
