"""DTD, the Describable Textures Dataset (Cimpoi et al., CVPR 2014): 47 kinds of texture, 120 images each, no defects.

It is a source of textures first: ``anomaly run --model draem --set model.textures=DTD/images`` pastes them as anomalies. As a
data set, each texture is a category against all others (one against the rest): its training and validation images train, its
test images are normal, and the test images of the other 46 are anomalous, under their own names. That is a test of semantic
novelty, not of inspection: 1,840 anomalous images stand against 40 normal ones, and there are no masks. ``data.split`` is the
number of the published split.

*DTD-Synthetic* (Aota, Tong and Okatani, WACV 2023) holds textures of DTD with defects that were pasted in. It is in MVTec AD's
layout: ``--data folder --set data.root=DTD-Synthetic`` reads it. No copy of either was at hand to check the counts.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import cast

from anomaly_core import ANOMALOUS, NORMAL, BaseDataModule, DataError, Sample, inside, read_untrusted
from anomaly_datasets.config import DTDConfig
from anomaly_datasets.facts import DTD
from anomaly_datasets.files import missing_root


class DTDData(BaseDataModule):
    """The root holds ``images`` and ``labels``, or the folder ``dtd`` with them."""

    @property
    def tree(self) -> Path:
        """The folder that holds ``images`` and ``labels``."""
        inner = self.root / "dtd"
        return inner if inner.is_dir() else self.root

    def categories(self) -> list[str]:
        names = [name for name in DTD.categories if (self.tree / "images" / name).is_dir()]
        if not names or not (self.tree / "labels").is_dir():
            raise missing_root(self, DTD.layout)
        return names

    def train_samples(self, category: str) -> list[Sample]:
        listed = [*self.lists["train"], *self.lists["val"]]
        return [Sample(path, NORMAL, None, category, "good") for texture, path in listed if texture == category]

    def test_samples(self, category: str) -> list[Sample]:
        test = self.lists["test"]
        good = [Sample(path, NORMAL, None, category, "good") for texture, path in test if texture == category]
        return [
            *good,
            *(Sample(path, ANOMALOUS, None, category, texture) for texture, path in test if texture != category),
        ]

    @cached_property
    def lists(self) -> dict[str, list[tuple[str, Path]]]:
        """(texture, image) of each part of the split, of the textures that are there."""
        there = set(self.categories())
        return {part: [item for item in self._listed(part) if item[0] in there] for part in ("train", "val", "test")}

    def _listed(self, part: str) -> list[tuple[str, Path]]:
        table = self.tree / "labels" / f"{part}{cast(DTDConfig, self.config).split}.txt"
        try:
            names = read_untrusted(table).decode().split()
            paths = [(name.partition("/")[0], inside(self.tree / "images", name)) for name in names]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read the list {str(table)!r}: {error}. Unpack the data set again.") from error
        missing = [path for texture, path in paths if not os.path.lexists(path) and path.parent.is_dir()]
        if missing:
            raise DataError(
                f"{len(missing)} images of {str(table)!r} are not there, such as {str(missing[0])!r}. Unpack it again."
            )
        return paths
