"""The images of a run: to fit on, held out for the threshold, and to test on; all are checked before the run starts."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from anomaly_core.base.data import BaseDataModule
from anomaly_core.errors import DataError
from anomaly_core.imaging.findings import fitted_reader
from anomaly_core.imaging.screening import Screened, content_hash, screen, warnings_of, without_mask
from anomaly_core.run.defects import known_defects
from anomaly_core.run.exclusion import excluded, unused, without
from anomaly_core.threads import decoders
from anomaly_core.types import NORMAL, Sample


@dataclass
class Splits:
    """The usable images of a run; ``facts`` is their entry in the manifest, ``abnormal`` are known defects to learn from."""

    fit: list[Sample]
    held_out: list[Sample]
    test: list[Sample]
    facts: dict[str, Any]
    abnormal: list[Sample] = field(default_factory=list)


def split(
    data: BaseDataModule,
    categories: list[str],
    fewest: int,
    meanwhile: Callable[[], None] | None = None,
    *,
    transductive: bool = False,
    learns_defects: bool = False,
) -> Splits:
    """The images of categories that are fitted together; each category needs ``fewest`` normal images, or, for a
    ``transductive`` method, so many test images. With ``learns_defects``, known ones too. ``meanwhile`` is called while they
    are decoded.

    Raises:
        DataError: there is no image to test on, too few to fit on, or one that cannot be used (``data.on_bad_image=error``).
    """
    pairs, parts, left_out = _drawn(data, categories, fewest, transductive, learns_defects)
    data.reader = data.reader.afresh(data.config)  # it may know the images of another category
    cache = data.cache if data.tiling is None else None  # tiles are cut when they are asked for
    again = {sample.path for sample in parts["test"]} if transductive else set()  # collected and tested: screened once
    once = [*(sample for name in parts if name != "test" for sample in parts[name] if sample.path not in again), *parts["test"]]
    screened = screen(once, data.config.on_bad_image, data.reader, cache, meanwhile)
    bad = {item.path for item in screened.skipped}
    kept = {name: [sample for sample in samples if sample.path not in bad] for name, samples in parts.items()}
    for name in ("fit", "test"):
        if parts[name] and not kept[name]:
            images = f"none of the {len(parts[name])} {name} images of {' and '.join(categories)}"
            raise DataError(f"{images} can be used: {screened.skipped[0].reason}")
    for category, (fit, _) in zip(categories, pairs, strict=True):
        count = sum(sample.path not in bad for sample in fit)
        if count < fewest:
            kind = "images to compare with one another" if transductive else "normal training images that can be used"
            reason = screened.skipped[0].reason if bad else "Add images."
            if not bad and left_out:
                reason = f"data.exclude leaves out {left_out['excluded']}. Shorten its list."
            shortage = f"{count} {kind}, and the method needs {fewest}"
            raise DataError(f"category {category!r} of {data.config.name!r} has {shortage}: {reason}")
    if transductive:
        normal = len(kept["held_out"])
        threshold = "no image is known to be normal: the run has no threshold, and its images get scores but no verdict"
        warnings.warn(
            f"the {len(kept['fit'])} images to test are compared with one another, without labels: each score depends on the "
            f"others. {f'{normal} normal images set the threshold, and nothing else' if normal else threshold}.",
            stacklevel=2,
        )
    elif data.config.holdout != 0 and not kept["held_out"]:
        warnings.warn(
            "there are too few normal images to hold any out: the run has no threshold, and its images get scores but no "
            f"verdict. Add normal images: with {max(fewest, 1) + 1} to train on, one of them is held out.",
            stacklevel=2,
        )
    training = {sample.path: screened.facts[sample.path] for sample in (*kept["fit"], *kept["held_out"])}
    data.reader, texts = fitted_reader(data.reader, training, screened.facts)
    taught = [sample for sample in (*kept["fit"], *kept.get("abnormal", [])) if sample.path not in again]
    for text in [*texts, *warnings_of(screened, taught, kept["held_out"], kept["test"], data.reader)]:
        warnings.warn(text, stacklevel=2)
    if "abnormal" in kept:
        left_out |= {"abnormal_train": [str(sample.path) for sample in kept["abnormal"]]}
    left_out |= {"skipped": skipped(screened), "without_mask": without_mask(kept["test"])}
    left_out |= {"transductive": True} if transductive else {}
    return Splits(**kept, facts={"data": identity(kept), **left_out})


def unscreened(
    data: BaseDataModule, categories: list[str], fewest: int, *, transductive: bool = False, learns_defects: bool = False
) -> Splits:
    """As :func:`split` where no image has to be skipped, in the time of reading the files: nothing is decoded."""
    _, parts, _ = _drawn(data, categories, fewest, transductive, learns_defects)
    return Splits(**parts, facts={"data": identity(parts)})


def _drawn(
    data: BaseDataModule, categories: list[str], fewest: int, transductive: bool, learns_defects: bool
) -> tuple[list[Any], dict[str, list[Sample]], dict[str, Any]]:
    """(fit, held out) of each category; all parts; and how many images ``data.exclude`` leaves out of them."""
    files = excluded(data)
    drawn = [data.split(category, 0 if transductive else fewest) for category in categories]
    pairs = [[without(part, files) for part in pair] for pair in drawn]  # the others are divided as without the list
    fit, held_out = (list(chain(*(pair[part] for pair in pairs))) for part in (0, 1))
    defects = [known_defects(data, category) for category in categories]
    known = list(chain(*(each.known for each in defects)))
    parts = {"fit": fit, "held_out": held_out, "test": images_to_test(data, categories)}
    if known and learns_defects:
        parts["abnormal"] = without(known, files)
    elif known:
        warnings.warn(
            f"{len(known)} training images of {' and '.join(categories)} are labelled anomalous, such as "
            f"{str(known[0].path)!r}: they are left out, for the detector is fitted on normal images.",
            stacklevel=2,
        )
    facts = {"aside": aside} if (aside := sum(each.aside for each in defects)) else {}
    every = [*chain(*chain(*drawn)), *_to_test(data, categories), *(known if learns_defects else ())] if files else []
    if files:
        facts["excluded"] = len(every) - sum(map(len, parts.values()))
    if transductive:  # no label reaches the method
        tested = {sample.path for sample in parts["test"]}
        unlabelled = [sample for sample in [*fit, *held_out] if sample.label is None and sample.path not in tested]
        unknown = [replace(sample, label=None, mask_path=None, defect="") for sample in [*parts["test"], *unlabelled]]
        parts |= {"fit": unknown, "held_out": [sample for sample in held_out or fit if sample.label == NORMAL]}
        pairs = [[[sample for sample in unknown if sample.category == category], []] for category in categories]
    if others := unused(every, files):
        warnings.warn(
            f"{len(others)} of the {len(files)} files that data.exclude lists, such as {others[0]!r}, are no images of "
            f"{' and '.join(categories)}: nothing is left out for them.",
            stacklevel=2,
        )
    return pairs, parts, facts


def identity(parts: Mapping[str, Sequence[Sample]]) -> dict[str, int | str]:
    """How many images each part has, and a digest of all."""
    # A digest of names and contents shows whether two runs saw the same images; times would differ in a copy of the files.
    digest = hashlib.sha256()
    used = list(chain(*parts.values()))
    with ThreadPoolExecutor(decoders()) as pool:
        for image, content in zip(used, pool.map(content_hash, used), strict=True):
            digest.update(f"{image.category}/{image.path.name}\n".encode("utf-8", "surrogateescape") + content)
    return {**{name: len(samples) for name, samples in parts.items()}, "digest": digest.hexdigest()}


def images_to_test(data: BaseDataModule, categories: list[str]) -> list[Sample]:
    """The test images of some categories; DataError if there is none."""
    samples = without(_to_test(data, categories), excluded(data, strict=False))
    if not samples:
        named = f"{' and '.join(categories)} of {data.config.name!r}"
        check = "data.root and data.category" + (", and the list in data.exclude" if data.config.exclude else "")
        raise DataError(f"{named} has no test image under {str(data.root)!r}. Check {check}.")
    return samples


def _to_test(data: BaseDataModule, categories: list[str]) -> list[Sample]:
    return [sample for category in categories for sample in known_defects(data, category).test]


def skipped(screened: Screened) -> list[dict[str, str]]:
    """The images that were left out, for the manifest."""
    return [{"path": str(item.path), "reason": item.reason} for item in screened.skipped]
