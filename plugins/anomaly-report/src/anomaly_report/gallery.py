"""Gallery: which test images of a run are shown, and the panel that is drawn of each. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_core import inside
from anomaly_report.pictures import Box, reduced, safe_name, save_panel

if TYPE_CHECKING:
    from anomaly_core import Batch, Calibration, Prediction, TestedImage

FOLDER = "maps"


@dataclass
class _Candidate:
    """An image that may be shown, and the row that will name its picture.

    Attributes:
        image, reconstruction: uint8 (3, H, W), a quarter of the memory that floats take.
        anomaly_map: float32 (1, H, W).
        mask: bool (1, H, W); None where it is not known.
    """

    row: TestedImage
    image: NDArray[np.uint8]
    anomaly_map: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    reconstruction: NDArray[np.uint8] | None


class Gallery:
    """Takes in the test images batch by batch; :meth:`draw` draws those that are chosen.

    Args:
        folder: the run's.
        wanted: how many images are shown, of each kind in turn; with ``all`` each is drawn as it comes, and none is kept.
        calibration: fixes the colour scale.
    """

    def __init__(self, folder: Path, wanted: int | str, calibration: Calibration) -> None:
        self._folder = folder
        self._wanted = math.inf if wanted == "all" else int(wanted)
        self._calibration = calibration
        self._kept: dict[tuple[str, str, bool | None], list[_Candidate]] = {}
        self._drawn = 0

    def consider(self, batch: Batch, prediction: Prediction, rows: list[TestedImage]) -> None:
        """Draw the images at once where all are shown; else keep the first of every kind, no more than will be shown.

        Raises:
            RunError: a picture cannot be written.
        """
        if prediction.maps is None:
            return
        for index, row in enumerate(rows):
            kind = row.category, row.defect, row.is_anomalous  # so that false alarms and misses are among those shown
            kept = self._kept.setdefault(kind, [])
            if len(kept) >= self._wanted:
                continue
            candidate = _candidate(index, row, batch, prediction)
            if math.isinf(self._wanted):
                self._draw(candidate)
            else:
                kept.append(candidate)
                self._drop_the_last()

    def draw(self) -> None:
        """Draw images of each kind in turn, until the number that was asked for is reached; their rows name the pictures.

        Raises:
            RunError: a picture cannot be written.
        """
        queues = list(self._kept.values())
        turns = range(max(map(len, queues), default=0))
        for candidate in [queue[turn] for turn in turns for queue in queues if turn < len(queue)]:
            self._draw(candidate)

    def _drop_the_last(self) -> None:
        """Of one too many, the last in the order of :meth:`draw`: what comes later can only push it further back."""
        queues = list(self._kept.values())
        if sum(map(len, queues)) > self._wanted:
            deepest = max(map(len, queues))
            [queue for queue in queues if len(queue) == deepest][-1].pop()

    def _draw(self, candidate: _Candidate) -> None:
        row = candidate.row
        name = "-".join(part for part in (row.category, row.defect, Path(row.path).stem) if part)
        path = Path(FOLDER) / f"{self._drawn:04d}-{safe_name(name)}.png"
        self._drawn += 1
        try:
            save_panel(
                inside(self._folder, str(path)),
                _floats(candidate.image),
                candidate.anomaly_map,
                candidate.mask,
                self._calibration,
                title=_title(name, row.score, None if row.regions is None else len(row.regions)),
                reconstruction=None if candidate.reconstruction is None else _floats(candidate.reconstruction),
                boxes=[region["map_box"] for region in row.regions or () if "map_box" in region],  # type: ignore[misc]
            )
        except Exception:
            self._wanted = 0  # what stopped this one, a full disk say, would stop the next: one warning is enough
            raise
        row.picture = path.as_posix()


def draw_prediction(
    path: Path,
    name: str,
    image: NDArray[np.uint8],
    prediction: Prediction[Any],
    scale: Calibration,
    boxes: Sequence[Box] | None = None,
) -> None:
    """Write image | reconstruction | map | overlay of a new image.

    Args:
        path: the PNG file.
        name: stands in the title, with the score.
        image: (H, W, 3), as it was scored.
        prediction: of this image alone, numpy arrays.
        scale: fixes the colours.
        boxes: of the regions, in pixels of the map; None where that is not known.

    Raises:
        RunError: the file cannot be written.
    """
    maps, reconstruction = prediction.maps, prediction.reconstruction
    save_panel(
        path,
        _floats(image.transpose(2, 0, 1)),
        None if maps is None else maps[0],
        None,
        scale,
        title=_title(name, prediction.score, None if boxes is None else len(boxes)),
        with_mask=False,
        reconstruction=None if reconstruction is None else reconstruction[0],
        boxes=boxes or (),
    )


def _title(name: str, score: float, regions: int | None) -> str:
    count = "" if regions is None else f"  {regions or 'no'} region{'s' * (regions > 1)}"
    return f"{name}  score {score:.4g}{count}"


def _candidate(index: int, row: TestedImage, batch: Batch, prediction: Prediction) -> _Candidate:
    """What is kept of an image: copies, so that the batch may go."""
    assert prediction.maps is not None
    mask = reduced(batch.masks[index]).copy() if batch.masks is not None and bool(batch.has_mask[index]) else None
    reconstruction = None if prediction.reconstruction is None else _bytes(prediction.reconstruction[index])
    return _Candidate(row, _bytes(batch.images[index]), reduced(prediction.maps[index]).copy(), mask, reconstruction)


def _bytes(image: ArrayLike) -> NDArray[np.uint8]:
    """float (3, H, W) in [0, 1] -> uint8."""
    pixels: NDArray[np.uint8] = (np.clip(reduced(image), 0, 1) * 255).round().astype(np.uint8)
    return pixels


def _floats(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 -> float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(255)
