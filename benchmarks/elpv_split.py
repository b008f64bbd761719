"""The side-by-side split of ELPV as folders, so that other programs can be fed the very same files.

    python benchmarks/elpv_split.py OUT

writes OUT/elpv_mono and OUT/elpv_poly, each with 200 normal training images and 100 normal and 100 defective test images, drawn
with a fixed seed. Needs `anomaly-datasets[elpv]`; ELPV is CC BY-NC-SA 4.0.
"""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import elpv_dataset


def split(out: Path) -> list[Path]:
    """Write both folders where they are not there yet; their paths."""
    root = Path(elpv_dataset.__file__).parent / "data"
    cells = [line.split() for line in (root / "labels.csv").read_text().splitlines()]
    folders = []
    for kind in ("mono", "poly"):
        normal = [name for name, probability, of in cells if of == kind and float(probability) == 0]
        defective = [name for name, probability, of in cells if of == kind and float(probability) == 1]
        random.Random(0).shuffle(normal)
        parts = {"train/good": normal[:200], "test/good": normal[200:300], "test/bad": defective[:100]}
        for part, names in parts.items():
            folder = out / f"elpv_{kind}" / part
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                if not (folder / Path(name).name).exists():
                    shutil.copy(root / name, folder)
        folders.append(out / f"elpv_{kind}")
    return folders


if __name__ == "__main__":
    print(*split(Path(sys.argv[1])), sep="\n")
