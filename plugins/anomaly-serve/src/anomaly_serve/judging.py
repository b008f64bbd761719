"""From a prediction to a verdict: by the settings of the moment, with regions, and the facts that drift is seen in."""

from __future__ import annotations

import math
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import AnomalyError, DataError
from anomaly_predict import only_map, regions_of
from anomaly_serve.batching import Answer
from anomaly_serve.incoming import Incoming
from anomaly_serve.products import LoadedVersion, Product, own_regions
from anomaly_serve.records import Judgement


@dataclass(frozen=True)
class Asked:
    """What is known of an image before it is decoded: its identifier, time, door, and name."""

    id: str
    product: str
    name: str
    source: str
    time: float


@dataclass(frozen=True)
class Scored:
    """A verdict with its map, float32 (h, w) in the geometry of the detector; None for a detector without maps."""

    judgement: Judgement
    map: NDArray[np.float32] | None


@dataclass
class InWork:
    """An image on its way to its verdict.

    Attributes:
        record, keep: whether the verdict goes into the history, and the image with it.
        since: when it came, by :func:`time.perf_counter`.
        queued: milliseconds until it was decoded.
    """

    asked: Asked
    product: Product
    loaded: LoadedVersion
    record: bool
    keep: bool
    answer: Future[Scored]
    incoming: Incoming | None = None
    since: float = field(default_factory=time.perf_counter)
    queued: float = 0.0


def judged(asked: Asked, version: LoadedVersion, incoming: Incoming, answer: Answer) -> Scored:
    """The verdict on an image by the settings of a version.

    Raises:
        AnomalyError: what the detector raised.
        DataError: its score or its map is not finite, and so there is no verdict.
    """
    if isinstance(answer.prediction, AnomalyError):
        raise answer.prediction
    score, found = answer.prediction.score, only_map(answer.prediction)
    if not math.isfinite(score) or (found is not None and not np.isfinite(found).all()):
        raise DataError(
            f"the score of {asked.name or 'the image'!r} is {score} or its map is not finite: there is no verdict. The image "
            "lies far outside what the detector can compute, or the detector is damaged; look at the image, or fit again."
        )
    calibration, detector = version.settings.calibration, version.detector
    verdict = calibration.is_anomalous(score)
    regions = None
    if hasattr(detector, "input_spec"):
        scale = own_regions(detector)[1]
        options: dict[str, Any] = {"reader": detector.reader, "least_area": version.least_area, "mm_per_px": scale}
        regions = regions_of(found, calibration, incoming.size, version.input_spec, **options)
    times = {"decode": incoming.milliseconds, "wait": answer.waited, "score": answer.scored}
    judgement = Judgement(
        id=asked.id,
        product=asked.product,
        version=version.number,
        time=asked.time,
        source=asked.source,
        name=asked.name,
        score=score,
        p_value=None if verdict is None else calibration.p_value(score),
        threshold=calibration.threshold,
        is_anomalous=verdict,
        size=incoming.size,
        regions=None if regions is None else tuple(region.to_dict() for region in regions),
        settings=version.settings.number,
        times={name: round(value, 2) for name, value in times.items()},
        facts=incoming.facts,
    )
    return Scored(judgement, None if found is None else found[0])
