"""Detector: an exported file applied to images, numpy in and numpy out. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_core.calibration import Calibration
from anomaly_core.errors import DataError
from anomaly_core.inputs import read_image, to_rgb
from anomaly_core.types import Scored
from anomaly_export.sessions import open_session

Array = NDArray[np.float32]


class Detector:
    """A detector that ``anomaly export`` wrote; needs neither torch nor the plugin that trained it.

    Args:
        path: an ``.onnx`` file, OpenVINO's ``.xml`` (its ``.bin`` beside it), or a TorchScript ``.pt`` (which needs torch).
        engine: ``onnx``, ``openvino`` (which opens ``.onnx`` too) or ``torchscript``; None: by the file's suffix.
        threshold: instead of the file's own; the raw scores stay the same.
        threads: that the engine may use; None: ``$OMP_NUM_THREADS``, else one a core.
        batch_size: images that go through the graph at once; does not change the scores. A memory bank's distances take
            patches x entries x 4 bytes an image, so that a large bank wants a small batch.

    Attributes:
        metadata: what the file says of itself: method, input, calibration, versions, the run's config.
        calibration: its threshold, and p-values.
        engine: what computes.

    Raises:
        PluginError: the engine's library is not installed; the message has the command.
        RunError: the file is not there, damaged, or not written by ``anomaly export``.
    """

    def __init__(
        self,
        path: str | Path,
        engine: str | None = None,
        *,
        threshold: float | None = None,
        threads: int | None = None,
        batch_size: int = 8,
    ) -> None:
        self._run, metadata, self.engine = open_session(Path(path), engine, threads)
        self.metadata = metadata if threshold is None else metadata.with_threshold(threshold)
        self.batch_size = batch_size

    @property
    def calibration(self) -> Calibration:
        return self.metadata.calibration

    def __call__(self, images: Any) -> tuple[Array, Array | None]:
        """Score images.

        Args:
            images: uint8 (B, H, W, 3) RGB, or a sequence of paths, PIL images and uint8 (H, W, 3) or (H, W) arrays of any
                sizes; one of these alone is a batch of one. They are resized and cropped as the run did.

        Returns:
            float32 (B,) raw scores and float32 (B, 1, h, w) maps at the detector's input size, or None without maps.

        Raises:
            DataError: an image that cannot be read or is no uint8 RGB.
        """
        said = [scored for batch in self._batches(_several(images)) for scored in self.score(batch)]
        if not said:
            raise DataError("no image was given to the detector.")
        scores = np.array([scored.score for scored in said], dtype=np.float32)
        maps = [scored.map for scored in said if scored.map is not None]
        return scores, np.stack(maps) if maps else None

    def is_anomalous(self, scores: Array) -> NDArray[np.bool_]:
        """The verdicts on raw scores (B,); DataError where the detector has no threshold."""
        if self.calibration.threshold is None:
            raise DataError("this detector has no threshold: give one, Detector(path, threshold=X).")
        return np.asarray(scores) > self.calibration.threshold

    def decode(self, path: str | Path) -> NDArray[np.uint8]:
        """An image file as the graph wants it: uint8 (h, w, 3)."""
        return self.metadata.input_spec.array(read_image(path, grey=True))

    def score(self, images: Sequence[NDArray[np.uint8]]) -> list[Scored]:
        """What is said of each of several images of :meth:`decode`."""
        said: list[Scored] = []
        for start in range(0, len(images), self.batch_size):
            batch = np.stack(images[start : start + self.batch_size])
            made = dict(zip(self.metadata.outputs, self._run(batch), strict=True))
            maps, reconstruction = made.get("maps"), made.get("reconstruction")
            said += [
                Scored(
                    batch[i],
                    float(made["scores"][i]),
                    None if maps is None else maps[i],
                    None if reconstruction is None else reconstruction[i],
                )
                for i in range(len(batch))
            ]
        return said

    def _batches(self, images: Sequence[Any]) -> Iterator[list[NDArray[np.uint8]]]:
        for start in range(0, len(images), self.batch_size):
            yield [self._placed(image) for image in images[start : start + self.batch_size]]

    def _placed(self, image: Any) -> NDArray[np.uint8]:
        if isinstance(image, str | Path):
            return self.decode(image)
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
                raise DataError(f"an array image must be (H, W, 3) of uint8, not {image.shape} of {image.dtype}.")
            image = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
        if not isinstance(image, Image.Image):
            raise DataError(f"cannot take a {type(image).__name__} as an image: give a path, a PIL image or an array.")
        return self.metadata.input_spec.array(to_rgb(image))


def _several(images: Any) -> Sequence[Any]:
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, np.ndarray):
        single = images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (1, 3))
        return [images] if single else list(images)
    return list(images)


def open_detector(path: Path, engine: str, threads: int | None = None) -> Detector:
    """What ``anomaly predict`` opens a file with."""
    return Detector(path, engine, threads=threads)
