"""Large images of several sizes, for tests with tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def picture(path: Path, size: tuple[int, int], seed: int, *, mode: str = "RGB", defect: bool = False) -> Path:
    """A woven pattern of (height, width); a defect is a bright blot."""
    rows, columns = np.indices(size)
    grid = 110 + 40 * ((rows // 4 + columns // 4) % 2) + np.random.default_rng(seed).integers(0, 12, size)
    if defect:
        grid[size[0] // 2 : size[0] // 2 + 16, size[1] // 2 : size[1] // 2 + 16] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid.astype(np.uint8)).convert(mode).save(path)
    return path


def tree(root: Path) -> Path:
    """Images of several sizes, wide and high, grey and coloured, one smaller than a tile."""
    sizes = [(150, 200), (200, 150), (120, 120), (40, 180)]
    for index, size in enumerate(sizes):
        picture(root / "train" / "good" / f"{index}.png", size, index, mode="L" if index % 2 else "RGB")
    for index, size in enumerate([(150, 190), (50, 40)]):
        picture(root / "test" / "good" / f"{index}.png", size, 10 + index)
    for index, size in enumerate([(180, 150), (60, 150)]):
        picture(root / "test" / "blot" / f"{index}.png", size, 20 + index, defect=True)
        mask = np.zeros(size, dtype=np.uint8)
        mask[size[0] // 2 : size[0] // 2 + 16, size[1] // 2 : size[1] // 2 + 16] = 255
        (root / "ground_truth" / "blot").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / "ground_truth" / "blot" / f"{index}_mask.png")
    return root
