"""Gallery: the pictures of a run's test images, drawn of those that :mod:`anomaly_report.choice` chooses. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import NORMAL, inside
from anomaly_report.choice import chosen, kept
from anomaly_report.frame import Frame
from anomaly_report.pictures import Box, in_threads, reduced, reduced_bytes, safe_name, save_panel

if TYPE_CHECKING:
    from anomaly_core import Batch, Calibration, InputSpec, Prediction, TestedImage

FOLDER = "maps"


@dataclass
class _Pixels:
    """What is drawn of an image.

    Attributes:
        image, reconstruction: uint8 (3, H, W), a quarter of the memory that floats take.
        anomaly_map: float32 (1, H, W).
        mask: bool (1, H, W); None where it is not known.
    """

    image: NDArray[np.uint8]
    anomaly_map: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    reconstruction: NDArray[np.uint8] | None


@dataclass
class _Candidate:
    """An image that may be shown, its number in the test set, and the row that will name its picture."""

    order: int
    row: TestedImage
    pixels: _Pixels | None = None


class Gallery:
    """Takes in the test images batch by batch; :meth:`draw` draws those that are chosen.

    Args:
        folder: the run's.
        wanted: how many images are shown; with ``all`` each is drawn as it comes, and none is kept.
        calibration: fixes the colour scale.
        input_spec: how an image became the model's input; None if that has the image's own pixels (``data.tile``).
        size: gives the (height, width) of an image file; None if pictures are as the model sees them.
    """

    def __init__(
        self,
        folder: Path,
        wanted: int | str,
        calibration: Calibration,
        input_spec: InputSpec | None = None,
        size: Callable[[str], tuple[int, int]] | None = None,
    ) -> None:
        self._folder = folder
        self._wanted = math.inf if wanted == "all" else max(0, int(wanted))
        self._calibration = calibration
        self._input_spec, self._size = input_spec, size
        self._kept: list[_Candidate] = []
        self._masked = False  # whether the mask of any defect is known
        self._count = 0
        self._drawn = 0

    def consider(self, batch: Batch, prediction: Prediction, rows: list[TestedImage]) -> None:
        """Draw the images at once where all are shown; else keep those that may yet be chosen.

        Raises:
            DataError: the size of an image file cannot be read any more.
            RunError: a picture cannot be written.
        """
        if prediction.maps is None:
            return
        masked = [batch.masks is not None and bool(known) for known in batch.has_mask]
        defects = [known and row.label != NORMAL for known, row in zip(masked, rows, strict=True)]
        if math.isinf(self._wanted):
            new = [_Candidate(self._count + index, row, _pixels(index, batch, prediction)) for index, row in enumerate(rows)]
            self._draw(new, defects)
        elif self._wanted:
            self._masked |= any(defects)
            new = [_Candidate(self._count + index, row) for index, row in enumerate(rows) if math.isfinite(row.score)]
            self._kept = kept([*self._kept, *new], self._calibration.threshold, int(self._wanted))
            for candidate in self._kept:
                if candidate.pixels is None:
                    candidate.pixels = _pixels(candidate.order - self._count, batch, prediction)
        self._count += len(rows)

    def draw(self) -> None:
        """Draw the images that are chosen of all; their rows name the pictures.

        Raises:
            DataError, RunError: as in :meth:`consider`.
        """
        if self._kept:
            shown = chosen(self._kept, self._calibration.threshold, int(self._wanted))
            self._draw(shown, [self._masked] * len(shown))

    def _draw(self, candidates: Sequence[_Candidate], with_mask: Sequence[bool]) -> None:
        numbers = range(self._drawn, self._drawn + len(candidates))
        self._drawn += len(candidates)
        try:
            in_threads(self._draw_one, candidates, numbers, with_mask)
        except Exception:
            self._wanted, self._kept = 0, []  # what stopped this one, a full disk say, would stop the next: one warning
            raise

    def _draw_one(self, candidate: _Candidate, number: int, with_mask: bool) -> None:
        row, pixels = candidate.row, candidate.pixels
        assert pixels is not None
        name = "-".join(part for part in (row.category, row.defect, Path(row.path).stem) if part)
        path = Path(FOLDER) / f"{number:04d}-{safe_name(name)}.png"
        save_panel(
            inside(self._folder, str(path)),
            _floats(pixels.image),
            pixels.anomaly_map,
            pixels.mask,
            self._calibration,
            title=_title(name, row.score, None if row.regions is None else len(row.regions)),
            with_mask=with_mask,
            reconstruction=None if pixels.reconstruction is None else _floats(pixels.reconstruction),
            boxes=[region["map_box"] for region in row.regions or () if "map_box" in region],  # type: ignore[misc]
            frame=self._frame(row.path),
        )
        row.picture = path.as_posix()

    def _frame(self, path: str) -> Frame | None:
        if self._input_spec is None or self._size is None:
            return None
        return Frame.of(self._input_spec, self._size(path))


def draw_prediction(
    path: Path,
    name: str,
    image: NDArray[np.uint8],
    prediction: Prediction[Any],
    scale: Calibration,
    boxes: Sequence[Box] | None = None,
    frame: Frame | None = None,
) -> None:
    """Write image | reconstruction | map | overlay of a new image.

    Args:
        path: the PNG file.
        name: stands in the title, with the score.
        image: (H, W, 3), as it was scored.
        prediction: of this image alone, numpy arrays.
        scale: fixes the colours.
        boxes: of the regions, in pixels of the map; None where that is not known.
        frame: where the whole image lies in what was scored, and its proportions; None: it is the image.

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
        frame=frame,
    )


def _title(name: str, score: float, regions: int | None) -> str:
    count = "" if regions is None else f"  {regions or 'no'} region{'s' * (regions > 1)}"
    return f"{name}  score {score:.4g}{count}"


def _pixels(index: int, batch: Batch, prediction: Prediction) -> _Pixels:
    """What is kept of an image: copies, so that the batch may go."""
    assert prediction.maps is not None
    mask = reduced(batch.masks[index]).copy() if batch.masks is not None and bool(batch.has_mask[index]) else None
    reconstruction = None if prediction.reconstruction is None else reduced_bytes(prediction.reconstruction[index])
    return _Pixels(reduced_bytes(batch.images[index]), reduced(prediction.maps[index]).copy(), mask, reconstruction)


def _floats(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 -> float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(255)
