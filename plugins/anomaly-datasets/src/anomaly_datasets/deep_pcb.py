"""DeepPCB (Tang et al. 2019): 1,500 aligned pairs of a defect-free template and a tested board, in eleven groups.

640 x 640 pixels, binarised, stored as JPEG. Templates are normal, tested boards anomalous, with three to twelve defects each,
most of them drawn by hand: open, short, mousebite, spur, copper, pin-hole.

**A pair is never divided.** The template of a tested board shows the very same board without its defects, aligned to the
pixel; with it in training, a memory bank would only compare two pictures. So a pair trains, with its template alone, or it
tests, with both. The published lists ``trainval.txt`` and ``test.txt`` divide the pairs (1,000 and 500) where they lie in
``PCBData``; else ``data.split_seed`` draws two thirds of them. A group shows parts of few large boards, so that test
templates resemble training templates of their group.

**Pixel labels are boxes**, not outlines: the pixels of a box around a defect count as defective, most of which are copper or
bare board as it should be. Pixel figures are therefore low for every method, and compare with each other alone.

The lists and eight of the groups could not be checked, for want of a copy. The licence file says MIT; the publisher's page
asks for use in research only.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from PIL import Image, ImageDraw

from anomaly_core import (
    ANOMALOUS,
    NORMAL,
    BaseDataModule,
    ConfigError,
    DataError,
    MaskSource,
    Sample,
    image_size,
    read_untrusted,
)
from anomaly_datasets.config import DeepPCBConfig
from anomaly_datasets.facts import DEEP_PCB, DEEP_PCB_GROUPS
from anomaly_datasets.files import drawn, missing_root, natural_key

CATEGORY = DEEP_PCB.categories[0]


@dataclass(frozen=True)
class BoxMask(MaskSource):
    """The boxes of a text file, ``x1 y1 x2 y2 type`` a line in pixels, on an image of which only the size is read."""

    image: Path

    def read(self) -> Image.Image:
        """The mask: mode ``L``, 255 inside a box. DataError if a line is no box of the image, or there is none."""
        height, width = image_size(self.image)
        mask = Image.new("L", (width, height))
        draw = ImageDraw.Draw(mask)
        try:
            lines = [line.split() for line in read_untrusted(self.path).decode().splitlines() if line.strip()]
            for x1, y1, x2, y2, _ in lines:
                left, top, right, bottom = int(x1), int(y1), int(x2), int(y2)
                if not (0 <= left < right <= width and 0 <= top < bottom <= height):
                    raise ValueError(f"({left}, {top}, {right}, {bottom}) is no box inside {width}x{height} pixels")
                draw.rectangle((left, top, right - 1, bottom - 1), fill=255)
            if not lines:
                raise ValueError("there is no box, and a tested board has defects")
        except (OSError, ValueError) as error:
            raise DataError(
                f"each line of {str(self.path)!r} must be x1 y1 x2 y2 type: {error}. Unpack the data set again."
            ) from error
        return mask


class DeepPCBData(BaseDataModule):
    """One category over all groups that are there; the root is the repository, or its folder ``PCBData``."""

    @property
    def tree(self) -> Path:
        """The folder that holds the groups."""
        inner = self.root / "PCBData"
        return inner if inner.is_dir() else self.root

    def categories(self) -> list[str]:
        if not self.groups:
            raise missing_root(self, DEEP_PCB.layout)
        return [CATEGORY]

    def train_samples(self, category: str) -> list[Sample]:
        return [_template(pair) for pair in self.pairs[0]]

    def test_samples(self, category: str) -> list[Sample]:
        return [*map(_template, self.pairs[1]), *map(_board, self.pairs[1])]

    def shortfall(self) -> str:
        """Which published groups are there, where some are missing; empty for a whole copy."""
        missing = [name for name in DEEP_PCB_GROUPS if name not in self.groups]
        if not missing:
            return ""
        return (
            f"{len(self.groups)} of {len(DEEP_PCB_GROUPS)} groups ({', '.join(self.groups)}); not there: {', '.join(missing)}"
        )

    @cached_property
    def groups(self) -> list[str]:
        """``00041`` for ``group00041``, in natural order."""
        found = sorted(self.tree.glob("group*"), key=natural_key) if self.tree.is_dir() else []
        names = [folder.name.removeprefix("group") for folder in found]
        return [name for name in names if (self.tree / f"group{name}" / name).is_dir()]

    @cached_property
    def pairs(self) -> tuple[list[Path], list[Path]]:
        """(train, test): paths of pairs, ``PCBData/group00041/00041/00041000``, without their suffixes."""
        found: list[Path] = []
        for name in self.groups:
            boards = sorted((self.tree / f"group{name}" / name).glob("*_test.jpg"), key=natural_key)
            found += [path.with_name(path.name.removesuffix("_test.jpg")) for path in boards]
        alone = [pair for pair in found if not pair.with_name(f"{pair.name}_temp.jpg").is_file()]
        if alone:
            raise DataError(
                f"{len(alone)} tested boards have no template, such as {f'{alone[0].name}_test.jpg'!r} in "
                f"{str(alone[0].parent)!r}. Unpack the data set again."
            )
        lists = [self._listed(file) for file in ("trainval.txt", "test.txt")]
        seed = cast(DeepPCBConfig, self.config).split_seed
        if not all(lists):
            return drawn(found, round(len(found) * 2 / 3), seed)
        if seed:
            raise ConfigError(
                f"data.split_seed={seed} would be ignored: trainval.txt and test.txt divide DeepPCB as published. Leave it out."
            )
        unlisted = [pair for pair in found if not any(pair.name in names for names in lists)]
        if unlisted:
            warnings.warn(
                f"{len(unlisted)} pairs of DeepPCB are in neither trainval.txt nor test.txt, such as {unlisted[0].name!r}: "
                "they are left out.",
                stacklevel=2,
            )
        return [pair for pair in found if pair.name in lists[0]], [pair for pair in found if pair.name in lists[1]]

    def _listed(self, file: str) -> set[str]:
        """The pairs of a published list, of lines ``group00041/00041/00041000.jpg group00041/00041_not/00041000.txt``."""
        path = self.tree / file
        if not path.is_file():
            return set()
        try:
            lines = read_untrusted(path).decode().split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read the list {str(path)!r}: {error}. Unpack the data set again.") from error
        return {word.rpartition("/")[2].rpartition(".")[0] for word in lines}


def _template(pair: Path) -> Sample:
    return Sample(pair.with_name(f"{pair.name}_temp.jpg"), NORMAL, None, CATEGORY, "good")


def _board(pair: Path) -> Sample:
    image = pair.with_name(f"{pair.name}_test.jpg")
    boxes = pair.parent.with_name(f"{pair.parent.name}_not") / f"{pair.name}.txt"
    return Sample(image, ANOMALOUS, BoxMask(boxes, image), CATEGORY, "tested")
