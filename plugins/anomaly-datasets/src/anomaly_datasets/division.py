"""Which images train and which test: groups stay together, and each folder gives its share."""

from __future__ import annotations

import random
import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from anomaly_core import ConfigError, DataError, Sample
from anomaly_datasets.files import drawn


class Groups:
    """Finds an image's group, such as the part that it shows, in its path.

    Args:
        pattern: a regular expression; its first group, or all that it matches, names the group. None: no groups.

    Raises:
        ConfigError: it is no regular expression.
    """

    def __init__(self, pattern: str | None) -> None:
        try:
            self._pattern = re.compile(pattern) if pattern else None
        except (re.error, RecursionError, OverflowError) as error:
            raise ConfigError(
                f"data.group={pattern!r} is no regular expression: {error}. A part's number before an underscore is found by "
                r"`--set 'data.group=^(\d+)_'`."
            ) from error

    def of(self, place: str) -> dict[str, str]:
        """``{"group": ...}`` for the path of an image relative to its folder; empty where there is no match."""
        match = self._pattern.search(place) if self._pattern else None
        if match is None:
            return {}
        group = (match[1] if match.re.groups else None) or match[0]
        return {"group": group} if group else {}

    def check(self, samples: Sequence[Sample]) -> None:
        """ConfigError if the pattern matches no image; a warning if it matches only some."""
        alone = [sample for sample in samples if "group" not in sample.extra]
        if self._pattern is None or not alone:
            return
        what = f"data.group={self._pattern.pattern!r}"
        if len(alone) == len(samples):
            raise ConfigError(
                f"{what} matches none of the {len(samples)} images, such as {str(alone[0].path)!r}. It is searched in the path "
                "below the folder of the images. Correct it, or leave it out."
            )
        warnings.warn(
            f"{what} does not match {len(alone)} of {len(samples)} images, such as {str(alone[0].path)!r}: each of them is a "
            "group of its own.",
            stacklevel=2,
        )


def group_of(sample: Sample) -> object:
    """The sample's group; without one, its own path."""
    return sample.extra.get("group", sample.path)


def apart(train: list[Sample], test: Sequence[Sample]) -> list[Sample]:
    """The training images without those of a group that is tested, with a warning."""
    tested = {sample.extra["group"] for sample in test if "group" in sample.extra}
    shared = [sample for sample in train if "group" in sample.extra and sample.extra["group"] in tested]
    kept = [sample for sample in train if "group" not in sample.extra or sample.extra["group"] not in tested]
    if shared:
        warnings.warn(
            f"{len(shared)} training images are of groups that are tested too, such as {str(shared[0].path)!r} of group "
            f"{shared[0].extra['group']!r}: they are left out of training.",
            stacklevel=2,
        )
    return kept


def divided(samples: list[Sample], test: Sequence[Sample], share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """(train, test) of images that no one has assigned; each folder gives its share, and a group is never divided.

    Args:
        test: images that are tested anyway; images of their groups are tested with them.
        share: of the images to test, in (0, 1).
        seed: draws them.

    Raises:
        DataError: nothing is left to train or to test on.
    """
    tested = {group_of(sample) for sample in test}
    chosen = [sample for sample in samples if group_of(sample) in tested]
    left = [sample for sample in samples if group_of(sample) not in tested]
    groups = {group_of(sample) for sample in left}
    if len(groups) + bool(chosen) < 2:
        raise DataError(_undividable(samples, left, chosen))
    count = min(max(round(len(samples) * share), 1), len(samples) - 1) - len(chosen)
    if count > 0 and len(groups) > 1:
        picked = _drawn(left, count, seed)
        chosen += picked
    places = {sample.path for sample in chosen}
    return [s for s in samples if s.path not in places], [s for s in samples if s.path in places]


def _undividable(samples: list[Sample], left: list[Sample], chosen: list[Sample]) -> str:
    where = f"in {str(samples[0].path.parent)!r}" if samples else ""
    if len(samples) < 2:
        return (
            f"there is one normal image {where}, and a share of them must test. Add images, or name others for the test with "
            "--set data.normal_test=DIR."
        )
    if left and not chosen:
        return (
            f"all {len(samples)} normal images are of one group, {group_of(left[0])!r}: they cannot be divided into training "
            "and test. Change data.group, or name images of other groups for the test with --set data.normal_test=DIR."
        )
    return (
        f"all {len(samples)} normal images {where} are of groups that are tested, such as {group_of(chosen[0])!r}, and none is "
        "left for training. Add images of other groups, or change data.group."
    )


def _drawn(samples: list[Sample], count: int, seed: int) -> list[Sample]:
    """About ``count`` images, of each folder its share; whole groups, at least one and never all."""
    folders: dict[Path, dict[object, list[Sample]]] = {}
    home: dict[object, Path] = {}
    for sample in samples:
        place = home.setdefault(group_of(sample), sample.path.parent)  # a group counts where it is met first
        folders.setdefault(place, defaultdict(list))[group_of(sample)].append(sample)
    chosen: list[Sample] = []
    seen = 0
    for members in folders.values():
        groups = list(members.values())
        size = sum(map(len, groups))
        seen += size
        wanted = round(count * seen / len(samples))
        if size == len(groups):
            picked = min(max(wanted - len(chosen), 0), size)
            chosen += [group[0] for group in drawn(groups, picked, seed)[0]]
            continue
        for group in random.Random(seed).sample(groups, len(groups)):
            if abs(len(chosen) + len(group) - wanted) < abs(len(chosen) - wanted):
                chosen += group
    smallest = min((group for members in folders.values() for group in members.values()), key=len)
    if not chosen:
        return smallest
    if len(chosen) == len(samples):
        return [sample for sample in chosen if sample not in smallest]
    return chosen
