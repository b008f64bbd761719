"""The image files that are read: their suffixes, and how one is opened."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile

from anomaly_core.errors import DataError
from anomaly_core.untrusted import LARGEST_IMAGE, open_untrusted

MOST_PIXELS = 200_000_000  # of one image, as data.largest_image is by default
allowed_pixels: ContextVar[int] = ContextVar("allowed_pixels", default=MOST_PIXELS)

# Pillow's names of the formats that it decodes itself, without other programs, and the suffixes of such files.
FORMATS: dict[str, tuple[str, ...]] = {
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "MPO": (".mpo",),
    "PCX": (".pcx",),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "QOI": (".qoi",),
    "SGI": (".sgi",),
    "SUN": (".ras",),
    "TGA": (".tga",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
# Pictures that other programs read: where one lies among images, leaving it out is told.
OTHER_PICTURES = frozenset(
    ".arw .avifs .bpg .cr2 .cr3 .czi .dcm .dds .dng .emf .eps .exr .fit .fits .hdr .heic .heif .ico .jng .jpm .jxl "
    ".jxr .lif .mrxs .nd2 .ndpi .nef .npy .npz .orf .pic .psd .raf .raw .rgb .rw2 .svg .svs .vsi .wdp .wmf .xbm .xcf "
    ".xpm".split()
)


@contextmanager
def opened(path: str | Path | BytesIO, what: str, page: int = 1) -> Iterator[ImageFile.ImageFile]:
    """An image file, or the bytes of one, not decoded yet, at one of its pages; whatever fails while it is open is a DataError
    that names it by ``str(path)``."""
    try:
        source = nullcontext(path) if isinstance(path, BytesIO) else open_untrusted(path, LARGEST_IMAGE)
        with source as file, open_image(file) as image:
            if page > 1:
                pages = getattr(image, "n_frames", 1)
                if page > pages:
                    raise Refused(
                        f"it has {pages} page{'s' * (pages > 1)}, and data.page is {page}. Choose one that all files have"
                    )
                image.seek(page - 1)
            require_size(image)
            yield image
    except Exception as error:  # on damaged files, Pillow's decoders raise many kinds of exceptions
        reason = str(error).partition(" <_io.")[0].rstrip(".") or type(error).__name__
        todo = " Send another." if isinstance(path, BytesIO) else " Remove or replace the file, then run again."
        todo = "" if isinstance(error, Refused) else todo
        raise DataError(f"cannot read the {what} {str(path)!r}: {reason}.{todo}") from error


class Refused(DataError):
    """An image that is not read, with a next step of its own."""


def require_size(image: Image.Image) -> None:
    """Raise DataError if an image has more pixels than :data:`allowed_pixels`."""
    pixels, most = image.width * image.height, allowed_pixels.get()
    if pixels > most:
        raise Refused(
            f"it has {image.width} x {image.height} pixels, more than the {most} of data.largest_image. Where it is no "
            f"damaged file, fit with data.largest_image={pixels} or more."
        )


def open_image(file: IO[bytes]) -> ImageFile.ImageFile:
    """What ``Image.open`` does, for :data:`FORMATS` and those that an added plugin of Pillow's registers, and whatever the
    number of pixels: Pillow's own limit is a global that all threads of a program share."""
    file.seek(0)
    prefix, unknown = file.read(16), False
    for load_plugins in (Image.preinit, Image.init):  # the most frequent formats first; loading the others takes longer
        load_plugins()
        for name in tuple(Image.ID):
            factory, accepts = Image.OPEN[name]
            if name not in FORMATS and factory.__module__.startswith("PIL."):
                continue
            try:
                answer = not accepts or accepts(prefix)
                if answer and not isinstance(answer, str):  # a text says why it is not
                    file.seek(0)
                    return factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                unknown |= "unknown pixel mode" in str(error)  # a sound TIFF file whose samples Pillow does not unpack
    if unknown:
        raise Refused(
            "it is a TIFF file whose kind of pixels is not read, such as floats of 16 or 64 bits, or floats in colour. "
            "Save it with integers of 8 or 16 bits, or in grey with floats of 32 bits."
        )
    raise DataError(f"it is no image of a format that is read ({', '.join(FORMATS)})")
