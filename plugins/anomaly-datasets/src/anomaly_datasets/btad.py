"""BTAD (Mishra et al., ISIE 2021): three industrial products, bmp and png mixed, masks of another suffix, some of them empty.

The label comes from the folder, ``ok`` or ``ko``, and masks are matched by stem. Images whose mask is empty stay anomalous; to
pixel metrics all their pixels are normal, and a run says how many there are.
"""

from __future__ import annotations

from pathlib import Path

from anomaly_datasets.facts import BTAD
from anomaly_datasets.files import MVTecTree


class BTADData(MVTecTree):
    """The root is ``BTech_Dataset_transformed`` or the folder above it; masks are matched by stem."""

    layout = BTAD.layout
    good = "ok"

    @property
    def tree(self) -> Path:
        inner = self.root / "BTech_Dataset_transformed"
        return inner if inner.is_dir() else self.root
