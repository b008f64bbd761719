"""A stream from image files to verdicts: decoding runs ahead of the network, in constant memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_core import ConfigError, DataError, Detector, Hooks, ImageReader, Prediction
from anomaly_core import decoders as decoder_count
from anomaly_predict.judged import finite_images
from anomaly_predict.pool import Pool, ahead, as_they_come, batched
from anomaly_predict.regions import Region

Pixels = NDArray[np.uint8]
Answer = Prediction[NDArray[np.float32]] | DataError
NO_REGIONS = "this detector has no anomaly maps, or no threshold for them, and so no regions."


@dataclass(frozen=True)
class Verdict:
    """The verdict on an image file.

    Attributes:
        path: the file.
        score: the raw score, or None if the file could not be read or its score is not finite.
        is_anomalous: score above the threshold; None without a threshold.
        p_value: share of normal images with at least this score; None without a threshold.
        error: why there is no score, or empty.
        size: (height, width) of the upright image; None if it could not be read.
        regions: what exceeds the map threshold, the highest peak first; None without a map, or without a threshold of maps.
    """

    path: str
    score: float | None = None
    is_anomalous: bool | None = None
    p_value: float | None = None
    error: str = ""
    size: tuple[int, int] | None = None
    regions: tuple[Region, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``error`` is there only if there is one."""
        height, width = self.size or (None, None)
        regions = None if self.regions is None else [region.to_dict() for region in self.regions]
        facts = {"path": self.path, "score": self.score, "is_anomalous": self.is_anomalous, "p_value": self.p_value}
        error = {"error": self.error} if self.error else {}
        return {**facts, "width": width, "height": height, "regions": regions, **error}


class _Decoded(NamedTuple):
    path: Path
    image: Pixels | DataError
    size: tuple[int, int] | None


def verdicts(
    detector: Detector,
    paths: Iterable[Path],
    *,
    hooks: Hooks | None = None,
    batch_size: int = 32,
    decoders: int | None = None,
    pictures: Path | None = None,
    first: int = 0,
    postponed: Callable[[Path], bool] | None = None,
    least_area: float | None = None,
    mm_per_px: float | None = None,
) -> Iterator[Verdict]:
    """Score image files in order; a file that cannot be read gets a verdict with its error, and the others are still scored.

    Threads decode up to two batches ahead while another thread runs network and search on the previous batch, so at most
    four batches are in memory, whatever the number of files. Where ``paths`` is an iterator that waits for its next file, the
    verdicts on those before it come at once. What it raises comes after them too. A decoder that hangs keeps neither the closed
    iterator nor the interpreter from ending.

    Args:
        detector: a run's detector or an exported one.
        paths: read lazily.
        hooks: observers of every prediction, or None.
        batch_size: images per batch; one for a run with ``data.tile``, whose images may be large.
        decoders: number of decoding threads; None: one per core, at most eight.
        pictures: a folder for pictures of image | map | overlay, drawn by an observer; or None.
        first: number of the first picture.
        postponed: asked about each file that cannot be read; True leaves it out, because it will be given again.
        least_area, mm_per_px: of regions, in place of the detector's own ``data.least_area`` and ``data.mm_per_px``.

    Raises:
        ConfigError: one of these for a detector that finds no regions.
    """
    options = {"least_area": least_area, "mm_per_px": mm_per_px}
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if given and (getattr(detector, "regions", None) is None or detector.calibration.map_threshold is None):
        raise ConfigError(f"{given[0]} would be ignored: {NO_REGIONS} Leave it out.")
    reader: ImageReader = getattr(detector, "reader", None) or ImageReader()  # a detector of somebody else may have none
    whole = reader.whole
    if _tiled(detector):  # one is scored at a time anyway, and each is held in its own size, with its map
        batch_size = 1
    number = first
    with ExitStack() as pools:
        scoring = pools.enter_context(ThreadPoolExecutor(1, "score"))
        decoding = pools.enter_context(Pool(decoders or decoder_count(), "decode"))
        waits = isinstance(paths, Iterator)  # as it may for each of them
        coming = as_they_come(pools.enter_context(Pool(1, "paths")), paths) if waits else paths
        decoded = ahead(decoding, lambda path: _decoded(detector, whole, path), coming, 2 * batch_size)
        scored = ahead(scoring, lambda batch: _scored(detector, batch), batched(decoded, batch_size), 1)
        for (path, image, size), answer in (one for batch in scored for one in batch or ()):
            if isinstance(answer, DataError) and postponed is not None and postponed(path):
                continue
            verdict = _verdict(detector, path, answer, size, options)
            if hooks is not None:
                hooks.call(
                    "anomaly_predicted",
                    verdict=verdict,
                    image=None if isinstance(answer, DataError) else image,
                    prediction=None if isinstance(answer, DataError) else answer,
                    detector=detector,
                    picture=None if pictures is None else pictures / f"{number:05d}-{path.stem}.png",
                )
            number += 1
            yield verdict
    for text in reader.repeated():
        warnings.warn(text, stacklevel=2)


def _tiled(detector: Detector) -> bool:
    config = getattr(detector, "config", None)  # of a run alone
    return config is not None and config.data.tile is not None


def _decoded(detector: Detector, reader: ImageReader, path: Path) -> _Decoded:
    try:
        size = reader.size(path)
        return _Decoded(path, detector.decode(path), size)
    except DataError as error:
        return _Decoded(path, error, None)


def _scored(detector: Detector, batch: list[_Decoded]) -> list[tuple[_Decoded, Answer]]:
    readable = [(one.path, one.image) for one in batch if not isinstance(one.image, DataError)]
    answers = detector.score([image for _, image in readable]) if readable else []
    checked = (_finite(path, answer) for (path, _), answer in zip(readable, answers, strict=True))
    return [(one, one.image if isinstance(one.image, DataError) else next(checked)) for one in batch]


def _finite(path: Path, answer: Prediction[NDArray[np.float32]]) -> Answer:
    """The answer, or the reason why it is none: a score or a map that is NaN or infinite."""
    if finite_images(answer).all():
        return answer
    return DataError(
        f"the score of {str(path)!r} is {answer.score} or its map is not finite: there is no verdict. The image lies far "
        "outside what the detector can compute, or the detector is damaged; look at the image, or run again."
    )


def _verdict(
    detector: Detector, path: Path, answer: Answer, size: tuple[int, int] | None, options: dict[str, float | None]
) -> Verdict:
    if isinstance(answer, DataError):  # and so has no score, no verdict and no regions
        return Verdict(str(path), error=str(answer), size=size)
    calibration = detector.calibration
    verdict = calibration.is_anomalous(answer.score)
    p_value = None if verdict is None else calibration.p_value(answer.score)
    find = getattr(detector, "regions", None)
    regions = None if find is None or size is None else find(answer, size, **options)
    return Verdict(str(path), answer.score, verdict, p_value, size=size, regions=regions)
