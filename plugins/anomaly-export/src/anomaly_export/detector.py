"""ExportedDetector: an exported file applied to images, numpy in and numpy out. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import Calibration, ConfigError, DataError, ImageReader, InputSpec, Native, Prediction
from anomaly_export.sessions import Session
from anomaly_predict import Region, as_image, judged, only_map, placed, regions_of, whole

Array = NDArray[np.float32]


class ExportedDetector:
    """A detector from ``anomaly export``: an :class:`~anomaly_core.Detector` that needs neither torch nor its method.

    Args:
        path: an ``.onnx`` file, OpenVINO's ``.xml`` (its ``.bin`` beside it), or a TorchScript ``.pt`` (which needs torch).
        engine: ``onnx``, ``openvino`` (which opens ``.onnx`` too) or ``torchscript``; None: by the file's suffix.
        threads: threads that the engine may use; None: ``$OMP_NUM_THREADS``, else one per core.
        threshold: replaces the file's own; the raw scores stay the same.
        batch_size: images per pass through the graph; does not change the scores. A memory bank's distances take
            patches x entries x 4 bytes per image, so a large bank needs a small batch.
        verify: whether the file must be as it was written, by its SHA-256, before the engine sees it.

    Attributes:
        metadata: the file's metadata: method, input, calibration, versions, the run's config.
        engine: the name of the engine.

    Raises:
        PluginError: the engine's library is not installed; the message has the install command.
        RunError: the file is missing, no regular file, damaged, or not written by this version of ``anomaly export``.

    After a fork, the child opens an ONNX file again when it first scores; with OpenVINO and TorchScript, whose threads do not
    survive a fork, it raises RunError.
    """

    def __init__(
        self,
        path: str | Path,
        engine: str | None = None,
        threads: int | None = None,
        *,
        threshold: float | None = None,
        batch_size: int = 8,
        verify: bool = True,
    ) -> None:
        self._session = Session(Path(path), engine, threads, verify)
        self.engine, metadata = self._session.engine, self._session.metadata
        self.metadata = metadata if threshold is None else metadata.with_threshold(threshold)
        self.batch_size = batch_size

    @property
    def calibration(self) -> Calibration:
        """The threshold and p-values."""
        return self.metadata.calibration

    @property
    def reader(self) -> ImageReader:
        """How image files are decoded: as the run's were."""
        return self.metadata.reader

    @property
    def input_spec(self) -> InputSpec:
        """How an image becomes the graph's input, where maps lie on it."""
        return self.metadata.input_spec

    def predict(self, images: Any, *, batch_size: int | None = None, colour: str = "RGB") -> Prediction[Array]:
        """Score one image or several, as the run's own detector does.

        Args:
            images: paths, PIL images, uint8 arrays (H, W, 3) RGB or (H, W), or tensors (3, H, W) RGB of uint8 or of floats in
                [0, 1]: one, a sequence, or a (B, ...) array or tensor. Any size: they are resized and cropped as in the run. A
                fourth channel is alpha and is dropped, as it is from a file.
            batch_size: images per pass through the graph; None: the detector's own.
            colour: the order of colours in arrays and tensors: ``RGB``, or ``BGR`` as OpenCV has it. The values do not tell.

        Returns:
            Scores (B,), maps (B, 1, h, w) and, for methods that reconstruct, reconstructions (B, 3, h, w) at the detector's
            input size, float32 numpy arrays, with ``is_anomalous`` and ``p_values`` (B,); B is 1 for one image.

        Raises:
            DataError: an image cannot be read, or an array has another shape or dtype.
            ConfigError: ``colour`` is neither, or is BGR for a file or a PIL image, which know their own.
        """
        batches = placed(images, self.place, batch_size or self.batch_size, colour)
        return whole([self._predict(batch) for batch in batches])

    def __call__(self, images: Any) -> tuple[Array, Array | None]:
        """The raw scores (B,) and the maps (B, 1, h, w) of :meth:`predict` alone; no maps are None."""
        prediction = self.predict(images)
        return prediction.scores, prediction.maps

    def is_anomalous(self, scores: Array) -> NDArray[np.bool_]:
        """The verdicts on raw scores (B,); DataError if the detector has no threshold."""
        if self.calibration.threshold is None:
            raise DataError("this detector has no threshold: give one, ExportedDetector(path, threshold=X).")
        return np.asarray(scores, dtype=np.float64) > self.calibration.threshold

    def decode(self, path: str | Path) -> NDArray[np.uint8]:
        """An image file in the form that the graph needs: uint8 (h, w, 3) RGB."""
        return self.metadata.input_spec.array(self.reader.read(path, grey=True))

    def score(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction[Array]]:
        """A prediction (B = 1) for each of several images of :meth:`decode` or :meth:`place`; RunError if the engine fails."""
        parts = [self._predict(images[start : start + self.batch_size]) for start in range(0, len(images), self.batch_size)]
        return [part[i : i + 1] for part in parts for i in range(len(part.scores))]

    def for_callers(self, callers: int) -> ExportedDetector | None:
        """The same detector for so many threads that call :meth:`score` at once: a call is computed in one thread, so that each
        core has an image of its own. None for TorchScript, which cannot be divided.

        Raises:
            RunError: the file is no more what it was when it was opened.
        """
        session = self._session.for_callers(callers)
        if session is None:
            return None
        detector = copy(self)
        detector._session = session
        return detector

    def regions(
        self,
        prediction: Prediction[Array],
        size: tuple[int, int],
        *,
        least_area: float | None = None,
        mm_per_px: float | None = None,
    ) -> tuple[Region, ...] | None:
        """What exceeds the map threshold in an image, the highest peak first; None without a map or a threshold of maps.

        Args:
            prediction: of one image, from :meth:`score`.
            size: (height, width) of the upright image, before anything was cut off or resized.
            least_area, mm_per_px: in place of ``data.least_area`` and ``data.mm_per_px`` of the run that was exported.
        """
        own_area, own_scale = self.metadata.regions
        return regions_of(
            only_map(prediction),
            self.calibration,
            size,
            self.metadata.input_spec,
            reader=self.reader,
            least_area=own_area if least_area is None else least_area,
            mm_per_px=own_scale if mm_per_px is None else mm_per_px,
        )

    def place(self, image: Any, *, colour: str = "RGB") -> NDArray[np.uint8]:
        """An image in any form that :meth:`predict` takes, with ``colour`` as there, in the form that the graph needs: uint8
        (h, w, 3) RGB."""
        return self.metadata.input_spec.array(as_image(image, self.reader, colour, grey=True))

    def score_native(self, image: Any, *, colour: str = "RGB") -> Prediction[Array]:
        """The prediction (B = 1) for an image in any form that :meth:`predict` takes, resized and cropped by the graph,
        as in other programs; for a file that takes images of any size, else ConfigError."""
        if not self.metadata.any_size:
            raise ConfigError(f"this file takes images of one size, {self.metadata.input_spec.output_size}: use predict().")
        return judged(self._session.native(Native().array(as_image(image, self.reader, colour))), self.calibration)

    def _predict(self, images: Sequence[NDArray[np.uint8]]) -> Prediction[Array]:
        prediction = self._session(np.stack(images))
        if prediction.maps is not None and self.reader.roi:
            prediction = replace(prediction, maps=self.reader.lowered(prediction.maps, self.metadata.input_spec))
        return judged(prediction, self.calibration)
