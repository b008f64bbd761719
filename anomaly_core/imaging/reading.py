"""ImageReader: how a run's image files become pixels, the same for fitting, for new images and in an exported detector."""

from __future__ import annotations

import dataclasses
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field, TypeAdapter

from anomaly_core.config.sections import DataConfig, Number
from anomaly_core.errors import ConfigError
from anomaly_core.imaging.formats import MOST_PIXELS, Refused, allowed_pixels, opened
from anomaly_core.imaging.images import read_mask
from anomaly_core.imaging.values import Range, Stored, eight_bits, is_deep, stored

ORIENTATION = 0x0112  # the EXIF tag
_Way = Image.Transpose
_UPRIGHT = dict(
    enumerate(
        (
            _Way.FLIP_LEFT_RIGHT,
            _Way.ROTATE_180,
            _Way.FLIP_TOP_BOTTOM,
            _Way.TRANSPOSE,
            _Way.ROTATE_270,
            _Way.TRANSVERSE,
            _Way.ROTATE_90,
        ),
        start=2,
    )
)
_COUNTING = threading.Lock()  # not the reader's own: a reader goes to other processes
READING = ("bit_depth", "range", "page", "largest_image")  # the options of ``data`` that are a reader's
MOST_SIZES = 8  # of the images of a run; where there are more, no size is unusual


_Side = Annotated[int, Field(strict=True, ge=1)]


class Facts(NamedTuple):
    """What an image file is like.

    Attributes:
        size: (height, width) of the upright image.
        mode: depth and colour, such as ``8-bit grey``.
        format: Pillow's name of the file's format.
        pages: how many images the file holds.
        span: the lowest and highest stored value of an image of more than 8 bits a sample; None for others.
        declared: the span that such a file itself gives.
        exact: False where only the high bytes of such an image are known.
        transparent: whether a pixel is not opaque.
        fault: what is wrong with its metadata; empty if nothing is.
    """

    size: tuple[int, int]
    mode: str
    format: str
    pages: int = 1
    span: Range | None = None
    declared: Range | None = None
    exact: bool = True
    transparent: bool = False
    fault: str = ""


@dataclass(frozen=True)
class ImageReader:
    """Decodes image files and their masks. A run keeps its reader in ``images.json``, and an exported file in its metadata.

    Attributes:
        range: the stored values that become black and white in images of more than 8 bits a sample; None if not known.
        page: the page of a file of several that is read, from 1.
        largest_image: the most pixels that an image may have.
        sizes, modes: (height, width) and depth and colour of the images that a run was fitted on; no sizes if there are many.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

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
        """The reader that a run's options request; ConfigError for options that exclude each other."""
        if config.range is not None and config.bit_depth is not None:
            raise ConfigError(f"data.range and data.bit_depth={config.bit_depth} say the same thing. Set one of them.")
        if config.range is not None and not config.range[0] < config.range[1]:
            raise ConfigError(f"data.range={config.range[0]:g},{config.range[1]:g}: the first value must be below the second.")
        given = config.range or ((0.0, 2.0**config.bit_depth - 1) if config.bit_depth else None)
        return cls(given, config.page, config.largest_image)

    def with_options(self, config: DataConfig, before: DataConfig) -> ImageReader:
        """This reader of a run that was fitted with other options, with those of the new ones that differ."""
        ours, theirs = self.from_config(config), self.from_config(before)
        names = [name for name in ("range", "page", "largest_image") if getattr(ours, name) != getattr(theirs, name)]
        return dataclasses.replace(self, **{name: getattr(ours, name) for name in names})

    def read(self, path: str | Path, *, grey: bool = False, known: bool = False) -> Image.Image:
        """An image file as upright 8-bit RGB; with ``grey``, a single-channel image keeps mode ``L``, which is resized in a
        third of the time. What a run was not fitted on is warned of, unless the file is ``known``. DataError names a file that
        cannot be read."""
        with self._opened(path) as image:
            picture, facts = self._decoded(image, known)
        if facts:
            self._note(path, facts)
        return picture if grey and picture.mode == "L" else picture.convert("RGB")

    def convert(self, image: Image.Image) -> Image.Image:
        """An image in memory as :meth:`read` gives it from a file; DataError if that cannot be."""
        picture, facts = self._decoded(image, False)
        if facts:  # arrays of grey images are often of three channels, and the other way round: nothing is said of that
            self._note(getattr(image, "filename", "") or "an image in memory", facts._replace(mode=""))
        return picture.convert("RGB")

    def mask(self, path: Any) -> Image.Image:
        """What ``Sample.mask_path`` names, as one 0/255 picture (mode ``L``) of the size that :meth:`read` gives."""
        with self._limit():
            return read_mask(path)

    def size(self, path: str | Path) -> tuple[int, int]:
        """(height, width) of what :meth:`read` gives, from the file's header alone."""
        with self._opened(path) as image:
            turned = image.format != "TIFF" and _orientation(image)[0] >= 5  # Pillow turns TIFF's itself
            return (image.width, image.height) if turned else (image.height, image.width)

    def examine(self, path: str | Path) -> Facts:
        """What a file is like, after decoding all of it. DataError as in :meth:`read`."""
        with self._opened(path) as image:
            facts = _header(image)
            if is_deep(image):
                kept = self._stored(image)
                return _completed(facts, image, kept, *_orientation(image), kept.values.shape[:2])
            if image.mode in ("L", "RGB") and _orientation(image) == (1, ""):
                image.draft(image.mode, (1, 1))  # reads all bytes of a JPEG but decodes few pixels
                image.load()
                return facts
            image.convert("RGB")
            return _completed(facts, image, None, *_orientation(image), (image.height, image.width))

    def unusual(self, facts: Facts) -> Iterator[tuple[str, str, str]]:
        """(what, detail, advice) of everything about an image that its reader should be told."""
        if facts.span and self.range and not self.range[0] <= facts.span[0] <= facts.span[1] <= self.range[1]:
            yield (
                f"values outside the range of {self.range[0]:g} to {self.range[1]:g} that is read as black to white",
                f"{facts.span[0]:g} to {facts.span[1]:g}",
                "They are clipped, so what differs beyond that range is not seen. Take such images with the exposure of the "
                "training images, or fit with a wider data.range.",
            )
        if self.sizes and facts.size not in self.sizes:
            yield (
                f"another size than the {_listed(f'{width}x{height}' for height, width in self.sizes)} of the training images",
                f"{facts.size[1]}x{facts.size[0]}",
                "They are resized alike, but another camera, distance or crop looks like a defect. Fit on such images.",
            )
        if facts.mode and self.modes and facts.mode not in self.modes:
            yield (
                f"other pixels than those of the training images, {_listed(self.modes)}",
                facts.mode,
                "A difference in colour or depth may look like a defect. Save all images alike.",
            )
        if facts.pages > 1:
            yield "several pages", f"{facts.pages} pages", f"Only page {self.page} is read; data.page chooses another."
        if facts.transparent:
            yield "transparent pixels", facts.format, "Transparency is dropped: the colours stored beneath it are what counts."
        if facts.fault:
            yield "unreadable metadata", facts.fault, "Their pixels are used as they are stored, and not turned."

    def counted(self) -> list[str]:
        """How many images :meth:`read` met, since this was last asked, of each kind of which it warned for the first only."""
        with _COUNTING:
            counts: Counter[str] = self._unusual  # type: ignore[attr-defined]
            texts = [f"{count} images have {what}." for what, count in counts.items() if count > 1]
            counts.clear()
        return texts

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
    def _opened(self, path: str | Path) -> Iterator[Image.Image]:
        with self._limit(), opened(path, "image", self.page) as image:
            yield image

    def _decoded(self, image: Image.Image, known: bool) -> tuple[Image.Image, Facts | None]:
        """The upright 8-bit image, in any mode of Pillow's, and unless it is known what it is like."""
        facts = None if known else _header(image)
        kept = self._stored(image) if is_deep(image) else None
        if kept is None:
            image.load()
        picture = image if kept is None else eight_bits(kept, self.range)
        turn, fault = _orientation(image)
        if facts:
            facts = _completed(facts, image, kept, turn, fault, (picture.height, picture.width))
        return picture.transpose(_UPRIGHT[turn]) if turn > 1 else picture, facts

    def _stored(self, image: Image.Image) -> Stored:
        if self.range is None and self.modes:
            raise Refused(
                "it has more than 8 bits a sample, and the training images have 8: nothing says which of its values are black "
                "and white. Save it with 8 bits, or fit with data.range=LOW,HIGH"
            )
        return stored(image)

    def _note(self, path: str | Path, facts: Facts) -> None:
        for what, detail, advice in self.unusual(facts):
            with _COUNTING:
                counts: Counter[str] = self._unusual  # type: ignore[attr-defined]
                counts[what] += 1
                first = counts[what] == 1
            if first:
                warnings.warn(f"{str(path)!r} has {what} ({detail}). {advice}", stacklevel=3)


def read_image(path: str | Path, *, grey: bool = False) -> Image.Image:
    """Decode an image file to upright 8-bit RGB, of 16 bits with their whole range. With ``grey``, a single-channel image keeps
    mode ``L``. DataError names a file that cannot be read."""
    return ImageReader().read(path, grey=grey, known=True)


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB, upright: EXIF orientation applied, the whole range of 16 bits scaled to 8 (Pillow alone would clip it)."""
    return ImageReader()._decoded(image, True)[0].convert("RGB")


def _header(image: Image.Image) -> Facts:
    """What the header says, before the image is decoded; the size is not upright yet."""
    grey = image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")
    depth = "float" if image.mode == "F" else "16-bit" if is_deep(image) else "8-bit"
    pages = int(getattr(image, "n_frames", 1))
    return Facts((image.height, image.width), f"{depth} {'grey' if grey else 'colour'}", image.format or "", pages)


def _completed(facts: Facts, image: Image.Image, kept: Stored | None, turn: int, fault: str, size: tuple[int, ...]) -> Facts:
    """The facts with what is known once the image of a (height, width) is decoded."""
    height, width = size
    facts = facts._replace(size=(width, height) if turn >= 5 else (height, width), fault=fault)
    if kept is not None:
        span = float(kept.values.min()), float(kept.values.max())
        return facts._replace(span=span, declared=kept.declared, exact=kept.exact)
    if image.mode in ("RGBA", "LA", "PA") or (image.mode == "P" and "transparency" in image.info):
        alpha = image.convert("RGBA").getchannel("A") if image.mode == "P" else image.getchannel("A")
        return facts._replace(transparent=bool(np.asarray(alpha).min() < 255))
    return facts


def _orientation(image: Image.Image) -> tuple[int, str]:
    """How an image is turned, 1 (upright) to 8, and why that cannot be told, or nothing."""
    try:
        turn = image.getexif().get(ORIENTATION, 1)
    except Exception as error:  # Pillow raises many kinds on damaged metadata, and the pixels may be sound
        return 1, f"{type(error).__name__}: {error}"
    return (turn if turn in _UPRIGHT else 1), ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
