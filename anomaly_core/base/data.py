"""BaseDataModule: a data set's samples, and the loaders of one category (or of all of them, unified)."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from anomaly_core.base.tiled import TileDataset, tell_of_tiles
from anomaly_core.cores import cores, decoders
from anomaly_core.errors import ConfigError, DataError
from anomaly_core.inputs import InputSpec, Native, as_images, read_image, read_mask
from anomaly_core.options import DataConfig
from anomaly_core.screening import require_one_size
from anomaly_core.specs import DatasetSpec
from anomaly_core.tiles import Tiling
from anomaly_core.types import ANOMALOUS, NORMAL, Batch, Sample


class BaseDataModule(ABC):
    """A data set. A plugin says which categories there are and which files belong to them; loading is done here.

    Args:
        config: the data set's own dataclass.
        seed: governs the split of held-out images and the order of training.
        spec: the data set's spec, for messages; None for one that is not registered.

    Attributes:
        tiling: how large images are cut; None for images that are seen whole.
    """

    def __init__(self, config: DataConfig, seed: int = 0, spec: DatasetSpec | None = None) -> None:
        self.config = config
        self.seed = seed
        self.spec = spec
        self.tiling = Tiling.from_config(config)

    @abstractmethod
    def categories(self) -> list[str]:
        """The categories found under the root, in the data set's order. DataError where the root is not what it should be."""

    @abstractmethod
    def train_samples(self, category: str) -> list[Sample]:
        """The normal images to fit on."""

    @abstractmethod
    def test_samples(self, category: str) -> list[Sample]:
        """The images to judge on, with labels, and masks where there are any."""

    @property
    def root(self) -> Path:
        """The data set's folder: ``data.root``, else ``$ANOMALY_DATA/<name>``, else ``data/<name>``."""
        if self.config.root:
            return Path(self.config.root).expanduser()
        base = os.environ.get("ANOMALY_DATA")
        return Path(base or "data").expanduser() / self.config.name.rpartition(":")[2]

    def chosen_categories(self) -> list[str]:
        """The categories that the config names, or all; ConfigError names one that does not exist."""
        found = self.categories()
        for name in self.config.category or []:
            if name not in found:
                raise ConfigError(
                    f"data set {self.config.name!r} has no category {name!r} under {str(self.root)!r}. "
                    f"Choose one of: {', '.join(found)}."
                )
        return list(dict.fromkeys(self.config.category)) if self.config.category else found

    def split(self, category: str) -> tuple[list[Sample], list[Sample]]:
        """(fit, held out): a share ``data.holdout`` of the normal training images, drawn by the seed, is kept from fitting."""
        samples = self.train_samples(category)
        normal = [sample for sample in samples if sample.label in (NORMAL, None)]
        if not normal:
            raise DataError(
                f"category {category!r} of {self.config.name!r} has no normal training image under {str(self.root)!r}."
            )
        if len(normal) < len(samples):
            wrong = next(sample for sample in samples if sample.label not in (NORMAL, None))
            warnings.warn(
                f"{len(samples) - len(normal)} training images of category {category!r} are labelled anomalous, such as "
                f"{str(wrong.path)!r}: they are left out, for a detector is fitted on normal images.",
                stacklevel=2,
            )
        count = round(len(normal) * self.config.holdout)
        if self.config.holdout and len(normal) > 1:
            count = min(max(count, 1), len(normal) - 1)
        order = torch.randperm(len(normal), generator=torch.Generator().manual_seed(self.seed)).tolist()
        held = set(order[:count])
        return [s for i, s in enumerate(normal) if i not in held], [s for i, s in enumerate(normal) if i in held]

    def loader(
        self, samples: Sequence[Sample], input_spec: InputSpec, *, shuffle: bool = False, keep: bool = False
    ) -> DataLoader[Batch]:
        """Batches of samples in the geometry of ``input_spec``.

        Args:
            samples: what there is.
            input_spec: the modeler's.
            shuffle: in an order of the seed, the same for any number of workers.
            keep: the images come again and again: decoded ones are kept, as far as ``data.image_cache`` allows.
        """
        budget = int(self.config.image_cache) if keep else 0
        dataset: Dataset[Batch]
        if self.tiling is None:
            workers = self._workers(len(samples))
            dataset = SampleDataset(samples, input_spec, budget)
        else:
            tiles = TileDataset(samples, input_spec, self.tiling)
            workers = self._workers(len(tiles))
            # A worker keeps what it decodes for itself: together they keep to the budget.
            dataset = tiles.keeping(budget // max(1, workers))
            tell_of_tiles(tiles, input_spec, budget, shuffle)
        return DataLoader(
            dataset,
            batch_size=self.config.batch_size,
            shuffle=shuffle,
            num_workers=workers,
            collate_fn=collate,
            generator=torch.Generator().manual_seed(self.seed),
            persistent_workers=workers > 0 and shuffle,
        )

    def images(self, samples: Sequence[Sample], input_spec: InputSpec) -> DataLoader[Batch]:
        """Batches of samples to score: as :meth:`loader`, but with ``data.tile`` one image a batch in its own geometry.

        They go to :func:`~anomaly_core.base.tiled.scorer`. One image is in memory at a time; sizes may differ.
        """
        if self.tiling is None:
            return self.loader(samples, input_spec)
        return DataLoader(SampleDataset(samples, Native()), batch_size=1, collate_fn=collate)

    def _workers(self, items: int) -> int:
        if self.config.num_workers is not None:
            return self.config.num_workers
        return 0 if items < 512 or cores() <= 2 else min(8, cores() // 2)


_Read = tuple[NDArray[np.uint8], Tensor | None]


class SampleDataset(Dataset[Batch]):
    """Samples as batches, decoded when asked for.

    Args:
        samples: what there is.
        input_spec: the geometry; :class:`~anomaly_core.inputs.Native` keeps each image's own.
        budget: bytes of placed images (uint8) that are kept for the next time; 0 keeps none. Images with masks are not kept.
    """

    def __init__(self, samples: Sequence[Sample], input_spec: InputSpec | Native, budget: int = 0) -> None:
        self.samples = samples
        self.input_spec = input_spec
        self.with_masks = any(sample.mask_path is not None for sample in samples)
        self._budget = 0 if self.with_masks else budget
        self._placed: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Batch:
        return self._joined([index], [self._read(index)])

    def __getitems__(self, indices: Sequence[int]) -> list[Batch]:
        """Several samples as one batch, decoded by threads unless a process of the loader does."""
        if get_worker_info() is not None:
            return [self._joined(indices, [self._read(index) for index in indices])]
        with ThreadPoolExecutor(decoders()) as pool:
            return [self._joined(indices, list(pool.map(self._read, indices)))]

    def _read(self, index: int) -> _Read:
        """The image uint8 (H, W, 3), and the mask bool (1, H, W) or None. Torch computes nothing here: its threads would wait
        for more to do, and take the time of those that decode."""
        sample = self.samples[index]
        if index in self._placed:
            return self._placed[index], None
        image = read_image(sample.path, grey=True)
        mask = None
        if sample.mask_path is not None:
            picture = read_mask(sample.mask_path)
            require_one_size(sample, (image.height, image.width), (picture.height, picture.width))
            mask = self.input_spec.mask(picture)
        return self.input_spec.array(image), mask

    def _joined(self, indices: Sequence[int], reads: Sequence[_Read]) -> Batch:
        samples = [self.samples[index] for index in indices]
        for index, (array, _) in zip(indices, reads, strict=True):
            if array.size <= self._budget and index not in self._placed:
                self._placed[index] = array
                self._budget -= array.size
        masks = None
        if self.with_masks:
            nothing = torch.zeros(1, *reads[0][0].shape[:2], dtype=torch.bool)
            masks = torch.stack([nothing if mask is None else mask for _, mask in reads])
        return Batch(
            images=as_images(np.stack([array for array, _ in reads])),
            labels=torch.tensor([-1 if sample.label is None else sample.label for sample in samples]),
            masks=masks,
            has_mask=torch.tensor([self.with_masks and _mask_is_known(sample) for sample in samples]),
            samples=samples,
        )


def _mask_is_known(sample: Sample) -> bool:
    """A normal image needs no file for its mask: nothing is defective."""
    return sample.mask_path is not None or sample.label != ANOMALOUS


def collate(batches: Iterable[Batch]) -> Batch:
    """Join batches of the same geometry into one."""
    items = list(batches)
    if len(items) == 1:
        return items[0]
    masks = [item.masks for item in items if item.masks is not None]
    return Batch(
        images=torch.cat([item.images for item in items]),
        labels=torch.cat([item.labels for item in items]),
        masks=torch.cat(masks) if masks else None,
        has_mask=torch.cat([item.has_mask for item in items]),
        samples=[sample for item in items for sample in item.samples],
    )
