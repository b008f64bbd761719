"""Masks that are read otherwise than as one image file: at a threshold, as a union, or drawn from annotations."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_core import DataError, MaskSource, fault, image_size, read_mask, read_mask_classes
from anomaly_datasets.masks.canvas import Drawing


@dataclass(frozen=True)
class FileMask(MaskSource):
    """An image file whose pixels are defective from ``threshold`` on.

    Args:
        threshold: below 1 a share of the mask's largest value, else a value of the file.
    """

    threshold: float

    def read(self) -> Image.Image:
        values: NDArray[Any] = read_mask_classes(self.path)
        least = self.threshold * float(values.max()) if self.threshold < 1 else self.threshold
        return Image.fromarray(((values >= least) & (values != 0)).astype(np.uint8) * 255)


@dataclass(frozen=True)
class UnitedMask(MaskSource):
    """The union of several masks of one image; ``path`` is the first one's file."""

    parts: tuple[Path | MaskSource, ...]

    def read(self) -> Image.Image:
        return read_mask(self.parts)


@dataclass(frozen=True)
class Annotation(MaskSource):
    """What a file of annotations says of one image, drawn at the image's size."""

    image: Path

    def read(self) -> Image.Image:
        height, width = image_size(self.image)
        canvas = Drawing(width, height)
        try:
            self.draw(canvas)
        except (OSError, ValueError) as error:
            raise DataError(
                f"cannot draw the mask of {str(self.image)!r} from {str(self.path)!r}: {fault(error)}. "
                "Correct the annotation, or remove it."
            ) from error
        return canvas.image()

    @abstractmethod
    def draw(self, canvas: Drawing) -> None:
        """Draw every defect; OSError or ValueError if the file cannot be read or is no such annotation."""
