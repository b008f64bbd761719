"""The user's own images: MVTec AD's layout, or a folder of normal and one of abnormal images."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from anomaly_core import ANOMALOUS, NORMAL, ConfigError, DataError, Sample
from anomaly_datasets.config import FolderConfig
from anomaly_datasets.files import MVTecTree, drawn, images_in, masks_in, missing_root, samples_in, tree_categories


class FolderData(MVTecTree):
    """``data.root`` may hold the categories, or be one category itself; ``data.normal`` and its siblings name plain folders."""

    @property
    def options(self) -> FolderConfig:
        return cast(FolderConfig, self.config)

    @property
    def is_one(self) -> bool:
        """Whether the root is one category itself, with ``train`` and ``test`` in it."""
        return (self.root / "train").is_dir()

    def folder(self, category: str) -> Path:
        return self.root if self.is_one else super().folder(category)

    def categories(self) -> list[str]:
        if self.options.normal:
            return [_name(Path(self.options.normal))]
        if any((self.options.abnormal, self.options.masks, self.options.normal_test)):
            raise ConfigError(
                "data.abnormal, data.masks and data.normal_test go with data.normal: "
                "name the folder of normal images too, with --set data.normal=DIR."
            )
        if self.is_one:
            return [_name(self.root)]
        names = tree_categories(self.root)
        if not names:
            layout = f"{self.layout}, or a single category's train and test"
            raise missing_root(self, f"{layout}; or name plain folders with --set data.normal=DIR --set data.abnormal=DIR")
        return names

    def train_samples(self, category: str) -> list[Sample]:
        return self._normal(category)[0] if self.options.normal else super().train_samples(category)

    def test_samples(self, category: str) -> list[Sample]:
        if not self.options.normal:
            return super().test_samples(category)
        bad: list[Sample] = []
        if self.options.abnormal:
            folder = Path(self.options.abnormal).expanduser()
            bad = samples_in(folder, ANOMALOUS, category, _name(folder), self._masks())
        return [*self._normal(category)[1], *bad]

    def _masks(self) -> dict[str, Path]:
        if not self.options.masks:
            return {}
        folder = Path(self.options.masks).expanduser()
        images_in(folder)  # named by the user: a missing or an empty folder is an error here
        return masks_in(folder)

    def _normal(self, category: str) -> tuple[list[Sample], list[Sample]]:
        """(train, test): a folder of its own for the test, or a share of the normal images, the same for every run's seed."""
        normal = samples_in(Path(self.options.normal or "").expanduser(), NORMAL, category, "good")
        if self.options.normal_test:
            return normal, samples_in(Path(self.options.normal_test).expanduser(), NORMAL, category, "good")
        if len(normal) < 2:
            raise DataError(
                f"data.normal={self.options.normal!r} holds one image, and a share of it must test. "
                "Add images, or name others with --set data.normal_test=DIR."
            )
        count = min(max(round(len(normal) * self.options.normal_test_share), 1), len(normal) - 1)
        test, train = drawn(normal, count, self.options.split_seed)
        return train, test


def _name(folder: Path) -> str:
    """A folder's own name, a symlink's included; ``.`` and ``..`` are resolved first."""
    return folder.name if folder.name not in ("", "..") else folder.resolve().name
