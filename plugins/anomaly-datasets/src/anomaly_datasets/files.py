"""What the data sets share: images in a folder, masks by stem, and the message for a root that is missing."""

from __future__ import annotations

import random
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from anomaly_core import ANOMALOUS, IMAGE_SUFFIXES, NORMAL, OTHER_PICTURES, BaseDataModule, DataError, Sample, is_clutter

Item = TypeVar("Item")


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Orders ``2.png`` before ``10.png``."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name)]


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder (not below it; none that other programs leave), in natural order."""
    images = (item for item in folder.iterdir() if item.suffix.lower() in IMAGE_SUFFIXES and not is_clutter(item.name))
    return sorted(images, key=natural_key)


def images_in(folder: Path) -> list[Path]:
    """As :func:`image_files`; DataError where the folder is missing or holds none."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {str(folder)!r}. Check the path, and that the data set was unpacked whole.")
    images = image_files(folder)
    if not images:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        others = left_out(folder)
        also = f" What it holds is not read: {others}; convert it." if others else ""
        raise DataError(
            f"the folder {str(folder)!r} holds no image ({kinds}).{also} Put some there, remove the folder, or check the path."
        )
    tell_left_out(folder)
    return images


def left_out(folder: Path) -> str:
    """How many pictures of a folder are of a kind that is not read, such as ``3 .heic and 1 .jxl``; empty if there are none."""
    items = (item for item in folder.iterdir() if not is_clutter(item.name))
    counts = Counter(item.suffix.lower() for item in items if item.suffix.lower() in OTHER_PICTURES)
    return " and ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))


def tell_left_out(folder: Path) -> None:
    """Warn of the pictures of a folder that are left out."""
    if others := left_out(folder):
        warnings.warn(
            f"pictures in {str(folder)!r} are left out, as files of their kinds are not read: {others}. "
            "Convert them, to PNG for example.",
            stacklevel=2,
        )


def masks_in(folder: Path) -> dict[str, Path]:
    """Mask files by their own stem, whatever their suffix; nothing where there is no such folder."""
    return {item.stem: item for item in image_files(folder)} if folder.is_dir() else {}


def samples_in(folder: Path, label: int, category: str, defect: str, masks: dict[str, Path] | None = None) -> list[Sample]:
    """The images of a folder as samples of one label; ``000.png`` has the mask ``000.*`` or ``000_mask.*``, or none."""
    masks = masks or {}
    samples = [
        Sample(path, label, masks.get(path.stem) or masks.get(f"{path.stem}_mask"), category, defect)
        for path in images_in(folder)
    ]
    used = {sample.mask_path for sample in samples}
    lonely = [path for path in masks.values() if path not in used]
    if lonely:
        warnings.warn(
            f"{len(lonely)} mask{'s have' if len(lonely) > 1 else ' has'} no image in {str(folder)!r}, "
            f"such as {str(lonely[0])!r}. "
            "A mask has the name of its image, or that and _mask.",
            stacklevel=2,
        )
    return samples


def drawn(samples: Sequence[Item], count: int, seed: int) -> tuple[list[Item], list[Item]]:
    """(``count`` samples, or groups of them, drawn by a seed, the rest), each in the order that they had."""
    chosen = set(random.Random(seed).sample(range(len(samples)), count))
    return [s for i, s in enumerate(samples) if i in chosen], [s for i, s in enumerate(samples) if i not in chosen]


def tree_categories(root: Path) -> list[str]:
    """The folders under a root that hold a ``train`` folder, in natural order."""
    items = sorted(root.iterdir(), key=natural_key) if root.is_dir() else []
    return [item.name for item in items if not is_clutter(item.name) and (item / "train").is_dir()]


def missing_root(module: BaseDataModule, layout: str) -> DataError:
    """The error for a root that is not there: what was looked for, where the data set is published, its licence and layout."""
    name = module.config.name.rpartition(":")[2]
    spec = module.spec
    published = f" It is published at {spec.homepage}, licence {spec.license}." if spec and spec.homepage else ""
    return DataError(
        f"no {name} data set under {str(module.root.absolute())!r} (data.root, else $ANOMALY_DATA/{name}, else data/{name}). "
        f"Expected there: {layout}.{published} Name its folder with --set data.root=DIR (`anomaly data`: --root DIR)."
    )


class MVTecTree(BaseDataModule):
    """A data set in MVTec AD's layout; subclasses rename its parts."""

    layout = "<category>/{train/good, test/<defect|good>, ground_truth/<defect>/NNN_mask.png}"
    good = "good"

    @property
    def tree(self) -> Path:
        """The folder that holds the categories."""
        return self.root

    def folder(self, category: str) -> Path:
        """The folder that holds the category's ``train`` and ``test``."""
        return self.tree / category

    def categories(self) -> list[str]:
        names = tree_categories(self.tree)
        if not names:
            raise missing_root(self, self.layout)
        return names

    def train_samples(self, category: str) -> list[Sample]:
        return samples_in(self.folder(category) / "train" / self.good, NORMAL, category, "good")

    def test_samples(self, category: str) -> list[Sample]:
        test = self.folder(category) / "test"
        items = sorted(test.iterdir(), key=natural_key) if test.is_dir() else []
        kinds = [item for item in items if item.is_dir() and not is_clutter(item.name)]
        if not kinds:
            raise DataError(f"there is no test image under {str(test)!r}. Expected {self.layout}.")
        samples: list[Sample] = []
        for kind in kinds:
            if kind.name == self.good:
                samples += samples_in(kind, NORMAL, category, "good")
            else:  # the label comes from the folder, never from the mask, which may be empty
                masks = masks_in(self.folder(category) / "ground_truth" / kind.name)
                samples += samples_in(kind, ANOMALOUS, category, kind.name, masks)
        return samples
