"""Pictures of the oddest normal images, each as a detector saw it that did not know it. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import NORMALS, RunError, RunFolder, inside
from anomaly_report.frame import Frame
from anomaly_report.panels import panel_size
from anomaly_report.pictures import in_threads, reduced, reduced_bytes, safe_name, save_panel
from anomaly_report.runs import brief

if TYPE_CHECKING:
    from anomaly_core import Batch, Calibration, InputSpec, NormalImage, Prediction

FOLDER, KEPT = "suspects", 24
Key = tuple[str, str]  # path and category


@dataclass
class _Candidate:
    """uint8 (3, H, W), a quarter of the memory that floats take, and float32 (1, H, W) or None."""

    key: Key
    score: float
    image: NDArray[np.uint8]
    anomaly_map: NDArray[np.float32] | None


class NormalGallery:
    """Takes in the normal images of a run batch by batch, and keeps those with the highest scores.

    Args:
        folder: the run's.
        wanted: how many pictures, at most 24; ``all`` is 24.
        input_spec: how an image became the model's input; None if that has the image's own pixels (``data.tile``).
        size: gives the (height, width) of an image file; None if pictures are as the model sees them.
    """

    def __init__(
        self,
        folder: Path,
        wanted: int | str,
        input_spec: InputSpec | None = None,
        size: Callable[[str], tuple[int, int]] | None = None,
    ) -> None:
        self._folder = folder
        self._input_spec, self._size = input_spec, size
        self._wanted = KEPT if wanted == "all" else min(int(wanted), KEPT)
        self._kept: list[_Candidate] = []
        self._pictures: dict[Key, str] = {}

    def consider(self, batch: Batch, prediction: Prediction) -> None:
        """Keep an image if it is among the highest so far."""
        for index, sample in enumerate(batch.samples):
            score = float(prediction.scores[index])
            if not math.isfinite(score) or (len(self._kept) >= self._wanted and score <= self._least):
                continue
            image = reduced_bytes(batch.images[index])
            maps = None if prediction.maps is None else reduced(prediction.maps[index]).copy()
            self._kept.append(_Candidate((str(sample.path), sample.category), score, image, maps))
            self._kept.sort(key=lambda candidate: -candidate.score)
            del self._kept[self._wanted :]

    @property
    def _least(self) -> float:
        return self._kept[-1].score if self._kept else math.inf

    def draw(self, normals: list[NormalImage], calibration: Calibration) -> None:
        """Draw them, the highest score first; the ``normals`` name their pictures. What comes later, after suspects were
        dropped, is another set: the pictures of those that are no more in it stay.

        Raises:
            DataError: the size of an image file cannot be read any more.
            RunError: a picture cannot be written.
        """
        kept, self._kept = self._kept, []
        scale = _scale(normals, calibration)
        places = {candidate.key: self._pictures.get(candidate.key, "") for candidate in kept}
        for number, key in enumerate((key for key, place in places.items() if not place), len(self._pictures)):
            places[key] = f"{FOLDER}/{number:04d}-{safe_name(Path(key[0]).stem)}.png"

        def draw(candidate: _Candidate) -> None:
            image = candidate.image.astype(np.float32) / np.float32(255)
            title = f"{Path(candidate.key[0]).name}  score {candidate.score:.4g}"
            frame = None
            if self._input_spec is not None and self._size is not None:
                frame = Frame.of(self._input_spec, self._size(candidate.key[0]))
            options: dict[str, Any] = {"with_mask": False, "frame": frame}
            place = places[candidate.key]
            save_panel(inside(self._folder, place), image, candidate.anomaly_map, None, scale, title, **options)
            self._pictures[candidate.key] = place

        in_threads(draw, kept)
        for normal in normals:
            normal.picture = self._pictures.get((normal.path, normal.category), "")


def _scale(normals: list[NormalImage], calibration: Calibration) -> Calibration:
    """Colours by what does not stand out: beside the map of a defect that set the map threshold, none would."""
    peaks = [image.map_maximum for image in normals if not image.suspect and image.map_maximum is not None]
    usable = calibration.map_low is not None and peaks and max(peaks) > calibration.map_low
    return replace(calibration, map_threshold=max(peaks)) if usable else calibration


@dataclass(frozen=True)
class Odd:
    """A normal image that stands out, as the report shows it: ``picture`` is below the run's folder, or empty."""

    name: str
    score: float
    dropped: bool
    picture: str
    size: tuple[int, int] | None


def odd_images(run: RunFolder, notes: list[str]) -> tuple[list[Odd], int]:
    """The normal images of a run that stand out, the highest score first, and of how many they are; none where the run has no
    list of them. What cannot be read is left out, and a note says so."""
    if not (run.folder / NORMALS).exists():
        return [], 0
    try:
        normals = run.normals()
    except RunError as error:
        notes.append(f"The odd normal images are left out: {brief(str(error))}")
        return [], 0
    odd = []
    for image in sorted(normals, key=lambda image: -image.score):
        if image.suspect or image.dropped:
            picture, size = image.picture, None
            try:
                size = panel_size(run.folder, picture) if picture else None
            except OSError as error:
                notes.append(f"The picture {picture!r} is left out: {brief(str(error))}.")
                picture = ""
            odd.append(Odd(PurePath(image.path).name, image.score, image.dropped, picture, size))
    return odd, len(normals)
