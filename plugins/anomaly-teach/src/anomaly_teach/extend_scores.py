"""The scores of images that a run is to learn, by the detector that has not seen them, and the threshold with them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace

from anomaly_core import (
    BaseDataModule,
    Calibration,
    DataError,
    NormalImage,
    Progress,
    score,
    stands_out,
    tiled,
    within_region,
)
from anomaly_predict import RunDetector
from anomaly_teach.extend_images import NewImage, named


def scored(detector: RunDetector, data: BaseDataModule, images: list[NewImage], progress: Progress) -> list[NormalImage]:
    """Each image with its score by the detector as it is now."""
    samples, rows = [image.sample for image in images], list[NormalImage]()
    loader = data.images(samples, detector.modeler.input_spec)
    batches = progress(loader, "scoring the new images", len(loader))
    for batch, raw in score(tiled(detector.modeler, data.config), batches, detector.device):
        prediction = within_region(batch, raw)
        peaks: list[float | None] = [None] * len(batch)
        if prediction.maps is not None:
            peaks = [*prediction.maps.flatten(1).amax(dim=1).tolist()]
        for sample, value, peak in zip(batch.samples, prediction.scores.tolist(), peaks, strict=True):
            if not all(math.isfinite(number) for number in (value, peak or 0.0)):
                raise DataError(f"the score or the map of {str(sample.path)!r} is not finite. Leave the image out.")
            rows.append(NormalImage(str(sample.path.absolute()), sample.category, value, peak))
    return rows


def look_at(rows: Sequence[NormalImage], before: Calibration, *, false_alarms: bool, accept: bool) -> None:
    """Tell which images look anomalous to the run; DataError for those that stand out, unless they are accepted."""
    apart = [  # each beside the normal images alone: many defects at once would hide each other
        row for row in rows if before.is_anomalous(row.score) is not False and stands_out([*before.scores, row.score])[-1]
    ]
    above = [row for row in rows if before.is_anomalous(row.score)]
    shown = sorted(apart or above, key=lambda row: -row.score)
    listed = named([row.path for row in shown], [f"{row.score:.4g}" for row in shown])
    if apart and not (accept or false_alarms):
        limit = "" if before.threshold is None else f", where the threshold is {before.threshold:.4g}"
        raise DataError(
            f"{len(apart)} of {len(rows)} images score far above the normal ones{limit}: {listed}. What is learnt is never "
            "found again. Look at them, and leave out what is defective; if all are normal, give --yes."
        )
    if above:
        warnings.warn(f"{len(above)} of {len(rows)} images looked anomalous to the run until now: {listed}.", stacklevel=3)
    elif false_alarms and before.threshold is not None:
        warnings.warn("none of the images exceeded the threshold: they were no false alarms, and are learnt.", stacklevel=3)


def recalibrated(before: Calibration, new: Sequence[NormalImage], rate: float) -> Calibration:
    """A calibration from the scores of ``before`` and those of more images, at the rate ``before`` was for, if there is one.

    A threshold that was chosen by a value, by costs or by a fitted tail stays, with a warning.
    """
    if not new:
        return before
    scores = sorted([*before.scores, *(row.score for row in new)])
    peaks = [row.map_maximum for row in new if row.map_maximum is not None]
    with_maps = len(peaks) == len(new) and len(before.map_maxima) == len(before.scores)
    maxima = sorted([*before.map_maxima, *peaks]) if with_maps else []
    if before.threshold is not None and before.chosen_by != "rate":
        warnings.warn(
            f"the threshold {before.threshold:.4g} was chosen by {before.chosen_by} and stays, beside the scores of "
            f"{len(scores)} normal images now. `anomaly threshold` changes it.",
            stacklevel=2,
        )
        return replace(before, scores=tuple(scores), count=len(scores), map_maxima=tuple(maxima))
    source = f"{len(scores)} normal images, the last {len(new)} scored before they were learnt (`anomaly extend`)"
    more = replace(before, scores=tuple(scores), count=len(scores), map_maxima=tuple(maxima), source=source)
    return more.at_rate(before.false_alarm_rate if before.scores else rate)
