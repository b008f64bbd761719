"""Pictures that the kit draws itself: a textured surface, and the same with a defect that nobody can miss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_core import ANOMALOUS, NORMAL, BaseDataModule, DataConfig, Sample

SIDE = 112
TRAIN, GOOD, BAD = 12, 4, 6
CATEGORY = "weave"


@dataclass(kw_only=True)
class ObviousConfig(DataConfig):
    """The kit's pictures need no option of their own; ``root`` is where they are written."""


class ObviousData(BaseDataModule):
    """A woven texture of any phase, and checkered blots on it, with masks; written below the root when first asked for."""

    def categories(self) -> list[str]:
        return [CATEGORY]

    def train_samples(self, category: str) -> list[Sample]:
        return [self._sample("train", index, NORMAL) for index in range(TRAIN)]

    def test_samples(self, category: str) -> list[Sample]:
        good = [self._sample("good", index, NORMAL) for index in range(GOOD)]
        return good + [self._sample("bad", index, ANOMALOUS) for index in range(BAD)]

    def _sample(self, part: str, index: int, label: int) -> Sample:
        path = self.root / part / f"{index:02d}.png"
        mask_path = self.root / "masks" / path.name
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            clean, spoilt, mask = draw(("train", "good", "bad").index(part) * 100 + index)
            Image.fromarray(spoilt if label == ANOMALOUS else clean).save(path)
            if label == ANOMALOUS:
                mask_path.parent.mkdir(exist_ok=True)
                Image.fromarray(mask.astype(np.uint8) * 255).save(mask_path)
        anomalous = label == ANOMALOUS
        return Sample(path, label, mask_path if anomalous else None, CATEGORY, "blot" if anomalous else "good")


def draw(number: int, side: int = SIDE) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    """(clean, spoilt) uint8 (side, side, 3) and the bool (side, side) mask of the defect; the same for the same number."""
    rng = np.random.default_rng(number)
    rows, columns = np.indices((side, side))
    phase = rng.uniform(0, 2 * np.pi, 2)
    weave = 0.5 + 0.12 * np.sin(rows / 3 + phase[0]) + 0.12 * np.sin(columns / 3 + phase[1])
    noise = 0.02 * rng.standard_normal((side, side, 1))
    clean = weave[..., None] * np.array([0.9, 0.75, 0.55]) + noise
    centre = rng.uniform(0.35, 0.65, 2) * side
    mask = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (0.17 * side) ** 2
    spoilt = clean.copy()
    spoilt[mask] = ((rows // 4 + columns // 4) % 2)[mask][:, None] * np.array([1.0, 1.0, 1.0])
    return _bytes(clean), _bytes(spoilt), mask


def write_folder(folder: Path) -> Path:
    """The same pictures as files in MVTec AD's layout below ``folder``, for a test of a whole run."""
    for part, count in (("train", TRAIN), ("good", GOOD), ("bad", BAD)):
        place = folder / {"train": "train/good", "good": "test/good", "bad": "test/blot"}[part]
        place.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            clean, spoilt, mask = draw(("train", "good", "bad").index(part) * 100 + index)
            Image.fromarray(spoilt if part == "bad" else clean).save(place / f"{index:02d}.png")
            if part == "bad":
                (folder / "ground_truth" / "blot").mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "ground_truth" / "blot" / f"{index:02d}_mask.png")
    return folder


def _bytes(picture: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(picture * 255, 0, 255).round(), dtype=np.uint8)
