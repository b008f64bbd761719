"""Images in plain folders: normal and abnormal ones, or images of which nothing is known."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from anomaly_core import ANOMALOUS, NORMAL, Sample, expanded
from anomaly_datasets.config import FolderConfig
from anomaly_datasets.division import Groups
from anomaly_datasets.kinds import located, samples_below
from anomaly_datasets.words import is_archive, product_name


@dataclass
class CategoryImages:
    """A category's images: to train on, to test on, and those that are still to be divided; and the place of the masks."""

    train: list[Sample] = field(default_factory=list)
    test: list[Sample] = field(default_factory=list)
    undivided: list[Sample] = field(default_factory=list)
    masks: Path | None = None


class Plain:
    """``data.normal`` and its siblings: one or more folders of each."""

    def __init__(self, options: FolderConfig, groups: Groups) -> None:
        self.options = options
        self.groups = groups

    def categories(self) -> list[str]:
        normal = self.options.normal or self.options.abnormal
        return [self.options.product or product_name(folders(normal))]

    def found(self, category: str) -> CategoryImages:
        options = self.options
        normal, test, bad = (
            [located(folder) for folder in folders(option)]
            for option in (options.normal, options.normal_test, options.abnormal)
        )
        masks = _masks(options.masks)
        drawn = [] if masks is None or masks.resolve() in [place.resolve() for place in (*normal, *test, *bad)] else [masks]
        read = partial(samples_below, category=category, extra=self.groups.of)
        anomalous = read(bad, ANOMALOUS, defect="", others=[*normal, *test, *drawn]) if bad else []
        tested = read(test, NORMAL, defect="good", others=[*normal, *bad, *drawn]) if test else []
        trained = read(normal, NORMAL, defect="good", others=[*test, *bad, *drawn]) if normal else []
        if test:
            return CategoryImages(trained, [*tested, *anomalous], [], masks)
        return CategoryImages([], anomalous, trained, masks)


class Unlabelled:
    """``data.images``: folders of images of which nothing is known."""

    def __init__(self, options: FolderConfig, groups: Groups) -> None:
        self.options = options
        self.groups = groups

    def categories(self) -> list[str]:
        return [self.options.product or product_name(folders(self.options.images))]

    def found(self, category: str) -> CategoryImages:
        places = [located(folder) for folder in folders(self.options.images)]
        images = samples_below(places, None, category, "unlabelled", self.groups.of)
        share = self.options.normal_test_share
        tell_unknown("data.images", len(images), share)
        return CategoryImages(images, images) if share == 1 else CategoryImages(undivided=images)


def tell_unknown(where: str, count: int, share: float) -> None:
    """Warn that nothing is known of the images that a run is fitted on or, with a share of 1, judged on."""
    divided = (
        "All of them test: there are scores, and no metric that needs labels. What a run learns from, it takes for normal."
        if share == 1
        else "There are scores and a threshold, but no metric that needs labels. A defect among the training images is learnt, "
        "and the threshold takes them all for normal. "
        f"A share of {share:g} tests (data.normal_test_share), the rest trains."
    )
    warnings.warn(
        f"{where}: nothing is known of the {count} images. {divided}",
        stacklevel=3,
    )


def _masks(option: str | None) -> Path | None:
    if not option:
        return None
    path = expanded(option)
    return located(path) if is_archive(path) else path


def folders(option: str | list[str] | None) -> list[Path]:
    """The folders that an option names; one whose own name has a comma is not divided."""
    if option is None or isinstance(option, str):
        return [expanded(option)] if option else []
    for comma in (",", ", "):
        whole = expanded(comma.join(option))
        if whole.exists():
            return [whole]
    return [expanded(part) for part in option if part]
