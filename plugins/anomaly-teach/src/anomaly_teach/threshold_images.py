"""Images of a folder scored by a detector, for its threshold."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from anomaly_core import AnomalyError, Calibration, DataError, Detector, NormalImage, open_untrusted, stands_out
from anomaly_predict import image_paths

BATCH = 8


@dataclass(frozen=True)
class ScoredImage:
    """An image file and what a detector says of it; ``map_maximum`` and ``map_median`` are None without maps."""

    path: Path
    score: float
    map_maximum: float | None
    map_median: float | None


def score_folder(detector: Detector, folder: Path) -> list[ScoredImage]:
    """The images below a folder, scored in order.

    Raises:
        DataError: there is no image, one cannot be read, or its score is not finite.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {str(folder)!r}. Give one of images.")
    paths, scored = image_paths([str(folder)]), []
    while batch := list(islice(paths, BATCH)):
        for path, prediction in zip(batch, detector.score([detector.decode(path) for path in batch]), strict=True):
            maps = prediction.maps
            peak, middle = (None, None) if maps is None else (float(maps.max()), float(np.median(maps)))
            if not all(math.isfinite(value) for value in (prediction.score, peak or 0.0, middle or 0.0)):
                raise DataError(
                    f"the score or the map of {str(path)!r} is not finite: no threshold can rest on it. Take it away."
                )
            scored.append(ScoredImage(path, prediction.score, peak, middle))
    return scored


def calibration_from(images: list[ScoredImage], before: Calibration, source: str) -> Calibration:
    """A calibration whose scores are those of the images; its threshold is still that of ``before``."""
    maxima = [image.map_maximum for image in images if image.map_maximum is not None]
    medians = [image.map_median for image in images if image.map_median is not None]
    low = before.map_low if before.map_low is None or not medians else float(np.median(medians))
    return replace(
        before,
        threshold=0.0,
        count=len(images),
        source=source,
        scores=tuple(sorted(image.score for image in images)),
        map_maxima=tuple(sorted(maxima)) if len(maxima) == len(images) else (),
        map_low=low,
        scored_by="holdout",
        interval=None,
        warning=None,
    )


def normals_of(images: list[ScoredImage], category: str) -> list[NormalImage]:
    """The rows of normals.csv."""
    suspects = stands_out([image.score for image in images])
    return [
        NormalImage(str(image.path), category, image.score, image.map_maximum, suspect)
        for image, suspect in zip(images, suspects, strict=True)
    ]


def known_among(images: Iterable[Path], known: Iterable[Path]) -> list[Path]:
    """Those of the images that are among the known ones: the same file, or another with the same bytes."""
    places: set[Path] = set()
    sizes: dict[int, list[Path]] = {}
    for path in known:
        with suppress(OSError):
            places.add(path.resolve())
            sizes.setdefault(path.stat().st_size, []).append(path)
    return [path for path in images if path.resolve() in places or _has_double(path, sizes)]


def warn_of_known(images: Iterable[Path], training: Iterable[Path]) -> None:
    """Warn if the detector has seen the images while it was fitted."""
    if seen := known_among(images, training):
        warnings.warn(
            f"{len(seen)} of these images, such as {str(seen[0])!r}, were learnt by the detector, which scores them too low: "
            "the threshold will give more false alarms than it says. Give images that it has not seen.",
            stacklevel=2,
        )


def _has_double(path: Path, sizes: dict[int, list[Path]]) -> bool:
    with suppress(OSError, AnomalyError):
        others = sizes.get(path.stat().st_size, [])
        return bool(others) and any(_digest(path) == _digest(other) for other in others)
    return False


def _digest(path: Path) -> str:
    with open_untrusted(path) as file:
        return hashlib.sha256(file.read()).hexdigest()
