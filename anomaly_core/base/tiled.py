"""Large images: a method is fitted on tiles as if they were images, and scores an image tile by tile; it knows of neither."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from anomaly_core.base.modeler import BaseModeler
from anomaly_core.inputs import InputSpec, as_images, image_size, read_image
from anomaly_core.options import DataConfig
from anomaly_core.tiles import Box, Canvas, Tiling
from anomaly_core.types import Batch, Prediction, Sample


class TiledModeler(BaseModeler):
    """A fitted modeler that scores whole images by their tiles.

    An image's score is the greatest of its tiles' scores: an image is as anomalous as its worst part, whatever unit the method
    scores in, and an image that is one tile scores as it does untiled. Maps and reconstructions are blended into one of the
    image's own size.

    Args:
        modeler: the fitted one.
        tiling: how images are cut.
        batch_size: tiles that go through the network at once.
    """

    def __init__(self, modeler: BaseModeler, tiling: Tiling, batch_size: int) -> None:
        super().__init__(modeler.config)
        self.modeler = modeler
        self.input_spec = modeler.input_spec.whole
        self.tiling = tiling
        self.batch_size = batch_size

    def predict_step(self, images: Tensor) -> Prediction:
        """Score float32 (B, 3, H, W) images in [0, 1] of any size; maps (B, 1, H, W) of that size."""
        parts = [self._whole(image) for image in images]
        maps, made = ([getattr(part, name) for part in parts] for name in ("maps", "reconstruction"))
        return Prediction(
            torch.cat([part.scores for part in parts]),
            None if maps[0] is None else torch.cat(maps),
            None if made[0] is None else torch.cat(made),
        )

    def _whole(self, image: Tensor) -> Prediction:
        height, width = image.shape[-2:]
        # Through bytes and Pillow again, so that a tile is to the network what it was when it was fitted on.
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        boxes = self.tiling.boxes(height, width)
        maps, made = (Canvas(self.tiling, height, width, image.device) for _ in range(2))
        scores = []
        for start in range(0, len(boxes), self.batch_size):
            chunk = boxes[start : start + self.batch_size]
            tiles = torch.stack([self.input_spec.image(_cut(pixels, box)) for box in chunk])
            prediction = self.modeler.predict_step(tiles.to(image.device))
            scores.append(prediction.scores)
            for canvas, found in ((maps, prediction.maps), (made, prediction.reconstruction)):
                for box, tile in zip(chunk, () if found is None else found, strict=found is not None):
                    canvas.add(box, self.input_spec.unplaced(tile[None], *box.size)[0])
        return Prediction(torch.cat(scores).amax(dim=0, keepdim=True), maps.picture(), made.picture())


def scorer(modeler: BaseModeler, config: DataConfig) -> BaseModeler:
    """The modeler that scores images as ``config`` cuts them: the same one without ``data.tile``."""
    tiling = Tiling.from_config(config)
    return modeler if tiling is None else TiledModeler(modeler, tiling, config.batch_size)


class TileDataset(Dataset[Batch]):
    """Each tile of each sample as a batch of one, for fitting; without masks, of which fitting has no use.

    One decoded image is held, so that the next of its tiles needs no decoding.

    Args:
        samples: the images, of which only the headers are read at first.
        input_spec: the geometry of a tile.
        tiling: how images are cut.

    Raises:
        DataError: an image that cannot be read.
    """

    def __init__(self, samples: Sequence[Sample], input_spec: InputSpec, tiling: Tiling) -> None:
        self.samples = samples
        self.input_spec = input_spec.whole
        self.tiles = [(i, box) for i, sample in enumerate(samples) for box in tiling.boxes(*image_size(sample.path))]
        self._of_image: dict[int, list[int]] = {}
        for number, (image, _) in enumerate(self.tiles):
            self._of_image.setdefault(image, []).append(number)
        height, width = self.input_spec.output_size
        self._tile_bytes = 3 * height * width
        self._budget = 0
        self._placed: dict[int, np.ndarray] = {}
        self._decoded: tuple[int, np.ndarray] | None = None

    def keeping(self, budget: int) -> TileDataset:
        """Itself, keeping so many bytes of placed tiles (uint8) for the next time."""
        self._budget = budget
        return self

    def __len__(self) -> int:
        return len(self.tiles)

    @property
    def total_bytes(self) -> int:
        """What all tiles take together."""
        return len(self.tiles) * self._tile_bytes

    def __getitem__(self, index: int) -> Batch:
        number, box = self.tiles[index]
        placed = self._placed.get(index)
        if placed is None:
            self._keep_all(number)
            placed = self._placed[index] if index in self._placed else self._place(number, box)
        sample = self.samples[number]
        return Batch(
            images=as_images(placed[None]),
            labels=torch.tensor([-1 if sample.label is None else sample.label]),
            masks=None,
            has_mask=torch.tensor([False]),
            samples=[sample],
        )

    def _keep_all(self, number: int) -> None:
        """Where the budget allows: all tiles of an image at once, for a shuffled epoch would decode it for each of them."""
        needed = self._tile_bytes * len(self._of_image[number])
        if needed <= self._budget:
            self._budget -= needed
            for index in self._of_image[number]:
                self._placed[index] = self._place(number, self.tiles[index][1])

    def _place(self, number: int, box: Box) -> np.ndarray:
        if self._decoded is None or self._decoded[0] != number:
            self._decoded = None  # the old image goes before the new one comes
            self._decoded = number, np.asarray(read_image(self.samples[number].path))
        return self.input_spec.array(_cut(self._decoded[1], box))


def tell_of_tiles(dataset: TileDataset, input_spec: InputSpec, budget: int, shuffle: bool) -> None:
    """Warn of what tiles change and cost."""
    if input_spec.whole != input_spec:
        warnings.warn(
            "data.tile: model.center_crop and model.resize=keep cut borders away, which would never be seen; "
            "tiles are resized whole to the same input.",
            stacklevel=3,
        )
    if shuffle and dataset.total_bytes > budget:
        warnings.warn(
            f"the {len(dataset)} training tiles take {dataset.total_bytes / 2**20:.0f} MiB and data.image_cache keeps "
            f"{budget / 2**20:.0f} MiB of them: for the others, images are decoded again and again. Raise data.image_cache.",
            stacklevel=3,
        )


def _cut(pixels: np.ndarray, box: Box) -> Image.Image:
    return Image.fromarray(pixels[box.top : box.bottom, box.left : box.right])
