"""ImageReader: how a run's image files become pixels, the same for fitting, for new images and in an exported detector."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from pydantic import ConfigDict, TypeAdapter

from anomaly_core.config.sections import DataConfig
from anomaly_core.imaging.images import checked_size, image_size, read_image, read_mask, to_rgb
from anomaly_core.types import MaskSource


@dataclass(frozen=True)
class ImageReader:
    """Decodes image files and their masks. A run keeps its reader in ``images.json``, and an exported file in its metadata."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    @classmethod
    def from_config(cls, config: DataConfig) -> ImageReader:
        """The reader that a run's options request."""
        return cls()

    def read(self, path: str | Path, *, grey: bool = False) -> Image.Image:
        """An image file as upright 8-bit RGB; with ``grey``, a single-channel image keeps mode ``L``. DataError names a file
        that cannot be read."""
        return read_image(path, grey=grey)

    def convert(self, image: Image.Image) -> Image.Image:
        """An image in memory as :meth:`read` gives it from a file."""
        return to_rgb(image)

    def mask(self, path: Path | tuple[Path, ...] | MaskSource) -> Image.Image:
        """What ``Sample.mask_path`` names, as one 0/255 picture (mode ``L``) of the size that :meth:`read` gives."""
        return read_mask(path)

    def size(self, path: str | Path) -> tuple[int, int]:
        """(height, width) of what :meth:`read` gives, from the file's header alone."""
        return image_size(path)

    def seen(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of what :meth:`read` gives in an upright image of this size."""
        return 0, 0, width, height

    def checked_size(self, path: str | Path) -> tuple[int, int]:
        """(height, width) of what :meth:`read` gives, after decoding all of the file."""
        return checked_size(path)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which :meth:`from_dict` reads without loss."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> ImageReader:
        """The reader from :meth:`to_dict`; ValueError if a value is missing, unknown or not possible."""
        return TypeAdapter(cls).validate_python(values)
