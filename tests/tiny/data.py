"""Two data sets: a tree of folders as MVTec AD has it, and one that draws its pictures when it is first looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_core import ANOMALOUS, IMAGE_SUFFIXES, NORMAL, BaseDataModule, DataError, Sample
from tiny.config import WeaveConfig


class Tree(BaseDataModule):
    """``train/good``, ``test/<defect>``, ``ground_truth/<defect>/<name>_mask.png``: below the root or in folders of it."""

    def categories(self) -> list[str]:
        if (self.root / "train").is_dir():
            return [self.root.name]
        if not self.root.is_dir():
            raise DataError(f"the data set {self.config.name!r} has no folder {str(self.root)!r}. Check data.root.")
        return sorted(folder.name for folder in self.root.iterdir() if (folder / "train").is_dir())

    def train_samples(self, category: str) -> list[Sample]:
        return [Sample(path, NORMAL, None, category, "good") for path in _images(self._folder(category) / "train" / "good")]

    def test_samples(self, category: str) -> list[Sample]:
        folder = self._folder(category)
        return [
            self._sample(folder, path, category) for defect in sorted((folder / "test").glob("*")) for path in _images(defect)
        ]

    def _folder(self, category: str) -> Path:
        return self.root if (self.root / "train").is_dir() else self.root / category

    def _sample(self, folder: Path, path: Path, category: str) -> Sample:
        defect = path.parent.name
        mask = folder / "ground_truth" / defect / f"{path.stem}_mask.png"
        label = NORMAL if defect == "good" else ANOMALOUS
        return Sample(path, label, mask if mask.is_file() else None, category, defect)


class Weave(Tree):
    """Two categories of woven textures, with checkered blots as defects."""

    config: WeaveConfig

    def categories(self) -> list[str]:
        for number, category in enumerate(("linen", "wool")):
            if not (self.root / category).is_dir():
                counts = self.config.train_count, self.config.good_count, self.config.bad_count
                write_tree(self.root / category, *counts, side=self.config.size, seed=1000 * number)
        return ["linen", "wool"]


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def write_tree(folder: Path, train: int = 6, good: int = 2, bad: int = 2, *, side: int = 32, seed: int = 0) -> Path:
    """A category in :class:`Tree`'s layout."""
    for part, count in (("train/good", train), ("test/good", good), ("test/blot", bad)):
        for index in range(count):
            number = seed + 100 * len(part) + index
            clean, spoilt, mask = draw(number, side)
            if part == "test/blot":
                write_mask(folder / "ground_truth" / "blot" / f"{index}_mask.png", mask)
            write_image(folder / part / f"{index}.png", spoilt if part == "test/blot" else clean)
    return folder


def draw(number: int, side: int = 32) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    """(clean, spoilt) uint8 (side, side, 3) and the bool (side, side) mask of the blot; the same for the same number."""
    random = np.random.default_rng(number)
    rows, columns = np.indices((side, side))
    phase = random.uniform(0, 2 * np.pi, 2)
    weave = 0.5 + 0.12 * np.sin(rows / 3 + phase[0]) + 0.12 * np.sin(columns / 3 + phase[1])
    clean = weave[..., None] * np.array([0.9, 0.75, 0.55]) + 0.02 * random.standard_normal((side, side, 1))
    centre = random.uniform(0.35, 0.65, 2) * side
    mask = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (0.17 * side) ** 2
    spoilt = clean.copy()
    spoilt[mask] = ((rows // 4 + columns // 4) % 2)[mask][:, None]
    clean, spoilt = (np.clip(255 * picture, 0, 255).round().astype(np.uint8) for picture in (clean, spoilt))
    return clean, spoilt, mask


def write_image(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """An image file of uint8 (H, W, 3) or (H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_mask(path: Path, mask: NDArray[np.bool_]) -> Path:
    """A mask file of bool (H, W)."""
    return write_image(path, mask.astype(np.uint8) * 255)
