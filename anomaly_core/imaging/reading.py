"""ImageReader: how a run's image files become pixels, the same for fitting, for new images and in an exported detector."""

from __future__ import annotations

import dataclasses
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ConfigDict, Field, TypeAdapter

from anomaly_core.config.sections import DataConfig, Number
from anomaly_core.errors import ConfigError
from anomaly_core.imaging.facts import UPRIGHT, FileFacts, completed, header, oddities, orientation
from anomaly_core.imaging.formats import MOST_PIXELS, Refused, allowed_pixels, opened
from anomaly_core.imaging.images import read_mask
from anomaly_core.imaging.roi import FILL, RegionOfInterest, lowered
from anomaly_core.imaging.values import Stored, eight_bits, is_deep, stored
from anomaly_core.types import MaskSource

if TYPE_CHECKING:
    from anomaly_core.imaging.geometry import InputSpec

_COUNTING = threading.Lock()  # not the reader's own: a reader goes to other processes
READING = ("bit_depth", "range", "page", "largest_image")  # the options of ``data`` that are a reader's
MOST_SIZES = 8  # of the images of a run; where there are more, no size is unusual


_Side = Annotated[int, Field(strict=True, ge=1)]


@dataclass(frozen=True)
class ImageReader:
    """Decodes image files and their masks. A run keeps its reader in ``images.json``, and an exported file in its metadata.

    Attributes:
        roi: the part of the images that counts: it alone is read. None: all of them.
        range: the stored values that become black and white in images of more than 8 bits a sample; None if not known.
        page: the page of a file of several that is read, from 1.
        largest_image: the most pixels that an image may have.
        sizes, modes: (height, width) and depth and colour of the images that a run was fitted on; no sizes if there are many.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    roi: RegionOfInterest | None = None
    range: tuple[Number, Number] | None = None
    page: Annotated[int, Field(strict=True, ge=1)] = 1
    largest_image: Annotated[int, Field(strict=True, ge=1)] = MOST_PIXELS
    sizes: Annotated[tuple[tuple[_Side, _Side], ...], Field(max_length=MOST_SIZES)] = ()
    modes: Annotated[tuple[Annotated[str, Field(max_length=30)], ...], Field(max_length=20)] = ()

    def __post_init__(self) -> None:
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range: {self.range[0]:g} is not below {self.range[1]:g}")
        object.__setattr__(self, "_unusual", Counter())

    @classmethod
    def from_config(cls, config: DataConfig) -> ImageReader:
        """The reader that a run's options request; ConfigError for options that cannot be."""
        reader = cls(**_options(config))
        with reader._limit():  # a mask image may be as large as the images
            return dataclasses.replace(reader, roi=RegionOfInterest.from_config(config))

    def afresh(self, config: DataConfig) -> ImageReader:
        """This reader as it was before it was fitted on the images of a run."""
        return dataclasses.replace(self, **_options(config), sizes=(), modes=())

    def changed(self, before: DataConfig, now: DataConfig) -> ImageReader:
        """This reader of a run with those options that another config changes; the region stays the run's."""
        old = _options(before)
        return dataclasses.replace(self, **{name: value for name, value in _options(now).items() if value != old[name]})

    def read(self, path: str | Path | BytesIO, *, grey: bool = False, known: bool = False) -> Image.Image:
        """An image file, or the bytes of one, as upright 8-bit RGB; with ``grey``, a single-channel image keeps mode ``L``,
        which is resized in a third of the time. What a run was not fitted on is warned of, unless the file is ``known``.
        DataError names a file that cannot be read."""
        with self._opened(path) as image:
            picture, facts = self._decoded(image, known)
        if facts:
            self._note(path, facts)
        return self.in_region(picture if grey and picture.mode == "L" else _as_rgb(picture), path)

    def convert(self, image: Image.Image) -> Image.Image:
        """An image in memory as :meth:`read` gives it from a file; DataError if that cannot be."""
        picture, facts = self._decoded(image, False)
        if facts:  # arrays of grey images are often of three channels, and the other way round: nothing is said of that
            self._note(getattr(image, "filename", "") or "an image in memory", facts._replace(mode=""))
        return self.in_region(_as_rgb(picture), "")

    def mask(self, path: Path | tuple[Path, ...] | MaskSource) -> Image.Image:
        """What ``Sample.mask_path`` names, as one 0/255 picture (mode ``L``) of the size that :meth:`read` gives."""
        with self._limit():
            return self.in_region(read_mask(path), path, 0)

    def size(self, path: str | Path | BytesIO) -> tuple[int, int]:
        """(height, width) of what :meth:`read` gives, from the file's header alone."""
        with self._opened(path) as image:
            tags: Any = getattr(image, "tag_v2", {256: image.width, 257: image.height})  # as stored, in any version of Pillow
            size = (tags[257], tags[256])
            if size[0] != size[1] and orientation(image)[0] >= 5:  # of a PNG, that is known after decoding it
                size = size[::-1]
        return self._size(size, path)

    def seen(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of what :meth:`read` gives in an upright image of this size."""
        (left, top), (rows, columns) = self.origin, self._size((height, width), "")
        return left, top, left + columns, top + rows

    def examine(self, path: str | Path) -> FileFacts:
        """What a file is like, after decoding all of it. DataError as in :meth:`read`."""
        return self.examined(path, decode=False)[0]

    def examined(self, path: str | Path, *, decode: bool) -> tuple[FileFacts, Image.Image | None]:
        """What a file is like; with ``decode`` also the image, as :meth:`read` gives it with ``grey``, unless it has more than
        8 bits a sample: their range may not be known yet. DataError as in :meth:`read`."""
        with self._opened(path) as image:
            if not decode or is_deep(image):
                return self._facts(image), None
            picture, facts = self._decoded(image, False)
        assert facts
        return facts, self.in_region(picture if picture.mode == "L" else _as_rgb(picture), path)

    def _facts(self, image: Image.Image) -> FileFacts:
        facts = header(image)
        kept = self._stored(image) if is_deep(image) else None
        turn, fault = orientation(image)  # of a PNG only after decoding all of it
        if image.mode in ("L", "RGB") and kept is None and turn == 1 and not fault:
            image.draft(image.mode, (1, 1))  # reads all bytes of a JPEG but decodes few pixels
            image.load()
            return facts
        size = kept.values.shape[:2] if kept else image.convert("RGB").size[::-1]
        return completed(facts, image, kept, turn if image.format != "TIFF" else 1, fault, size)

    def repeated(self) -> list[str]:
        """How many images :meth:`read` met, since this was last asked, of each kind of which it warned for the first only."""
        with _COUNTING:
            counts: Counter[str] = self._unusual  # type: ignore[attr-defined]
            texts = [f"{count} images have {what}." for what, count in counts.items() if count > 1]
            counts.clear()
        return texts

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

    def lowered(self, maps: NDArray[np.float32], spec: InputSpec | None) -> NDArray[np.float32]:
        """Maps (B, 1, h, w) with their least value where pixels do not count: no defect can be there.

        ``spec`` as in :meth:`counted`. With one, and ``data.ignore`` alone, it depends on the image's size: the maps stay.
        """
        size = (maps.shape[2], maps.shape[3]) if spec is None else self.roi and self.roi.part
        keep = self.keep(*size) if size else None
        return maps if keep is None else lowered(maps, spec.stencil(keep) if spec else keep)

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

    @contextmanager
    def _limit(self) -> Iterator[None]:
        token = allowed_pixels.set(self.largest_image)
        try:
            yield
        finally:
            allowed_pixels.reset(token)

    @contextmanager
    def _opened(self, path: str | Path | BytesIO) -> Iterator[Image.Image]:
        with self._limit(), opened(path, "image", self.page) as image:
            yield image

    def _decoded(self, image: Image.Image, known: bool) -> tuple[Image.Image, FileFacts | None]:
        """The upright 8-bit image, in any mode of Pillow's, and unless it is known what it is like."""
        facts = None if known else header(image)
        kept = self._stored(image) if is_deep(image) else None
        if kept is None:
            image.load()
        picture = image if kept is None else eight_bits(kept, self.range)
        turn, fault = orientation(image)
        turn = turn if image.format != "TIFF" else 1  # Pillow turns such a file itself
        if facts:
            facts = completed(facts, image, kept, turn, fault, (picture.height, picture.width))
        return picture.transpose(UPRIGHT[turn]) if turn > 1 else picture, facts

    def _stored(self, image: Image.Image) -> Stored:
        if self.range is None and self.modes:
            raise Refused(
                "it has more than 8 bits a sample, and the training images have 8: nothing says which of its values are black "
                "and white. Save it with 8 bits, or fit with data.range=LOW,HIGH"
            )
        return stored(image)

    def _note(self, path: str | Path | BytesIO, facts: FileFacts) -> None:
        for what, detail, advice in oddities(facts, self):
            with _COUNTING:
                counts: Counter[str] = self._unusual  # type: ignore[attr-defined]
                counts[what] += 1
                first = counts[what] == 1
            if first:
                warnings.warn(f"{str(path)!r} has {what} ({detail}). {advice}", stacklevel=3)


def _options(config: DataConfig) -> dict[str, Any]:
    """The options that are the same in a reader, but for the region."""
    given = config.range
    if given is not None and config.bit_depth is not None:
        raise ConfigError(f"data.range and data.bit_depth={config.bit_depth} say the same thing. Set one of them.")
    if given is not None and not given[0] < given[1]:
        raise ConfigError(f"data.range={given[0]:g},{given[1]:g}: the first value must be below the second.")
    if config.bit_depth:
        given = (0.0, 2.0**config.bit_depth - 1)
    return {"range": given, "page": config.page, "largest_image": config.largest_image}


def read_image(path: str | Path, *, grey: bool = False) -> Image.Image:
    """Decode an image file to upright 8-bit RGB, of 16 bits with their whole range. With ``grey``, a single-channel image keeps
    mode ``L``. DataError names a file that cannot be read."""
    return ImageReader(largest_image=allowed_pixels.get()).read(path, grey=grey, known=True)


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB, upright: EXIF orientation applied, the whole range of 16 bits scaled to 8 (Pillow alone would clip it)."""
    return ImageReader()._decoded(image, True)[0].convert("RGB")


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of the upright image, from the file's header alone; DataError as in :func:`read_image`."""
    return ImageReader(largest_image=allowed_pixels.get()).size(path)


def _as_rgb(picture: Image.Image) -> Image.Image:
    """Pillow's ``convert`` copies what is RGB already."""
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _named(name: Any) -> str:
    return repr(str(name)) if str(name) else "the image given"
