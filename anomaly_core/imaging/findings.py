"""What a run's images are like: the range of their values, what is unusual, and what tells their classes apart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from anomaly_core.errors import DataError
from anomaly_core.imaging.facts import FileFacts, oddities
from anomaly_core.imaging.geometry import InputSpec
from anomaly_core.imaging.reading import MOST_SIZES, ImageReader
from anomaly_core.imaging.values import WHOLE, Range
from anomaly_core.types import ANOMALOUS, Sample

FactsByFile = Mapping[Path, FileFacts]
_DEPTHS = (8, 10, 12, 14, 16)  # of cameras
_SHRUNK = 2  # times, from which on it is told
_SMALLEST = 3  # pixels of the input: holes and scratches of 2 were missed, of 4 found (docs/guides/own-images.md)


def fitted_reader(reader: ImageReader, training: FactsByFile, all_images: FactsByFile) -> tuple[ImageReader, list[str]]:
    """The reader of a run with these training images, and warnings about what it assumes.

    Raises:
        DataError: nothing says which values are black and white, or a file does not give all the bits that it takes.
    """
    deep = {path: facts for path, facts in training.items() if facts.span}
    texts = []
    if deep and reader.range is None:
        found, text = _range(list(deep.values()))
        reader = dataclasses.replace(reader, range=found)
        texts += [text] if text else []
    elif reader.range is not None and not any(facts.span for facts in all_images.values()):
        texts.append(
            f"no image has more than 8 bits a sample: the range of {_words(reader.range)} (data.range, data.bit_depth) changes "
            "none of them. Check that their camera's software saved all bits."
        )
    for path, facts in all_images.items():
        if facts.span and reader.range is None:
            raise DataError(
                f"{str(path)!r} has more than 8 bits a sample, and the training images have 8: nothing says which of its "
                "values are black and white. Save it with 8 bits, or set data.range=LOW,HIGH."
            )
        if not facts.exact and reader.range != WHOLE:
            raise DataError(
                f"only the high bytes of {str(path)!r} can be read, which is too little for values of "
                f"{_words(reader.range or WHOLE)}. Save such images as PNG, or as TIFF with interleaved RGB."
            )
    sizes = sorted({facts.size for facts in training.values()})
    if reader.roi and len(sizes) > 1:
        texts.append(
            f"the training images have {len(sizes)} sizes, and data.roi and data.ignore mark the same pixels in each: look at "
            "the pictures whether that is the same part."
        )
    of_cameras = len(sizes) == 1 or len(sizes) <= min(MOST_SIZES, len(training) // 3)  # else cut out, each as it came
    modes = tuple(sorted({facts.mode for facts in training.values()}))
    return dataclasses.replace(reader, sizes=tuple(sizes) if of_cameras else (), modes=modes), texts


def _range(deep: Sequence[FileFacts]) -> tuple[Range, str]:
    """The values that are black and white in images of more than 8 bits, and what is to be said of it."""
    spans = [facts.span or WHOLE for facts in deep]
    low, high = min(span[0] for span in spans), max(span[1] for span in spans)
    floats = {facts.mode.startswith("float") for facts in deep}
    named = {facts.declared for facts in deep}
    override = "data.range=LOW,HIGH (or data.bit_depth) says otherwise."
    said = next(iter(named)) if len(named) == 1 else None
    if said and said != WHOLE and said[0] <= low and high <= said[1]:  # the whole range says nothing
        return said, f"the training images name {_words(said)} as their range: it is read as black to white. {override}"
    if floats == {True} and low >= 0 and high <= 255:
        found: Range = (0, 1) if high <= 1 else (0, 255)
        hold = f"the training images hold floats of {_words((low, high))}"
        return found, f"{hold}: {_words(found)} is read as black to white. {override}"
    if floats == {False} and low >= 0 and high <= WHOLE[1]:
        bits = next(bits for bits in _DEPTHS if high < 2**bits)
        found = (0, 2**bits - 1)
        text = (
            f"the values of the training images, files of more than 8 bits, use {bits} bits (the greatest is {high:g}): "
            f"{_words(found)} is read as black to white. {override}"
        )
        return found, text if found != WHOLE else ""
    raise DataError(
        f"the training images hold values of {_words((low, high))}, which do not say what is black and what is white. Say it: "
        f"data.range=LOW,HIGH, such as data.range={low:g},{high:g}."
    )


def shrunk(reader: ImageReader, spec: InputSpec) -> str:
    """What a fitted reader's images lose in a model's input, if that is much; empty if not, or if they have many sizes."""
    seen = [(right - left, bottom - top) for left, top, right, bottom in (reader.seen(*size) for size in reader.sizes)]
    width, height = max(seen, key=math.prod, default=(1, 1))
    times = max(side / fitted for side, fitted in zip((width, height), spec.fitted(width, height), strict=True))
    if times < _SHRUNK:
        return ""
    options = {"image_size": spec.size, **({"center_crop": spec.center_crop} if spec.center_crop else {})}
    larger = (f"--set model.{name}={2 * h}{'' if h == w else f',{2 * w}'}" for name, (h, w) in options.items())
    return (
        f"the images are {width}x{height} and are shrunk {times:.1f} times, for an input of "
        f"{spec.output_size[1]}x{spec.output_size[0]}: a defect of less than about {math.ceil(_SMALLEST * times)} pixels will "
        f"probably be missed. For smaller ones, try {' '.join(larger)}, or tiles: --set "
        f"data.tile={max(width, height) // 2}. `anomaly suggest` compares such settings on your images."
    )


def unusual(reader: ImageReader, found: FactsByFile) -> list[str]:
    """Warnings about images that are not as the reader takes them to be, each kind once."""
    kinds: dict[tuple[str, str], list[tuple[Path, str]]] = {}
    for path, facts in found.items():
        for what, detail, advice in oddities(facts, reader):
            kinds.setdefault((what, advice), []).append((path, detail))
    return [
        f"{len(cases)} image{'s have' if len(cases) > 1 else ' has'} {what}, such as {str(cases[0][0])!r} ({cases[0][1]}). "
        f"{advice}"
        for (what, advice), cases in kinds.items()
    ]


def telling(training: Iterable[Sample], test: Sequence[Sample], found: FactsByFile) -> list[str]:
    """A warning where the kind of file alone tells anomalous test images from normal ones."""
    anomalous = [found[sample.path] for sample in test if sample.label == ANOMALOUS]
    others = (
        ("normal test images", [found[sample.path] for sample in test if sample.label not in (ANOMALOUS, None)]),
        ("training images", [found[sample.path] for sample in training]),
    )
    for whose, normal in others:
        telling = [
            f"{name} ({_examples(values[1])}, and {_examples(values[0])})"
            for name, values in {
                "the format of the file": ({one.format for one in anomalous}, {one.format for one in normal}),
                "depth and colour": ({one.mode for one in anomalous}, {one.mode for one in normal}),
                "the size": ({_pixels(one) for one in anomalous}, {_pixels(one) for one in normal}),
            }.items()
            if _apart(*values, fewest=min(len(anomalous), len(normal)))
        ]
        if telling:
            return [
                f"anomalous images can be told from the {whose} without looking at them, by {' and '.join(telling)}: a "
                "detector may find that instead of defects, and metrics say nothing. Save all images alike, from one camera."
            ]
    return []


def _apart(first: set[str], second: set[str], fewest: int) -> bool:
    """Whether two classes have no value in common, and few enough values for that to be no chance."""
    return bool(first and second) and not first & second and fewest >= 2 * max(len(first), len(second))


def _pixels(facts: FileFacts) -> str:
    return f"{facts.size[1]}x{facts.size[0]}"


def _examples(values: set[str]) -> str:
    return "/".join(sorted(values)[:3])


def _words(span: Range) -> str:
    return f"{span[0]:g} to {span[1]:g}"
