"""ELPV (Deitsch et al., Solar Energy 2019): 2,624 solar cells with a defect probability, out of the wheel ``elpv-dataset``.

It publishes no split. Here cells with defect probability 0 are normal (70 % train, the rest test, divided by
``data.split_seed`` whatever the run's seed), probability 1 is anomalous, and the cells between are left out
(``data.ambiguous=true`` tests on them, as anomalous). There are no masks.
"""

from __future__ import annotations

import importlib.util
from functools import cached_property
from pathlib import Path
from typing import cast

from anomaly_core import ANOMALOUS, NORMAL, BaseDataModule, DataError, Sample, expanded, read_untrusted
from anomaly_datasets.config import ELPVConfig
from anomaly_datasets.facts import ELPV
from anomaly_datasets.files import drawn, missing_root


class ELPVData(BaseDataModule):
    """Normal is probability 0, anomalous 1; the cells between are ambiguous and left out unless asked for. No masks."""

    @property
    def root(self) -> Path:
        """``data.root``, else the folder inside the installed package."""
        if self.config.root:
            return expanded(self.config.root)
        package = importlib.util.find_spec("elpv_dataset")
        if package is None or package.origin is None:
            raise DataError(
                "the ELPV images are not installed: the package elpv_dataset is missing. They come with "
                '`pip install "anomaly-datasets[elpv]"` (licence CC BY-NC-SA 4.0: not for commercial use); '
                "or name a folder with labels.csv and images with --set data.root=DIR."
            )
        return Path(package.origin).parent / "data"

    def categories(self) -> list[str]:
        return [name for name in ELPV.categories if any(kind == name for _, _, kind in self.rows)]

    def train_samples(self, category: str) -> list[Sample]:
        return self._normal(category)[0]

    def test_samples(self, category: str) -> list[Sample]:
        least = 0.3 if cast(ELPVConfig, self.config).ambiguous else 0.99
        bad = [
            Sample(self.root / name, ANOMALOUS, None, category, f"probability-{probability:.2f}")
            for name, probability, kind in self.rows
            if kind == category and probability >= least
        ]
        return [*self._normal(category)[1], *bad]

    @cached_property
    def rows(self) -> list[tuple[str, float, str]]:
        """(image, defect probability, mono or poly) of every cell."""
        table = self.root / "labels.csv"
        if not table.is_file():
            raise missing_root(self, "labels.csv and the folder images that it names")
        try:
            rows = [line.split() for line in read_untrusted(table).decode().splitlines() if line.strip()]
            cells = [(name, float(probability), kind) for name, probability, kind in rows]
            strange = next((name for name, probability, _ in cells if not 0 <= probability <= 1 or "\0" in name), None)
            if strange is not None:
                raise ValueError(f"the probability of {strange!r} is not between 0 and 1, or its name is no file's")
            return cells
        except (OSError, ValueError) as error:
            raise DataError(
                f"each line of {str(table)!r} must hold a path, a probability and a kind: {error}. Install the package again."
            ) from error

    def _normal(self, category: str) -> tuple[list[Sample], list[Sample]]:
        """(train, test): drawn by ``split_seed`` alone, so that every run, whatever its seed, is judged on the same cells."""
        config = cast(ELPVConfig, self.config)
        good = [
            Sample(self.root / name, NORMAL, None, category, "good")
            for name, p, kind in self.rows
            if kind == category and p == 0
        ]
        return drawn(good, round(len(good) * config.train_share), config.split_seed)
