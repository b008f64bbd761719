"""Checks of a data set: unreadable files, masks of the wrong size, and the same image in two of its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from anomaly_core.errors import DataError
from anomaly_core.imaging.cache import ImageCache, view
from anomaly_core.imaging.facts import FileFacts
from anomaly_core.imaging.findings import telling, unusual
from anomaly_core.imaging.reading import ImageReader
from anomaly_core.threads import decoders
from anomaly_core.types import ANOMALOUS, Sample
from anomaly_core.untrusted import LARGEST_IMAGE, read_untrusted


class Skipped(NamedTuple):
    """An image that was left out, and the fault of the image or its mask."""

    path: Path
    reason: str


class Screened(NamedTuple):
    """Samples with a readable image and mask; the others; of those kept, anomalous ones whose mask marks no pixel, and ones
    whose mask is noisy; and what the image files of those kept are like."""

    kept: list[Sample]
    skipped: list[Skipped]
    empty_masks: list[Sample]
    noisy_masks: list[Sample]
    facts: dict[Path, FileFacts]


def screen(
    samples: Sequence[Sample],
    policy: Literal["error", "skip"],
    reader: ImageReader | None = None,
    cache: ImageCache | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Screened:
    """Decode every image and mask once, in threads, before they are used. ``policy`` is ``data.on_bad_image``: with
    ``error``, a DataError names the first unusable file and how many there are. A cache keeps what it has room for.
    ``meanwhile`` is called while the threads decode."""
    screened = Screened([], [], [], [], {})
    examine = partial(_examined, reader or ImageReader(), cache)
    with ThreadPoolExecutor(decoders()) as pool:
        examined = pool.map(examine, samples)
        if meanwhile:
            meanwhile()
        for sample, (facts, empty, noisy) in zip(samples, examined, strict=True):
            if isinstance(facts, str):
                screened.skipped.append(Skipped(sample.path, facts))
            else:
                screened.kept.append(sample)
                screened.facts[sample.path] = facts
            if empty:
                screened.empty_masks.append(sample)
            if noisy:
                screened.noisy_masks.append(sample)
    if screened.skipped and policy == "error":
        count = len(screened.skipped)
        more = f" It is the first of {count} of {len(samples)} images that cannot be used." if count > 1 else ""
        skip = " Or leave such images out with data.on_bad_image=skip." if screened.kept else ""
        raise DataError(f"{screened.skipped[0].reason}{more}{skip}")
    return screened


def without_mask(samples: Sequence[Sample]) -> list[str]:
    """The paths of anomalous images that have no mask, where others have one: pixel metrics leave them out."""
    some = any(sample.mask_path is not None for sample in samples)
    return [str(sample.path) for sample in samples if some and sample.label == ANOMALOUS and sample.mask_path is None]


def _examined(reader: ImageReader, cache: ImageCache | None, sample: Sample) -> tuple[FileFacts | str, bool, bool]:
    """What a sample's file is like, or why it cannot be used; whether it is anomalous but its mask marks no pixel; and
    whether its mask is noisy."""
    mask = None
    try:
        facts, image = reader.examined(sample.path, decode=cache is not None and cache.has_room())
        if reader.roi:
            reader.roi.cropped_size(*facts.size, repr(str(sample.path)))
        if sample.mask_path is not None:
            whole = reader.whole.mask(sample.mask_path)
            require_one_size(sample, facts.size, (whole.height, whole.width))
            mask = reader.in_region(whole, sample.mask_path, 0)
    except DataError as error:
        return str(error), False, False
    if cache and image:
        cache.keep(cache.key(sample), view(cache.spec, image, mask, reader.keep(image.height, image.width)))
    if mask is None:
        return facts, False, False
    empty = sample.label == ANOMALOUS and mask.getbbox() is None
    return facts, empty, bool(whole.info.get("thresholded"))


def require_one_size(sample: Sample, image: tuple[int, int], mask: tuple[int, int]) -> None:
    """Raise DataError if the (height, width) of an image and its mask differ."""
    if mask != image:
        names = " and ".join(repr(str(path)) for path in sample.mask_files)
        raise DataError(
            f"mask {names} is {mask[1]}x{mask[0]}, its image {str(sample.path)!r} {image[1]}x{image[0]}. "
            "A mask must have its image's size; export it again."
        )


def duplicates(first: Sequence[Sample], second: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Pairs (sample of ``first``, sample of ``second``) of files with the same bytes. Only files of equal size are read."""
    common = {_size(sample) for sample in first} & {_size(sample) for sample in second}
    twins = {content_hash(sample): sample for sample in reversed(first) if _size(sample) in common}
    pairs = [(twins.get(content_hash(sample)), sample) for sample in second if _size(sample) in common]
    return [(twin, sample) for twin, sample in pairs if twin is not None]


def _size(sample: Sample) -> int:
    return sample.path.stat().st_size


def content_hash(sample: Sample) -> bytes:
    """The BLAKE2b digest of an image file's bytes."""
    return hashlib.blake2b(read_untrusted(sample.path, LARGEST_IMAGE)).digest()


def warnings_of(
    screened: Screened,
    fit: Sequence[Sample],
    held_out: Sequence[Sample],
    test: Sequence[Sample],
    reader: ImageReader | None = None,
) -> list[str]:
    """Warnings about skipped, suspicious and duplicate samples, and about files that the reader takes to be other than they
    are."""
    texts = [*unusual(reader or ImageReader(), screened.facts), *telling([*fit, *held_out], test, screened.facts)]
    if screened.skipped:
        texts.append(
            f"left out, as they cannot be used (data.on_bad_image=skip): {len(screened.skipped)} images, listed in "
            f"manifest.json. The first: {screened.skipped[0].reason}"
        )
    if screened.empty_masks:
        texts.append(
            f"{len(screened.empty_masks)} images are labelled anomalous and their masks mark no pixel that counts, such as "
            f"{str(screened.empty_masks[0].path)!r}: to pixel metrics all their pixels are normal. Correct or remove the masks"
            f"{', or change data.roi and data.ignore' if reader and reader.roi else ''}."
        )
    if screened.noisy_masks:
        texts.append(
            f"{len(screened.noisy_masks)} masks, such as {str(screened.noisy_masks[0].mask_files[0])!r}, are noisy: JPEG, "
            "anti-aliased or blurred. In each, pixels of at least half of its largest value count as defective. "
            "Save masks as PNG, in black and white, to have every pixel as you drew it."
        )
    if unmarked := without_mask(test):
        named = ", ".join(map(repr, unmarked[:10]))
        count = sum(sample.label == ANOMALOUS for sample in test)
        texts.append(
            f"{len(unmarked)} of the {count} anomalous test images have no mask, and "
            f"pixel metrics leave them out: {named}{', ...' if len(unmarked) > 10 else ''}. manifest.json lists them."
        )
    for pairs, parts, harm in (
        (duplicates([*fit, *held_out], test), "training and test", "metrics say less than they seem to"),
        (duplicates(fit, held_out), "fitted and held-out", "the threshold comes out too low"),
    ):
        if pairs:
            wrong = sum(twin.label == ANOMALOUS for _, twin in pairs)
            also = f", {wrong} of them labelled anomalous" if wrong else ""
            texts.append(
                f"{len(pairs)} images are among the {parts} images alike{also}, such as {str(pairs[0][0].path)!r} and "
                f"{str(pairs[0][1].path)!r}: {harm}. Remove them from one of the two."
            )
    return texts
