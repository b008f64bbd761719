"""BaseDataModule: a data set's samples, and the loaders of one category (or of all of them, unified)."""

from __future__ import annotations

import math
import multiprocessing
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, RandomSampler, get_worker_info

from anomaly_core.base.collation import collate
from anomaly_core.config.sections import DataConfig
from anomaly_core.errors import ConfigError, DataError
from anomaly_core.imaging.cache import ImageCache, Key, View, view
from anomaly_core.imaging.geometry import InputSpec, Native
from anomaly_core.imaging.images import as_images
from anomaly_core.imaging.reading import ImageReader
from anomaly_core.imaging.roi import FILL
from anomaly_core.imaging.screening import require_one_size
from anomaly_core.imaging.tiles import Box, Tiling
from anomaly_core.imaging.variation import Variation
from anomaly_core.specs import DatasetSpec
from anomaly_core.threads import core_count, decoders
from anomaly_core.types import NORMAL, Batch, Sample
from anomaly_core.untrusted import expanded


class BaseDataModule(ABC):
    """A data set. A plugin lists the categories and their files; this class loads them.

    Attributes:
        seed: governs the split of held-out images and the order of training.
        spec: the data set's spec, for messages; None for one that is not registered.
        tiling: how large images are cut into tiles; None where images are used whole.
        cache: the decoded images of a run; None outside of one.
    """

    def __init__(self, config: DataConfig, seed: int = 0, spec: DatasetSpec | None = None) -> None:
        self.config = config
        self.seed = seed
        self.spec = spec
        self.tiling = Tiling.from_config(config)
        self.cache: ImageCache | None = None

    @cached_property
    def reader(self) -> ImageReader:
        """Decodes the files; a run replaces it by one that knows what its images are like."""
        return ImageReader.from_config(self.config)

    @abstractmethod
    def categories(self) -> list[str]:
        """The categories under the root, in the data set's order. DataError if the root does not have the expected layout."""

    @abstractmethod
    def train_samples(self, category: str) -> list[Sample]:
        """The normal images to fit on; those labelled anomalous are known defects, for methods that learn from them."""

    @abstractmethod
    def test_samples(self, category: str) -> list[Sample]:
        """The images to test on, with labels, and with masks where they exist."""

    def abnormal_samples(self, category: str) -> list[Sample]:
        """Images labelled anomalous that do not test: ``data.abnormal_train`` draws from them; from the test's, if empty."""
        return []

    @property
    def root(self) -> Path:
        """The data set's folder: ``data.root``, else ``$ANOMALY_DATA/<name>``, else ``data/<name>``."""
        if self.config.root:
            return expanded(self.config.root)
        return expanded(os.environ.get("ANOMALY_DATA") or "data") / self.config.name.rpartition(":")[2]

    def chosen_categories(self) -> list[str]:
        """The categories named in the config, or all of them; ConfigError if one does not exist."""
        categories = self.categories()
        for name in self.config.category or []:
            if name not in categories:
                raise ConfigError(
                    f"data set {self.config.name!r} has no category {name!r} under {str(self.root)!r}. "
                    f"Choose one of: {', '.join(categories)}."
                )
        return list(dict.fromkeys(self.config.category)) if self.config.category else categories

    def split(self, category: str, fewest: int = 1) -> tuple[list[Sample], list[Sample]]:
        """(fit, held out): the seed selects a share ``data.holdout`` of the normal training images to hold out; :func:`groups`
        stay together. DataError if there are fewer than ``fewest`` images; with 0, both lists may be empty. Images labelled
        anomalous are in neither."""
        samples = self.train_samples(category)
        normal = [sample for sample in samples if sample.label in (NORMAL, None)]
        if len(normal) < fewest:
            shortage, place = "no normal training image", self.root
            if normal:
                shortage, place = f"{len(normal)} normal training images, and the method needs {fewest},", normal[0].path.parent
            where = f"category {category!r} of {self.config.name!r} has {shortage} under {str(place)!r}"
            raise DataError(f"{where}, without those that test. Add normal images, or check data.root.")
        room = max(len(normal) - max(fewest, 1), 0)  # leaves at least one image, and as many as the method needs
        share = 0.1 if self.config.holdout is None else self.config.holdout
        count = min(max(round(len(normal) * share), 1), room) if share else 0
        together, held = groups(normal), set[int]()
        for number in torch.randperm(len(together), generator=torch.Generator().manual_seed(self.seed)).tolist():
            if len(held) < count and len(held) + len(together[number]) <= room:
                held.update(together[number])
        return [s for i, s in enumerate(normal) if i not in held], [s for i, s in enumerate(normal) if i in held]

    def loader(
        self,
        samples: Sequence[Sample],
        input_spec: InputSpec,
        *,
        shuffle: bool = False,
        keep: bool = False,
        variation: Variation | None = None,
    ) -> DataLoader[Batch]:
        """Batches of samples, or of their tiles with ``data.tile``. With ``shuffle``, the seed sets the order, whatever the
        number of workers. With ``keep``, decoded images stay in memory for the next epoch, up to ``data.image_cache``: in
        :attr:`cache`, if that has their geometry. With a ``variation``, each image or tile is followed by its copies."""
        spec = input_spec.whole if self.tiling else input_spec
        cache = self.cache if self.cache and self.cache.spec == spec else None
        if keep and cache is None:
            cache = ImageCache(spec, int(self.config.image_cache))
        dataset = SampleDataset(samples, spec, self.tiling, cache, keep, self.reader, variation)
        workers = self.config.num_workers
        if workers is None:
            idle = len(dataset) < 512 or core_count() <= 2 or dataset.is_cached()
            workers = 0 if idle else min(8, core_count() // 2)
        if workers:
            multiprocessing.Lock()  # OSError where /dev/shm is full or read-only; the loader would add a traceback to it
            dataset.cache = cache and cache.shared(workers)
        if self.tiling and input_spec.whole != input_spec:
            warnings.warn(
                "data.tile: model.center_crop and model.resize=keep cut borders away, which would never be seen; "
                "tiles are resized whole to the same input.",
                stacklevel=2,
            )
        needed, budget = len(dataset) * 3 * math.prod(spec.output_size), int(self.config.image_cache) if keep else 0
        if self.tiling and shuffle and needed > budget:
            warnings.warn(
                f"the {len(dataset)} training tiles take {needed / 2**20:.0f} MiB and data.image_cache keeps "
                f"{budget / 2**20:.0f} MiB of them: for the others, images are decoded again and again. "
                "Raise data.image_cache.",
                stacklevel=2,
            )
        # The sampler has its own generator: with persistent workers, the loader's is used less often.
        order = RandomSampler(dataset, generator=torch.Generator().manual_seed(self.seed)) if shuffle and samples else None
        return DataLoader(
            dataset,
            batch_size=self.config.batch_size,
            sampler=order,
            num_workers=workers,
            collate_fn=collate,
            generator=torch.Generator().manual_seed(self.seed),
            persistent_workers=workers > 0 and shuffle,
        )

    def images(self, samples: Sequence[Sample], input_spec: InputSpec) -> DataLoader[Batch]:
        """Batches of samples to score: like :meth:`loader`, but with ``data.tile`` one image per batch, at its own size."""
        if self.tiling is None:
            return self.loader(samples, input_spec)
        return DataLoader(SampleDataset(samples, Native(), reader=self.reader), batch_size=1, collate_fn=collate)


def groups(samples: Sequence[Sample]) -> list[list[int]]:
    """The indices of samples that stay together: those of one ``extra["group"]``, else each by itself."""
    together: dict[Any, list[int]] = {}
    for i, sample in enumerate(samples):
        together.setdefault((sample.category, sample.extra["group"]) if "group" in sample.extra else i, []).append(i)
    return list(together.values())


class SampleDataset(Dataset[Batch]):
    """Samples as batches, decoded on request; DataError if a file cannot be read.

    Args:
        samples: the samples to load; with a tiling, the headers of all files are read at once.
        input_spec: the geometry of a view; :class:`~anomaly_core.imaging.geometry.Native` keeps each image's own.
        tiling: makes each tile a separate view, for fitting, anomalous if its mask says so. None: each image is one view.
        cache: decoded images; None: each is decoded when it is asked for.
        keep: whether images that are decoded are added to the cache.
        reader: decodes images and masks.
        variation: adds copies of each view.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        input_spec: InputSpec | Native,
        tiling: Tiling | None = None,
        cache: ImageCache | None = None,
        keep: bool = False,
        reader: ImageReader | None = None,
        variation: Variation | None = None,
    ) -> None:
        self.samples = samples
        self.variation = variation
        self.reader = reader or ImageReader()
        self.input_spec = input_spec
        self.with_masks = any(sample.mask_path is not None for sample in samples)
        self.cache = cache
        self.keep = keep
        self._boxes: list[Sequence[Box | None]] = []  # of each sample: its tiles, or None for all of it
        self._views: list[tuple[int, Box | None, int]] = []  # a sample's index, its box, and 0 or a copy's number
        self._views_of: list[range] = []  # indexed by sample
        for number, sample in enumerate(samples):
            boxes: Sequence[Box | None] = [None] if tiling is None else tiling.boxes(*self.reader.size(sample.path))
            views = [(number, box, copy) for box in boxes for copy in range(1 + (variation.copies if variation else 0))]
            self._boxes.append(boxes)
            self._views_of.append(range(len(self._views), len(self._views) + len(views)))
            self._views += views
        self._held: dict[int, Image.Image] = {}

    def __len__(self) -> int:
        return len(self._views)

    def views_of(self, number: int) -> range:
        """The indices of the views of a sample."""
        return self._views_of[number]

    def is_cached(self) -> bool:
        """Whether every view is in the cache."""
        cache, keys = self.cache, (self._key(number, box) for number, boxes in enumerate(self._boxes) for box in boxes)
        return cache is not None and all(key in cache for key in keys)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Batch]:
        """Several views as one batch. Each image is decoded once; several threads decode, except in a loader's worker."""
        views: dict[tuple[int, Box | None], View] = {}
        missing: dict[int, list[Box | None]] = {}
        for number, box, _ in dict.fromkeys(self._views[index] for index in indices):
            if held := self.cache and self.cache.get(self._key(number, box)):
                views[number, box] = held
            elif box not in missing.setdefault(number, []):
                missing[number].append(box)
        if missing:
            with ThreadPoolExecutor(decoders() if get_worker_info() is None else 1) as pool:
                for number, read in zip(missing, pool.map(self._read, missing, missing.values()), strict=True):
                    views |= {(number, box): one for box, one in read.items()}
        return [self._joined(indices, [self._varied(index, views[self._views[index][:2]]) for index in indices])]

    def _key(self, number: int, box: Box | None) -> Key:
        return ImageCache.key(self.samples[number], box)

    def _read(self, number: int, boxes: Sequence[Box | None]) -> dict[Box | None, View]:
        """Some of a sample's views."""
        # No torch operations here: torch's threads would spin while idle and slow down the decoding threads.
        sample = self.samples[number]
        image = self._held.get(number) or self.reader.read(sample.path, grey=True, known=True)
        every, cache = self._boxes[number], self.cache if self.keep else None
        if cache and cache.has_room(len(every)):
            boxes = every  # a shuffled epoch would decode the image again for each of its tiles
        elif every[-1] not in boxes:
            self._held = {number: image}  # without shuffling, its other tiles come next
        mask, keep = None, self.reader.keep(image.height, image.width)
        if self.with_masks and sample.mask_path is not None:
            mask = self.reader.mask(sample.mask_path)
            require_one_size(sample, (image.height, image.width), (mask.height, mask.width))
        read: dict[Box | None, View] = {}
        for box in boxes:
            if box is None:
                read[box] = view(self.input_spec, image, mask, keep)
            else:
                edges = (slice(box.top, box.bottom), slice(box.left, box.right))
                tile = image.crop((box.left, box.top, box.right, box.bottom))
                part = mask and mask.crop((box.left, box.top, box.right, box.bottom))
                read[box] = view(self.input_spec, tile, part, None if keep is None else keep[edges])
            if cache:
                cache.keep(self._key(number, box), read[box])
        return read

    def _varied(self, index: int, one: View) -> View:
        """A view, or the copy of it that has this index."""
        if self.variation is None or not self._views[index][2]:
            return one
        pixels = self.variation.copy(np.ascontiguousarray(one.pixels), index)
        if one.valid is not None:
            pixels = np.where(one.valid[0].numpy()[..., None], pixels, np.uint8(FILL))
        return one._replace(pixels=pixels)

    def _joined(self, indices: Sequence[int], views: Sequence[View]) -> Batch:
        samples = [self.samples[self._views[index][0]] for index in indices]
        masks = None
        if self.with_masks:
            nothing = torch.zeros(1, *views[0].pixels.shape[:2], dtype=torch.bool)
            masks = torch.stack([nothing if one.mask is None else one.mask for one in views])
        valid = [one.valid for one in views if one.valid is not None]
        # A normal image needs no mask file: it has no defective pixels.
        known = [sample.mask_path is not None or sample.label == NORMAL for sample in samples]
        labels = [-1 if sample.label is None else sample.label for sample in samples]
        for number, (index, one) in enumerate(zip(indices, views, strict=True)):
            if self._views[index][1] is not None and one.mask is not None:
                labels[number] = int(one.mask.any())
        return Batch(
            images=as_images(np.stack([one.pixels for one in views])),
            labels=torch.tensor(labels),
            masks=masks,
            has_mask=torch.tensor([self.with_masks and item for item in known]),
            samples=samples,
            valid=torch.stack(valid) if valid else None,
        )
