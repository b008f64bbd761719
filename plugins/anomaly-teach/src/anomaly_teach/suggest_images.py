"""The images that ``anomaly suggest`` judges by: a share of the anomalous ones, or synthetic defects on normal ones."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anomaly_core import (
    ANOMALOUS,
    NORMAL,
    BaseDataModule,
    ConfigError,
    DataError,
    ImageReader,
    Sample,
    excluded,
    fitted_reader,
    screen,
    without,
)
from anomaly_teach.synthetic import KINDS, with_defect

FEWEST = 10  # normal images to fit on
FEWEST_ANOMALOUS = 5  # to choose by; with fewer, any setting may win
MOST = 120  # normal images that are fitted on: more cost time, and change no choice
BASES = 16  # normal images that synthetic defects are pasted on
SHARES = (1 / 200, 1 / 100, 1 / 50, 1 / 25)  # of the longer side, the sizes of synthetic defects


@dataclass
class Chosen:
    """The images, as a list for the data set ``folder``.

    Attributes:
        normal: to fit on.
        judged: (path, group): anomalous images, each in a group that the table has a column for.
        synthetic: whether they are synthetic.
        sizes: (height, width) of the normal images.
        notes: what was left out or assumed, for the user.
        excluded: the files that ``data.exclude`` leaves out.
    """

    normal: list[Sample]
    judged: list[tuple[Path, str]]
    synthetic: bool
    sizes: list[tuple[int, int]]
    notes: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the list; the fitted images train, the judged ones test."""
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("path", "label", "split", "category", "group"))
            for sample in self.normal:
                group = sample.extra.get("group", "")
                rows.writerow((sample.path.absolute(), "good", "train", sample.category, group))
            category = self.normal[0].category
            rows.writerows((image.absolute(), "bad", "test", category, "") for image, _ in self.judged)


def chosen_category(data: BaseDataModule) -> str:
    """The one category to look at; ConfigError where there are several."""
    categories = data.chosen_categories()
    if len(categories) > 1:
        raise ConfigError(
            f"the data set {data.config.name!r} has {len(categories)} categories, and settings are suggested for one: choose "
            f"it with --category, such as --category {categories[0]}."
        )
    return categories[0]


def choose(data: BaseDataModule, *, share: float, sizes: Sequence[int], synthetic: bool, folder: Path, seed: int) -> Chosen:
    """The images to fit on and to judge by, drawn by the seed; images of one ``group`` are never on both sides.

    Args:
        data: with one category chosen.
        share: of the anomalous test images that is judged by; the others stay unseen.
        sizes: of synthetic defects, in pixels; none: by the images' size.
        synthetic: judge by synthetic defects even where there are anomalous images.
        folder: where synthetic images are written.

    Raises:
        DataError: there are too few normal images.
    """
    category = chosen_category(data)
    files = excluded(data)
    normal = [sample for sample in without(data.train_samples(category), files) if sample.label in (NORMAL, None)]
    screened = screen(normal, data.config.on_bad_image, data.reader)
    normal = screened.kept
    data.reader, notes = fitted_reader(data.reader, screened.facts, screened.facts)
    if len(normal) < FEWEST:
        raise DataError(
            f"category {category!r} of {data.config.name!r} has {len(normal)} normal images to fit on, and a choice "
            f"between settings needs {FEWEST} or more. Add normal images, or check data.root and data.normal."
        )
    rng = np.random.default_rng(seed)
    anomalous = [sample for sample in without(data.test_samples(category), files) if sample.label == ANOMALOUS]
    drawn = [anomalous[i] for i in sorted(rng.permutation(len(anomalous))[: round(share * len(anomalous))].tolist())]
    drawn = screen(drawn, data.config.on_bad_image, data.reader).kept
    judged = [(sample.path, sample.defect) for sample in drawn]
    by_defects = synthetic or len(judged) < FEWEST_ANOMALOUS
    if by_defects:
        if anomalous and not synthetic:
            notes.append(
                f"{len(drawn)} anomalous image{' is' if len(drawn) == 1 else 's are'} too few to choose by (a share of "
                f"{share:g} of {len(anomalous)}; {FEWEST_ANOMALOUS} are needed): synthetic defects are used. Raise --share."
            )
        normal, bases = _apart(normal, min(BASES, len(normal) // 5), rng)
        judged = _pasted(bases, data.reader, sizes, folder, rng)
    if len(normal) > MOST:
        notes.append(f"{MOST} of the {len(normal)} normal images were fitted on, which is enough to compare settings.")
        normal = [normal[i] for i in sorted(rng.permutation(len(normal))[:MOST].tolist())]
    return Chosen(normal, judged, by_defects, [data.reader.size(sample.path) for sample in normal], notes, list(files))


def _apart(normal: Sequence[Sample], count: int, rng: np.random.Generator) -> tuple[list[Sample], list[Sample]]:
    """(the others, about ``count`` images to paste on), with all images of a group on one side."""
    bases = [normal[i] for i in rng.permutation(len(normal))[:count].tolist()]
    paths, groups = {sample.path for sample in bases}, {group for sample in bases if (group := sample.extra.get("group"))}
    others = [sample for sample in normal if sample.path not in paths and sample.extra.get("group") not in groups]
    if not others:
        raise DataError("all normal images belong to the part that synthetic defects are pasted on. Add images of other parts.")
    return others, bases


def _pasted(
    bases: Sequence[Sample], reader: ImageReader, sizes: Sequence[int], folder: Path, rng: np.random.Generator
) -> list[tuple[Path, str]]:
    """For each base, kind and size in turn, a PNG file of the whole image with one defect in the region of interest."""
    longer = max(max(reader.size(sample.path)) for sample in bases)
    chosen = sorted(set(sizes)) or sorted({max(2, round(longer * share)) for share in SHARES})
    cases = [(kind, size) for size in chosen for kind in KINDS]
    pasted = []
    for number in range(max(BASES * len(SHARES), len(cases))):
        kind, size = cases[number % len(cases)]
        base = bases[(number // len(cases) + number) % len(bases)].path
        image = np.asarray(reader.whole.read(base, known=True))
        try:
            changed, _ = with_defect(image, kind, size, rng, _places(reader, image.shape[:2]))
        except ValueError as error:
            raise DataError(f"{error}, as {str(base)!r} is. Name smaller ones with --defect-size.") from None
        path = folder / f"{number:03d}-{kind}-{size}px.png"
        Image.fromarray(changed).save(path)
        pasted.append((path, f"{size} px"))
    return pasted


def _places(reader: ImageReader, size: tuple[int, ...]) -> Any:
    """bool (H, W), where a defect counts; None where that is all of the image."""
    if reader.roi is None:
        return None
    left, top, right, bottom = reader.seen(size[0], size[1])
    keep = reader.keep(bottom - top, right - left)
    places = np.zeros(size[:2], dtype=bool)
    places[top:bottom, left:right] = True if keep is None else keep
    return places
