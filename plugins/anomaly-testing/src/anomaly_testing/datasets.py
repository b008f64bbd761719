"""Checks of a data set: its categories and samples, on the files that are there."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from anomaly_core import ANOMALOUS, NORMAL, AnomalyError, BaseDataModule, ConfigError, DataError, InputSpec, Sample, validate
from anomaly_testing.checks import Skip, Subject, named, require
from anomaly_testing.common import CONFIG, SPEC
from anomaly_testing.worker import in_worker

SIZE = (48, 32)


class DatasetSubject(Subject):
    """A data set under test."""

    def build(self, seed: int = 0, **more: Any) -> BaseDataModule:
        """The data module with the author's overrides."""
        options = {key.removeprefix("data."): value for key, value in self.overrides.items()}
        named_so = {"name": self.name, "num_workers": 0, "batch_size": 4}
        config = validate(self.component.config_class(), {**named_so, **options, **more}, "data")
        data: BaseDataModule = self.component.build(config, seed=seed, spec=self.component.spec)
        return data

    @cached_property
    def drawn(self) -> list[str] | AnomalyError:
        """The categories that it makes in an empty folder, or the error that it raises there."""
        self.empty.mkdir()
        try:
            return self.build(root=str(self.empty)).categories()
        except AnomalyError as error:
            return error

    @property
    def empty(self) -> Path:
        """A folder with nothing in it."""
        return self.folder / "empty"

    @cached_property
    def data(self) -> BaseDataModule:
        """A data module whose files are there; else the checks that need them are skipped, and say so."""
        data = self.build()
        if not self.overrides and not data.root.is_dir() and isinstance(self.drawn, list):
            return self.build(root=str(self.empty))  # it makes its files, and not among the user's
        try:
            data.categories()
        except (DataError, ConfigError) as error:
            if self.overrides:
                raise
            raise Skip(f"its files are not here: {error} Or give --set data.root=DIR.") from error
        return data

    @cached_property
    def samples(self) -> dict[str, tuple[list[Sample], list[Sample]]]:
        """Category -> training and test samples."""
        data = self.data
        return {name: (data.train_samples(name), data.test_samples(name)) for name in data.categories()}


def builds_with_defaults(subject: DatasetSubject) -> None:
    """Built with its defaults alone; that its files are missing shows only when they are asked for."""
    config = validate(subject.component.config_class(), {"name": subject.name}, "data")
    data = subject.component.build(config, seed=0, spec=subject.component.spec)
    require(isinstance(data, BaseDataModule), f"its target is a {type(data).__name__}, which is no BaseDataModule.")


def says_what_is_missing(subject: DatasetSubject) -> None:
    """An empty folder as its root: it makes its own files there, or raises an error that names the folder."""
    drawn = subject.drawn
    if isinstance(drawn, AnomalyError):
        require(str(subject.empty) in str(drawn), f"the error does not name the folder {str(subject.empty)!r}: {drawn}")
    else:
        require(drawn, "an empty folder is no error, and has no category. Raise a DataError that says what is expected.")


def has_categories(subject: DatasetSubject) -> None:
    """There is a category; names differ, can be a folder's, and are the same when asked again."""
    names = subject.data.categories()
    require(names, "it has no category.")
    require(all(isinstance(name, str) and name for name in names), f"its categories are {names}, not names.")
    require(len(set(names)) == len(names), f"a category is listed twice: {names}.")
    require(
        not any("/" in name or "\\" in name or name.startswith(".") for name in names), f"{names}: one is no folder's name."
    )
    require(subject.data.categories() == names, "its categories change from call to call.")


def has_sound_samples(subject: DatasetSubject) -> None:
    """Training images are normal, labels and masks agree, files are there, and the category stands in each."""
    for name, (train, test) in subject.samples.items():
        require(train, f"category {name!r} has no training image.")
        require(test, f"category {name!r} has no test image.")
        for sample in [*train, *test]:
            where = f"{sample.path} of category {name!r}"
            require(isinstance(sample.path, Path) and sample.path.is_file(), f"{where} is not there.")
            require(sample.category == name, f"{where} says that it is of the category {sample.category!r}.")
            require(sample.label in (NORMAL, ANOMALOUS, None), f"{where} has the label {sample.label!r}; 0, 1 or None.")
            for mask in sample.mask_files:
                require(mask.is_file(), f"the mask {mask} is not there.")
                require(sample.label == ANOMALOUS, f"{where} is labelled {sample.label}, and has a mask.")
        require(all(sample.label in (NORMAL, None) for sample in train), f"category {name!r} trains on anomalous images.")
        require(all(sample.label is not None for sample in test), f"category {name!r} tests on images without a label.")


def keeps_the_test_apart(subject: DatasetSubject) -> None:
    """No image both trains and tests, none comes twice, and the test set is the same for every seed."""
    other = subject.build(seed=1, root=subject.data.config.root)
    for name, (train, test) in subject.samples.items():
        paths = [sample.path.resolve() for sample in train], [sample.path.resolve() for sample in test]
        both = set(paths[0]) & set(paths[1])
        require(not both, f"{min(both, default='')} trains and tests in category {name!r}.")
        for part in paths:
            require(len(set(part)) == len(part), f"an image of category {name!r} comes twice.")
        require(other.test_samples(name) == test, f"with another seed category {name!r} has another test set.")


def loads_batches(subject: DatasetSubject) -> None:
    """Batches of images float32 (B, 3, H, W) in [0, 1], with labels, and masks in the images' geometry."""
    for name, (train, test) in subject.samples.items():
        for part in (train, sorted(test, key=lambda sample: sample.mask_path is None)):
            for batch in subject.data.loader(part[:4], InputSpec(SIZE)):
                count, where = len(batch), f"of category {name!r}"
                require(batch.images.shape == (count, 3, *SIZE), f"images {where} have the shape {tuple(batch.images.shape)}.")
                require(batch.images.dtype == torch.float32, f"images {where} are {batch.images.dtype}.")
                low, high = float(batch.images.min()), float(batch.images.max())
                require(0 <= low <= high <= 1, f"images {where} reach from {low:.3g} to {high:.3g}.")
                labels = [-1 if sample.label is None else sample.label for sample in batch.samples]
                require(batch.labels.tolist() == labels, f"labels {where} are {batch.labels.tolist()}, not {labels}.")
                if batch.masks is not None:
                    require(batch.masks.shape == (count, 1, *SIZE), f"masks {where} have the shape {tuple(batch.masks.shape)}.")
                    require(batch.masks.dtype == torch.bool, f"masks {where} are {batch.masks.dtype}.")


def works_in_a_worker(subject: DatasetSubject) -> None:
    """Pickled to a spawned process, it finds the same images there."""
    here = {name: [str(sample.path) for part in parts for sample in part] for name, parts in subject.samples.items()}
    there = in_worker(_paths, subject.data)
    require(there == here, "in a worker process it finds other images.")


DATASET = (
    SPEC
    + CONFIG
    + named(
        builds_with_defaults,
        says_what_is_missing,
        has_categories,
        has_sound_samples,
        keeps_the_test_apart,
        loads_batches,
        works_in_a_worker,
    )
)


def _paths(data: BaseDataModule) -> dict[str, list[str]]:
    """In the worker: category -> the paths of all images."""
    parts = {name: (data.train_samples(name), data.test_samples(name)) for name in data.categories()}
    return {name: [str(sample.path) for part in both for sample in part] for name, both in parts.items()}
