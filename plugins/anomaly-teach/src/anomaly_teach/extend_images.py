"""The images that ``anomaly extend`` is given: readable, each once, and what the run knows of them already."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anomaly_core import (
    ANOMALOUS,
    NORMAL,
    NORMALS,
    AnomalyError,
    BaseDataModule,
    DataError,
    RunFolder,
    Sample,
    excluded,
    open_untrusted,
    printable,
    screen,
    warnings_of,
    without,
)

MOST_NAMED = 10  # images that a message names


@dataclass(frozen=True)
class NewImage:
    """An image that a run is to learn.

    Attributes:
        digest: SHA-256 of its file.
        part: where the run has the same image: ``held_out`` (it set the threshold), ``test``, or nothing.
        double: that image of the run; None if there is none.
    """

    sample: Sample
    digest: str
    part: str = ""
    double: Sample | None = None

    @property
    def path(self) -> str:
        """As the manifest names it."""
        return str(self.sample.path.absolute())


class Known:
    """The images of a finished run, by their content; of its data set only files of equal size are read."""

    def __init__(self, run: RunFolder, data: BaseDataModule, fewest: int) -> None:
        self.added = {entry["sha256"] for entry in run.manifest().get("added", [])}  # by former extensions
        self._by_size: dict[int, list[tuple[str, Sample]]] = {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the run's log has them
                for part, samples in self._parts(run, data, fewest):
                    for sample in samples:
                        self._by_size.setdefault(sample.path.stat().st_size, []).append((part, sample))
        except (AnomalyError, OSError) as error:
            warnings.warn(
                f"the run's own images are not there, so that none of the new ones can be compared with them: {error}",
                stacklevel=3,
            )

    @staticmethod
    def _parts(run: RunFolder, data: BaseDataModule, fewest: int) -> Iterable[tuple[str, Sequence[Sample]]]:
        dropped = {row.path for row in run.normals() if row.dropped} if (run.folder / NORMALS).is_file() else set()
        if run.manifest().get("data", {}).get("held_out") == 0:  # by cross-fitting: all normal images were learnt
            data.config = replace(data.config, holdout=0.0)
        files = excluded(data, strict=False)
        for category in data.chosen_categories():
            fit, held_out = data.split(category, fewest)
            for part, samples in (("fit", fit), ("held_out", held_out), ("test", data.test_samples(category))):
                yield part, [sample for sample in without(samples, files) if str(sample.path) not in dropped]

    def find(self, path: Path, digest: str) -> tuple[str, Sample | None]:
        """(part, image) of the run with the same bytes; an empty part if it has none."""
        if digest in self.added:
            return "fit", None
        for part, sample in self._by_size.get(path.stat().st_size, []):
            if sha256(sample.path) == digest:
                return part, sample
        return "", None


def new_images(paths: Iterable[Path], category: str, data: BaseDataModule, known: Known) -> list[NewImage]:
    """The images to learn, in order: each once, and none that the run has learnt before. What is left out is told.

    Raises:
        DataError: an image cannot be read, or there is none left.
    """
    samples = [Sample(path, NORMAL, None, category, "good") for path in paths]
    screened = screen(samples, "skip", data.reader)
    if screened.skipped and data.config.on_bad_image == "error":
        count = len(screened.skipped)
        more = f" It is the first of {count} of {len(samples)} images that cannot be used." if count > 1 else ""
        raise DataError(f"{screened.skipped[0].reason}{more}")
    found: dict[str, NewImage] = {}
    doubles, learnt = list[str](), list[str]()
    for sample in screened.kept:
        digest = sha256(sample.path)
        part, double = known.find(sample.path, digest)
        if part == "fit":
            learnt.append(str(sample.path))
        elif digest in found:
            doubles.append(str(sample.path))
        else:
            found[digest] = NewImage(sample, digest, part, double)
    for text in warnings_of(screened, [image.sample for image in found.values()], [], [], data.reader):
        warnings.warn(text, stacklevel=2)
    if doubles:
        warnings.warn(f"{_are(doubles)} given twice, and learnt once: {named(doubles)}.", stacklevel=2)
    if learnt and found:
        warnings.warn(f"{_are(learnt)} left out, as the run has learnt the same before: {named(learnt)}.", stacklevel=2)
    if not found:
        reason = screened.skipped[0].reason if screened.skipped else f"the run has learnt all {len(learnt)} before."
        raise DataError(f"there is no new image among those given: {reason} Give others.")
    return list(found.values())


def require_not_defective(images: Sequence[NewImage]) -> None:
    """DataError if the run's test set labels one of the images anomalous."""
    bad = [image for image in images if image.double is not None and image.double.label == ANOMALOUS]
    if bad:
        said = named([str(image.sample.path) for image in bad], [image.double.defect for image in bad if image.double])
        raise DataError(
            f"{_are([image.path for image in bad])} labelled anomalous in the run's own test set: {said}. What is learnt is "
            "never found again. Leave out what is defective; if the labels are wrong, correct them and give --yes."
        )


def named(paths: Sequence[str], notes: Sequence[str] = ()) -> str:
    """At most ten paths, each with its note, if there are any."""
    words = [printable(repr(path)) + (f" ({notes[i]})" if notes else "") for i, path in enumerate(paths[:MOST_NAMED])]
    return ", ".join(words) + (f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else "")


def _are(items: Sequence[Any]) -> str:
    return f"{len(items)} images are" if len(items) > 1 else "1 image is"


def sha256(path: Path) -> str:
    """The digest of a file."""
    with open_untrusted(path) as file:
        return hashlib.sha256(file.read()).hexdigest()
