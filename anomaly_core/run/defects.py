"""Known defects: images labelled anomalous that a method learns from; they and others of their groups do not test."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any, NamedTuple

import torch

from anomaly_core.base.data import BaseDataModule
from anomaly_core.errors import ConfigError
from anomaly_core.types import ANOMALOUS, Sample


class Defects(NamedTuple):
    """The known defects of a category; the images that test; and how many do not, as they show the same part as a known one."""

    known: list[Sample]
    test: list[Sample]
    aside: int


def known_defects(data: BaseDataModule, category: str) -> Defects:
    """The training images that are labelled anomalous, and those of ``data.abnormal_train``: so many, or such a share, of the
    data set's own for that, else of the test images. The seed draws them: of fewer images, each is among those of more.

    Raises:
        ConfigError: there are fewer, or none would be left to test on.
    """
    known = [sample for sample in data.train_samples(category) if sample.label == ANOMALOUS]
    test = data.test_samples(category)
    wanted: Any = data.config.abnormal_train  # a data set of one's own folders takes their names, too
    if not wanted or isinstance(wanted, str | list):  # a data set that takes folders has put their images into training
        return Defects(known, test, 0)
    own = data.abnormal_samples(category)
    pool = own or [sample for sample in test if sample.label == ANOMALOUS]
    count, most = wanted if wanted >= 1 else max(1, round(wanted * len(pool))), len(pool) - (not own)
    if count > most:
        rest = "" if own else ", and one must be left to test on"
        raise ConfigError(
            f"data.abnormal_train={wanted}: category {category!r} of {data.config.name!r} has {len(pool)} images that are "
            f"labelled anomalous{rest}. Lower it."
        )
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(data.seed)).tolist()
    drawn = [pool[i] for i in sorted(order[: int(count)])]
    paths, groups = {s.path for s in drawn}, {s.extra["group"] for s in drawn if "group" in s.extra}
    others = [sample for sample in test if sample.path not in paths]
    kept = [sample for sample in others if sample.extra.get("group") not in groups]
    return Defects([*known, *drawn], kept, len(others) - len(kept))


def balanced(normal: Sequence[Sample], defects: Sequence[Sample]) -> list[Sample]:
    """An epoch's images: as many defects as normal images, of which the fewer recur; the normal ones, where there is no
    defect."""
    each = max(len(normal), len(defects)) if defects else len(normal)
    return [*islice(cycle(normal), each), *islice(cycle(defects), each)]
