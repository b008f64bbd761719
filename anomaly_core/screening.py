"""What a data set may hide: files that cannot be read, masks that do not fit, the same image in two parts of it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from anomaly_core.cores import decoders
from anomaly_core.errors import DataError
from anomaly_core.inputs import checked_size, read_mask
from anomaly_core.types import ANOMALOUS, Sample

Policy = Literal["error", "skip"]
CHUNK = 1 << 20


@dataclass(frozen=True)
class Skipped:
    """An image that was left out.

    Attributes:
        path: the image file.
        reason: what is wrong with it or with its mask, and the file's name.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Screened:
    """Samples that can be used, and what was found on the way.

    Attributes:
        kept: those whose image and mask can be read.
        skipped: the others.
        empty_masks: kept samples that are labelled anomalous, and whose mask marks no pixel.
    """

    kept: list[Sample]
    skipped: list[Skipped]
    empty_masks: list[Sample]


def screen(samples: Sequence[Sample], policy: Policy) -> Screened:
    """Decode every image and mask once, in threads, before anything rests on them.

    Args:
        samples: what there is.
        policy: ``data.on_bad_image``: ``error``, or ``skip`` what cannot be used.

    Raises:
        DataError: a file that cannot be used, with ``error``; the first is named, and how many there are.
    """
    with ThreadPoolExecutor(decoders()) as pool:
        found = list(pool.map(_look, samples))
    bad = [Skipped(sample.path, str(what)) for sample, what in zip(samples, found, strict=True) if isinstance(what, DataError)]
    if bad and policy == "error":
        more = f" It is the first of {len(bad)} of {len(samples)} images that cannot be used." if len(bad) > 1 else ""
        raise DataError(f"{bad[0].reason}{more} Or leave such images out with data.on_bad_image=skip.")
    kept = [sample for sample, what in zip(samples, found, strict=True) if not isinstance(what, DataError)]
    return Screened(kept, bad, [sample for sample, what in zip(samples, found, strict=True) if what is False])


def duplicates(first: Sequence[Sample], second: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """The samples of ``second`` whose file has the same bytes as one of ``first``, with that one.

    Only files of equal size are read.
    """
    sizes: dict[int, list[Sample]] = defaultdict(list)
    for sample in first:
        sizes[sample.path.stat().st_size].append(sample)
    hashed: dict[int, dict[bytes, Sample]] = {}
    pairs = []
    for sample in second:
        size = sample.path.stat().st_size
        if size not in sizes:
            continue
        if size not in hashed:
            hashed[size] = {_hash(other.path): other for other in reversed(sizes[size])}
        twin = hashed[size].get(_hash(sample.path))
        if twin is not None:
            pairs.append((twin, sample))
    return pairs


def warnings_of(screened: Screened, fit: Sequence[Sample], held_out: Sequence[Sample], test: Sequence[Sample]) -> list[str]:
    """What the user should know of samples that can be used all the same."""
    told = []
    if screened.skipped:
        told.append(
            f"{len(screened.skipped)} images cannot be used and were left out (data.on_bad_image=skip); manifest.json lists "
            f"them. The first: {screened.skipped[0].reason}"
        )
    if screened.empty_masks:
        told.append(
            f"{len(screened.empty_masks)} images are labelled anomalous and their masks mark no pixel, such as "
            f"{str(screened.empty_masks[0].path)!r}: to pixel metrics all their pixels are normal. Correct or remove the masks."
        )
    for pairs, parts, harm in (
        (duplicates([*fit, *held_out], test), "training and test", "metrics say less than they seem to"),
        (duplicates(fit, held_out), "fitted and held-out", "the threshold comes out too low"),
    ):
        if pairs:
            ours, theirs = pairs[0]
            wrong = sum(twin.label == ANOMALOUS for _, twin in pairs)
            also = f", {wrong} of them labelled anomalous" if wrong else ""
            told.append(
                f"{len(pairs)} images are among the {parts} images alike{also}, such as {str(ours.path)!r} and "
                f"{str(theirs.path)!r}: {harm}. Remove them from one of the two."
            )
    return told


def require_one_size(sample: Sample, image: tuple[int, int], mask: tuple[int, int]) -> None:
    """DataError where the (height, width) of an image and its mask differ."""
    if mask != image:
        raise DataError(
            f"mask {str(sample.mask_path)!r} is {mask[1]}x{mask[0]}, its image {str(sample.path)!r} {image[1]}x{image[0]}. "
            "A mask must have its image's size; export it again."
        )


def _look(sample: Sample) -> bool | DataError | None:
    """What is wrong with a sample; else whether its mask marks anything, None without a mask that should."""
    try:
        size = checked_size(sample.path)
        if sample.mask_path is None:
            return None
        mask = read_mask(sample.mask_path)
        require_one_size(sample, size, (mask.height, mask.width))
    except DataError as error:
        return error
    return mask.getbbox() is not None if sample.label == ANOMALOUS else None


def _hash(path: Path) -> bytes:
    digest = hashlib.blake2b()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.digest()
