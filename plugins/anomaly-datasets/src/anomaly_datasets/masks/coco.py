"""COCO's JSON: one file for many images, with polygons, run lengths (RLE) or boxes.

Source: https://cocodataset.org/#format-data; coordinates are in pixels, run lengths go down the columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import DataError, fault, parse_json, read_untrusted
from anomaly_datasets.masks.canvas import Drawing
from anomaly_datasets.masks.sources import Annotation


@dataclass(frozen=True)
class CocoMask(Annotation):
    """One image's annotations, whatever their categories.

    Args:
        size: (width, height) as the file says.
        annotations: the file's own objects.
    """

    size: tuple[Any, Any] = field(hash=False)
    annotations: tuple[Any, ...] = field(hash=False, repr=False)

    def draw(self, canvas: Drawing) -> None:
        canvas.require_size(*self.size)
        for annotation in self.annotations:
            try:
                _draw(canvas, annotation)
            except ValueError as error:
                raise ValueError(f"annotation {str(annotation.get('id'))[:40]}: {error}") from None


class Coco:
    """A COCO file's images and annotations, by the names of the images.

    Raises:
        DataError: it cannot be read, or is no such file.
    """

    def __init__(self, path: Path, values: dict[str, Any] | None = None) -> None:
        self.path = path
        try:
            values = parse_json(read_untrusted(path)) if values is None else values
            self._records = {_key(item["id"]): item for item in _objects(values, "images", "id", "file_name")}
            annotations = _objects(values, "annotations", "image_id")
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read the COCO annotations {str(path)!r}: {fault(error)}. Export them again.") from error
        self._annotations: dict[str, list[Any]] = defaultdict(list)
        for item in annotations:
            self._annotations[_key(item["image_id"])].append(item)
        self.unknown = sum(len(items) for key, items in self._annotations.items() if key not in self._records)

    def masks(self, images: Iterable[Path]) -> tuple[dict[Path, CocoMask], list[str]]:
        """Image -> mask for images that are annotated, and the names of annotated images that are not there.

        Raises:
            DataError: two annotated images of the file fit one of these, or one fits two.
        """
        by_name: dict[str, list[str]] = defaultdict(list)
        for key, record in self._records.items():
            if key in self._annotations:
                by_name[_parts(record["file_name"])[-1].casefold()].append(key)
        claims: dict[str, dict[Path, int]] = defaultdict(dict)  # record -> image -> how many parts of their paths agree
        for image in images:
            shared = {
                key: _shared(_parts(self._records[key]["file_name"]), image.parts)
                for key in by_name.get(image.name.casefold(), [])
            }
            best = [key for key in shared if shared[key] == max(shared.values())]
            if len(best) > 1:
                raise self._doubt(f"image {str(image)!r}", [self._records[key]["file_name"] for key in best])
            for key in best:
                claims[key][image] = shared[key]
        masks = {}
        for key, claimants in claims.items():
            record = self._records[key]
            chosen = [image for image in claimants if claimants[image] == max(claimants.values())]
            if len(chosen) > 1:
                raise self._doubt(f"entry {record['file_name']!r}", [str(image) for image in chosen])
            size = record.get("width"), record.get("height")
            masks[chosen[0]] = CocoMask(self.path, chosen[0], size, tuple(self._annotations[key]))
        return masks, [self._records[key]["file_name"] for keys in by_name.values() for key in keys if key not in claims]

    def _doubt(self, one: str, others: list[str]) -> DataError:
        return DataError(
            f"in the COCO annotations {str(self.path)!r}, the {one} fits {' and '.join(map(repr, others[:3]))} alike. "
            "Give images names of their own, or write their folders into file_name."
        )


def _key(value: Any) -> str:
    return str(value)  # some programs write an image's number as text in one place


def _objects(values: dict[str, Any], name: str, *needed: str) -> list[dict[str, Any]]:
    items = values.get(name)
    if not isinstance(items, list):
        raise ValueError(f"it has no list {name!r}, as a COCO file has")
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict) or any(not isinstance(item.get(key), int | str) for key in needed):
            raise ValueError(f"entry {number} of {name!r} lacks {' or '.join(needed)}")
        if "file_name" in needed and (not isinstance(item["file_name"], str) or not _parts(item["file_name"])):
            raise ValueError(f"entry {number} of {name!r} has no file_name")
    return items


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in PureWindowsPath(name).parts if part not in ("/", "\\", ".", ".."))


def _shared(name: tuple[str, ...], path: tuple[str, ...]) -> int:
    """How many parts agree from the end."""
    count = 0
    for one, other in zip(reversed(name), reversed(path), strict=False):
        if one.casefold() != other.casefold():
            break
        count += 1
    return count


def _draw(canvas: Drawing, annotation: dict[str, Any]) -> None:
    shape = annotation.get("segmentation")
    if isinstance(shape, dict):
        canvas.pixels(decoded(shape, canvas))
    elif shape:
        if not isinstance(shape, list):
            raise ValueError("its segmentation is neither polygons nor run lengths")
        for polygon in shape if isinstance(shape[0], list) else [shape]:
            if len(polygon) % 2:
                raise ValueError(f"a polygon of {len(polygon)} numbers lacks a coordinate")
            canvas.polygon(list(zip(polygon[::2], polygon[1::2], strict=True)))
    else:
        box = annotation.get("bbox")
        if not isinstance(box, list) or len(box) != 4:
            raise ValueError("it has neither a segmentation nor a box of x, y, width and height")
        (x, y), (width, height) = canvas.points([box[:2]], 1)[0], canvas.points([box[2:]], 1)[0]
        canvas.box(x, y, x + width, y + height)


def decoded(rle: dict[str, Any], canvas: Drawing) -> NDArray[np.bool_]:
    """Run lengths, compressed (text) or not (numbers): bool (H, W); ValueError if they do not fill the image."""
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list) or len(size) != 2:
        raise ValueError("its run lengths have no size")
    canvas.require_size(size[1], size[0])
    runs = _runs(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError("its run lengths are no numbers from 0 on")
    if sum(runs) != canvas.width * canvas.height:
        raise ValueError(f"its run lengths cover {sum(runs)} of {canvas.width * canvas.height} pixels")
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return pixels.reshape(canvas.width, canvas.height).T


def _runs(text: str) -> list[int]:
    """Five bits a character, from ``0`` on, the lowest first; bit 6 says that more follow, bit 5 of the last that the number is
    negative. From the fourth number on, each is the difference from the one two before."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("its run lengths are no text of the COCO kind")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its run lengths end in the middle of a number")
    return runs
