"""Maps and masks at the images' own resolution, image by image: what ``data.evaluate_at=native`` gives to the metrics."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from anomaly_core.inputs import InputSpec, image_size, read_mask
from anomaly_core.types import Batch, Prediction, Sample


def native_parts(batch: Batch, prediction: Prediction, spec: InputSpec) -> Iterator[tuple[Batch, Prediction]]:
    """Batches of one image whose map is resized, bilinearly, to the image's own pixels, and whose mask was never resized.

    One image at a time, for images differ in size and native maps are large: memory stays that of one. With a crop both are
    those of the region that the model saw, for nothing is known of what it did not see; what ``resize=pad`` added is cut off.
    Images and reconstruction stay as the model saw them.

    Raises:
        DataError: an image or a mask cannot be read.
    """
    for index, sample in enumerate(batch.samples):
        one = slice(index, index + 1)
        maps, masks = prediction.maps, batch.masks
        if maps is not None and masks is not None:
            maps, masks = _native(sample, maps[index], spec)
        elif maps is not None:
            maps = maps[one]
        reconstruction = None if prediction.reconstruction is None else prediction.reconstruction[one]
        yield (
            Batch(batch.images[one], batch.labels[one], masks, batch.has_mask[one], [sample]),
            Prediction(prediction.scores[one], maps, reconstruction),
        )


def _native(sample: Sample, anomaly_map: Tensor, spec: InputSpec) -> tuple[Tensor, Tensor]:
    """(1, h, w) -> map float and mask bool, both (1, 1, H, W)."""
    mask = None if sample.mask_path is None else read_mask(sample.mask_path)
    height, width = image_size(sample.path) if mask is None else mask.size[::-1]
    resized = spec.native_map(anomaly_map, width, height)[None]
    if mask is None:
        return resized, torch.zeros_like(resized, dtype=torch.bool)
    cropped = mask.crop(spec.native_region(width, height))
    # PIL's bytes are its own: frombuffer would be read-only.
    pixels = torch.frombuffer(bytearray(cropped.tobytes()), dtype=torch.uint8)
    return resized, (pixels != 0).view(1, 1, cropped.height, cropped.width)
