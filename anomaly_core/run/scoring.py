"""The loop that scores images: batch by batch, in parts that fit into memory, large images by tiles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anomaly_core.base.modeler import BaseModeler
from anomaly_core.config.sections import DataConfig
from anomaly_core.discovery import registry
from anomaly_core.imaging.images import as_images
from anomaly_core.imaging.roi import lowered
from anomaly_core.imaging.tiles import Canvas, Tiling, cut
from anomaly_core.run.memory import Portions
from anomaly_core.types import Batch, Prediction

Scored = tuple[Batch, Prediction]
PARTS: dict[str, tuple[int, ...]] = {"scores": (), "maps": (1,), "reconstruction": (3,)}  # -> channels


def score(modeler: BaseModeler, batches: Iterable[Batch], device: torch.device) -> Iterator[Scored]:
    """Each batch with its prediction, float32 on the CPU; in eval mode and without gradients.

    A batch that does not fit into memory is scored in parts, with a warning.
    """
    modeler.to(device).eval()
    portions = Portions("scoring")
    for batch in batches:
        prediction = score_images(modeler, batch.images, device, portions)
        yield batch, prediction
        del batch, prediction  # may be of a large image: the next one is decoded meanwhile


def within_region(batch: Batch, prediction: Prediction) -> Prediction:
    """The prediction with the least value of each map where pixels do not count (``Batch.valid``): no defect can be there."""
    if prediction.maps is None or batch.valid is None:
        return prediction
    return replace(prediction, maps=torch.from_numpy(lowered(prediction.maps.numpy(), batch.valid.numpy())))


def score_images(modeler: BaseModeler, images: Tensor, device: torch.device, portions: Portions) -> Prediction:
    """The prediction of (B, 3, H, W) RGB images, in parts that fit; the modeler must be on the device and in eval mode."""

    def predict(part: Tensor) -> Prediction:
        with torch.inference_mode():
            return predicted(modeler, part.to(device)).cpu()

    return Prediction.joined(portions.run(predict, images))


def predicted(modeler: BaseModeler, images: Tensor) -> Prediction:
    """What ``predict_step`` returns; PluginFailure, which names the method, if the shape or type of a part is wrong."""
    prediction = modeler.predict_step(images)
    for part, channels in PARTS.items():
        tensor: Any = getattr(prediction, part, None)
        shape = tuple(getattr(tensor, "shape", ()))
        wanted = (len(images), *channels, *(shape[2:4] if channels else ()))
        fits = isinstance(tensor, Tensor) and tensor.is_floating_point() and shape == wanted and len(shape) in (1, 4)
        if not (fits or (tensor is None and channels and isinstance(prediction, Prediction))):
            returned = f"{type(modeler).__name__}.predict_step returned a {type(prediction).__name__} with {part} of type"
            raise registry.failed(modeler, f"{returned} {getattr(tensor, 'dtype', type(tensor).__name__)} and shape {shape}")
    return prediction


def tiled(modeler: BaseModeler, config: DataConfig) -> BaseModeler:
    """A modeler that scores images by tiles, as ``config`` defines them; the same modeler without ``data.tile``."""
    tiling = Tiling.from_config(config)
    return modeler if tiling is None else TiledModeler(modeler, tiling, config.batch_size)


class TiledModeler(BaseModeler):
    """A fitted modeler that scores whole images by their tiles, ``batch_size`` of them at once.

    An image's score is the greatest score of its tiles: an image is as anomalous as its worst part. An image of one tile has
    the same score as without tiling. Maps and reconstructions are blended into one of the image's own size.
    """

    def __init__(self, modeler: BaseModeler, tiling: Tiling, batch_size: int) -> None:
        super().__init__(modeler.config)
        self.modeler = modeler
        self.input_spec = modeler.input_spec.whole
        self.tiling = tiling
        self.batch_size = batch_size

    def predict_step(self, images: Tensor) -> Prediction:
        """Score float32 (B, 3, H, W) RGB images in [0, 1] of any size; maps (B, 1, H, W) of that size."""
        return Prediction.joined([self._whole(image) for image in images])

    def _whole(self, image: Tensor) -> Prediction:
        height, width = image.shape[-2:]
        boxes = self.tiling.boxes(height, width)
        maps, reconstruction = (Canvas(self.tiling, height, width, image.device) for _ in range(2))
        scores = []
        for start in range(0, len(boxes), self.batch_size):
            chunk = boxes[start : start + self.batch_size]
            tiles = as_images(np.stack([self.input_spec.array(tile) for tile in cut(image, chunk)]))
            prediction = predicted(self.modeler, tiles.to(image.device))
            scores.append(prediction.scores)
            for canvas, pictures in ((maps, prediction.maps), (reconstruction, prediction.reconstruction)):
                if pictures is not None:
                    for box, tile in zip(chunk, self.input_spec.unplaced(pictures, *chunk[0].size), strict=True):
                        canvas.add(box, tile)
        return Prediction(torch.cat(scores).amax(dim=0, keepdim=True), maps.picture(), reconstruction.picture())
