"""ImageCache: the images of a run in the geometry of its model, so that each file is decoded once."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_core.imaging.geometry import InputSpec, Native
from anomaly_core.types import Sample

if TYPE_CHECKING:
    from torch import Tensor

Key = tuple[Any, ...]  # a sample's path and mask, and a tile of its image; None: all of it


class View(NamedTuple):
    """An image, or a tile of it, as a model's input.

    Attributes:
        pixels: uint8 (H, W, 3) RGB.
        mask: bool (1, H, W): the defective pixels; None without a mask.
        valid: bool (1, H, W): the pixels that count; None where all do.
    """

    pixels: NDArray[np.uint8]
    mask: Tensor | None = None
    valid: Tensor | None = None


def view(
    spec: InputSpec | Native, image: Image.Image, mask: Image.Image | None = None, keep: NDArray[np.bool_] | None = None
) -> View:
    """An image (mode ``RGB`` or ``L``), its mask and which of its pixels count, in the geometry of ``spec``."""
    pixels = spec.array(image)
    if image.mode == "L":  # its channels are equal: one of them is held
        pixels = np.broadcast_to(pixels[..., :1].copy(), pixels.shape)
    valid = None if keep is None else spec.mask(Image.fromarray(keep))
    return View(pixels, None if mask is None else spec.mask(mask), valid)


class ImageCache:
    """Views of images, up to a number of bytes.

    Threads may share it. A process that is forked has a copy; one that is spawned begins with an empty one.

    Args:
        spec: the geometry of the views.
        budget: the most bytes that their pixels may take.
    """

    def __init__(self, spec: InputSpec, budget: int) -> None:
        self.spec = spec
        self.budget = budget
        self.used = 0
        self._views: dict[Key, View] = {}
        self._lock = threading.Lock()

    @staticmethod
    def key(sample: Sample, box: Any = None) -> Key:
        """The key of a sample's view, or of a tile of it."""
        return sample.path, sample.mask_path, box

    def __contains__(self, key: Key) -> bool:
        return key in self._views

    def get(self, key: Key) -> View | None:
        """A view, if it is there."""
        return self._views.get(key)

    def has_room(self, count: int = 1) -> bool:
        """Whether so many more views surely fit."""
        return self.used + count * 3 * math.prod(self.spec.output_size) <= self.budget

    def keep(self, key: Key, one: View) -> None:
        """Hold a view, if it fits."""
        size = one.pixels[..., 0].size * (3 if one.pixels.strides[-1] else 1)
        with self._lock:
            if key not in self._views and self.used + size <= self.budget:
                self._views[key] = one
                self.used += size

    def shared(self, workers: int) -> ImageCache:
        """A cache with the same views, to which each of several processes may add its share of what is left."""
        part = ImageCache(self.spec, self.used + (self.budget - self.used) // workers)
        part.used, part._views = self.used, dict(self._views)
        return part

    def __getstate__(self) -> tuple[InputSpec, int]:
        return self.spec, self.budget - self.used

    def __setstate__(self, state: tuple[InputSpec, int]) -> None:
        self.__init__(*state)  # type: ignore[misc]
