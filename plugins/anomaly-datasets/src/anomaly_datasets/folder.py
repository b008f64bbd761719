"""The user's own images, as they lie: plain folders of normal and abnormal ones, trees with train and test, a list, or images
of which nothing is known; each folder may be a zip archive. Where nothing says which images test, a share of each folder of
normal images does, drawn by ``data.split_seed``; the images of one ``data.group`` stay together."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from typing import Protocol, cast

from anomaly_core import ANOMALOUS, BaseDataModule, ConfigError, Sample
from anomaly_datasets.config import FolderConfig
from anomaly_datasets.division import Groups, apart, divided
from anomaly_datasets.files import missing_root
from anomaly_datasets.kinds import located, samples_below
from anomaly_datasets.layouts import CategoryImages, Plain, Unlabelled, folders
from anomaly_datasets.listing import Listed
from anomaly_datasets.masks.matching import with_masks, with_source
from anomaly_datasets.trees import TREE, Tree

SOURCES = ("normal", "images", "list")


class Layout(Protocol):
    """How images lie: the names of the categories, and each one's images."""

    def categories(self) -> list[str]: ...
    def found(self, category: str) -> CategoryImages: ...


class FolderData(BaseDataModule):
    """``data.root`` may hold the categories, or be one category itself; ``data.normal``, ``data.images`` and ``data.list`` name
    images that lie otherwise."""

    @property
    def options(self) -> FolderConfig:
        return cast(FolderConfig, self.config)

    def categories(self) -> list[str]:
        names = self._layout.categories()
        if not names:
            raise missing_root(self, f"{TREE}; or name plain folders with --set data.normal=DIR --set data.abnormal=DIR")
        return names

    def train_samples(self, category: str) -> list[Sample]:
        return self._divided(category)[0]

    def test_samples(self, category: str) -> list[Sample]:
        return self._divided(category)[1]

    @cached_property
    def _layout(self) -> Layout:
        options, groups = self.options, Groups(self.options.group)
        named = [name for name in SOURCES if getattr(options, name)]
        if len(named) > 1:
            raise ConfigError(f"data.{' and data.'.join(named)} exclude each other: choose one of them.")
        if options.list:
            return Listed(options, groups)
        if options.images:
            return Unlabelled(options, groups)
        judges_all = options.abnormal and options.normal_test_share == 1  # an evaluation of a finished run
        if any((options.abnormal, options.masks, options.normal_test)) and not (options.normal or judges_all):
            raise ConfigError(
                "data.abnormal, data.masks and data.normal_test go with data.normal: "
                "name the folder of normal images too, with --set data.normal=DIR."
            )
        return Plain(options, groups) if options.normal or judges_all else Tree(options, groups, self.root)

    @cached_property
    def _known(self) -> dict[str, tuple[list[Sample], list[Sample]]]:
        return {}

    def _with_defects(self, found: CategoryImages, category: str) -> CategoryImages:
        """With the images of the folders of ``data.abnormal_train`` in training, and not in the test."""
        places = self.options.abnormal_train
        if not isinstance(places, str | list):
            return found
        if self.options.list:
            raise ConfigError(
                "data.abnormal_train names folders, and data.list all images: give the known defects the split train there."
            )
        extra = Groups(self.options.group).of
        known = samples_below([located(folder) for folder in folders(places)], ANOMALOUS, category, "", extra)
        paths = {os.path.realpath(sample.path) for sample in known}
        parts = (found.train, found.test, found.undivided)
        train, test, undivided = ([s for s in part if os.path.realpath(s.path) not in paths] for part in parts)
        return CategoryImages([*train, *known], test, undivided, found.masks)

    def _masked(self, found: CategoryImages) -> CategoryImages:
        """With their masks, and without files that are masks."""
        if self.options.list:  # which names each mask
            train, test = ([with_source(s, self.options) for s in part] for part in (found.train, found.test))
            return replace(found, train=train, test=test)
        parts = [*found.train, *found.test, *found.undivided]
        kept = {sample.path: sample for sample in with_masks(parts, found.masks, self.options, named=bool(self.options.masks))}
        train, test, undivided = (
            [kept[sample.path] for sample in part if sample.path in kept] for part in (found.train, found.test, found.undivided)
        )
        return CategoryImages(train, test, undivided)

    def _divided(self, category: str) -> tuple[list[Sample], list[Sample]]:
        """(train, test): as the layout says; else a share of the images tests, the same for every run's seed."""
        if category not in self._known:
            found = self._masked(self._with_defects(self._layout.found(category), category))
            Groups(self.options.group).check([*found.train, *found.test, *found.undivided])
            train, test = apart(found.train, found.test), found.test
            share = self.options.normal_test_share
            if found.undivided and share == 1:
                test = [*found.undivided, *test]
            elif found.undivided:
                rest, drawn = divided(found.undivided, test, share, self.options.split_seed)
                train, test = [*train, *rest], [*drawn, *test]
            self._known[category] = train, test
        return self._known[category]
