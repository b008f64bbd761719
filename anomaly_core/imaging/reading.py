"""ImageReader: how a run's image files become pixels, the same for fitting, for new images and in an exported detector."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ConfigDict, TypeAdapter

from anomaly_core.config.sections import DataConfig
from anomaly_core.imaging.images import checked_size, image_size, read_image, read_mask, to_rgb
from anomaly_core.imaging.roi import FILL, RegionOfInterest
from anomaly_core.types import MaskSource

if TYPE_CHECKING:
    from anomaly_core.imaging.geometry import InputSpec


@dataclass(frozen=True)
class ImageReader:
    """Decodes image files and their masks. A run keeps its reader in ``images.json``, and an exported file in its metadata.

    Attributes:
        roi: the part of the images that counts: it alone is read. None: all of them.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    roi: RegionOfInterest | None = None

    @classmethod
    def from_config(cls, config: DataConfig) -> ImageReader:
        """The reader that a run's options request."""
        return cls(roi=RegionOfInterest.from_config(config))

    def read(self, path: str | Path, *, grey: bool = False) -> Image.Image:
        """An image file as upright 8-bit RGB; with ``grey``, a single-channel image keeps mode ``L``. DataError names a file
        that cannot be read."""
        return self.in_region(read_image(path, grey=grey), path)

    def convert(self, image: Image.Image) -> Image.Image:
        """An image in memory as :meth:`read` gives it from a file."""
        return self.in_region(to_rgb(image), "")

    def mask(self, path: Path | tuple[Path, ...] | MaskSource) -> Image.Image:
        """What ``Sample.mask_path`` names, as one 0/255 picture (mode ``L``) of the size that :meth:`read` gives."""
        return self.in_region(read_mask(path), path, 0)

    def size(self, path: str | Path) -> tuple[int, int]:
        """(height, width) of what :meth:`read` gives, from the file's header alone."""
        return self._size(image_size(path), path)

    def checked_size(self, path: str | Path) -> tuple[int, int]:
        """(height, width) of what :meth:`read` gives, after decoding all of the file."""
        return self._size(checked_size(path), path)

    @property
    def whole(self) -> ImageReader:
        """The same reader for all of the image."""
        return dataclasses.replace(self, roi=None)

    @property
    def origin(self) -> tuple[int, int]:
        """(left, top) in the upright image of what :meth:`read` gives."""
        return self.roi.origin if self.roi else (0, 0)

    def keep(self, height: int, width: int) -> NDArray[np.bool_] | None:
        """Which pixels count of what :meth:`read` gives, bool (height, width); None where all do."""
        return self.roi.keep(height, width) if self.roi else None

    def counted(self, values: NDArray[Any], size: tuple[int, int], spec: InputSpec | None) -> NDArray[Any]:
        """A map (h, w) of what :meth:`read` gave with this (height, width), NaN at pixels that do not count.

        ``spec`` is how it became the model's input; None if the map has its very pixels.
        """
        keep = self.keep(*size)
        return values if keep is None else np.where(spec.stencil(keep) if spec else keep, values, values.dtype.type(np.nan))

    def part(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what :meth:`read` gives of an upright image of this size; DataError as in :meth:`read`."""
        return self._size((height, width), "")

    def in_region(self, picture: Image.Image, name: Any, fill: int = FILL) -> Image.Image:
        """What :meth:`read` gives of a whole upright picture, one grey where it does not count. DataError if the picture, which
        ``name`` names, does not have the region."""
        return self.roi.crop(picture, _named(name), fill) if self.roi else picture

    def _size(self, size: tuple[int, int], name: Any) -> tuple[int, int]:
        return self.roi.cropped_size(*size, _named(name)) if self.roi else size

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which :meth:`from_dict` reads without loss."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> ImageReader:
        """The reader from :meth:`to_dict`; ValueError if a value is missing, unknown or not possible."""
        return TypeAdapter(cls).validate_python(values)


def _named(name: Any) -> str:
    return repr(str(name)) if str(name) else "the image given"
