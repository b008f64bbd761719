"""A finished run applied to new images: paths, PIL images, arrays or tensors, one or many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from anomaly_core.base.modeler import BaseModeler
from anomaly_core.base.tiled import scorer
from anomaly_core.base.trainer import score_images
from anomaly_core.calibration import Calibration
from anomaly_core.config import RunConfig
from anomaly_core.engines import use_engine
from anomaly_core.errors import DataError
from anomaly_core.exhaustion import Portions
from anomaly_core.experiment import Experiment
from anomaly_core.inputs import Native, as_images, read_image, to_rgb
from anomaly_core.processes import choose_device
from anomaly_core.registry import registry
from anomaly_core.types import Prediction, Scored

ImageLike = Any  # str | Path | PIL.Image.Image | numpy (H, W, 3) uint8 | tensor (3, H, W)


class Detector:
    """A fitted detector.

    Attributes:
        config: of the run that fitted it.
        calibration: its threshold, and p-values.
    """

    def __init__(self, modeler: BaseModeler, config: RunConfig, calibration: Calibration, device: torch.device) -> None:
        self.modeler = modeler.to(device).eval()
        self.config = config
        self.calibration = calibration
        self.device = device
        self._portions = Portions("scoring")

    def predict(self, images: ImageLike, *, batch_size: int = 32) -> Prediction:
        """Score one image or several.

        Args:
            images: paths, PIL images, numpy arrays (H, W, 3) or (H, W) of uint8, or tensors (3, H, W) of uint8 or of floats in
                [0, 1]; one, a sequence of them, or a (B, ...) array or tensor. Any size: they are resized as in the run.
            batch_size: how many go through the network at once; does not change the scores.

        Returns:
            Scores (B,), maps (B, 1, H, W) and, from methods that reconstruct, reconstructions (B, 3, H, W) at the model's
            input size, float32 on the CPU; B is 1 for one image. Of a run with ``data.tile`` they have the image's own size;
            where sizes differ, the smaller ones are NaN at the right and below.
        """
        parts = [prediction for _, prediction in self.stream(_several(images), batch_size=batch_size)]
        if not parts:
            raise DataError("no image was given to predict.")
        return Prediction.joined(parts)

    def stream(self, images: Iterable[ImageLike], *, batch_size: int = 32) -> Iterator[tuple[Tensor, Prediction]]:
        """Batches of (inputs (B, 3, H, W) in [0, 1], prediction), in order and in constant memory.

        Of a run with ``data.tile``: one image a batch, inputs and maps of its own size; ``batch_size`` counts tiles.
        """
        if self.config.data.tile is not None:
            yield from self._stream_tiled(images, batch_size)
            return
        held: list[Tensor] = []
        for image in images:
            held.append(self.modeler.input_spec.image(as_image(image)))
            if len(held) == batch_size:
                yield self._score(held)
                held = []
        if held:
            yield self._score(held)

    def _stream_tiled(self, images: Iterable[ImageLike], batch_size: int) -> Iterator[tuple[Tensor, Prediction]]:
        """Each image by itself, ``batch_size`` of its tiles through the network at once."""
        whole = scorer(self.modeler, replace(self.config.data, batch_size=batch_size))
        for image in images:
            inputs = as_images(Native().array(as_image(image))[None])
            with torch.inference_mode():
                prediction = whole.predict_step(inputs.to(self.device)).cpu()
            yield inputs, prediction

    def decode(self, path: str | Path) -> NDArray[np.uint8]:
        """An image file as uint8 (H, W, 3) RGB, in the geometry of the run; DataError where it cannot be read."""
        if self.config.data.tile is not None:
            return np.asarray(read_image(path))
        return self.modeler.input_spec.array(read_image(path, grey=True))

    def score(self, images: Sequence[NDArray[np.uint8]]) -> list[Scored]:
        """What is said of each of several images of :meth:`decode`."""
        if self.config.data.tile is not None:
            predictions = (prediction for _, prediction in self._stream_tiled(images, self.config.data.batch_size))
            return [scored for image, p in zip(images, predictions, strict=True) for scored in _apart(image[None], p)]
        inputs = np.stack(images)
        return _apart(inputs, score_images(self.modeler, as_images(inputs), self.device, self._portions))

    def _score(self, held: list[Tensor]) -> tuple[Tensor, Prediction]:
        inputs = torch.stack(held)
        return inputs, score_images(self.modeler, inputs, self.device, self._portions)


def load_run(folder: str | Path, device: str = "auto", engine: str | None = None) -> Detector:
    """The detector that a finished run left in its folder; loading executes nothing and looks for no backbone.

    Args:
        folder: the run's.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        engine: what computes frozen networks, such as ``openvino``; None: what the run was fitted with (``base.engine``).

    Raises:
        RunError: the folder is no complete run.
        PluginError: the distribution that holds its method or the engine is not installed.
    """
    experiment = Experiment.open(folder)
    config = experiment.config()
    modeler: BaseModeler = registry.models[config.model.name].build(config.model, backbones=None)
    modeler.load_state(experiment.load_state())
    use_engine(modeler, engine or config.base.engine)
    return Detector(modeler, config, experiment.calibration(), choose_device(device))


def _apart(images: NDArray[np.uint8], prediction: Prediction) -> list[Scored]:
    """A prediction of (B, H, W, 3) images, one by one."""
    maps, made = (None if p is None else p.numpy() for p in (prediction.maps, prediction.reconstruction))
    return [
        Scored(images[i], score, None if maps is None else maps[i], None if made is None else made[i])
        for i, score in enumerate(prediction.scores.tolist())
    ]


def as_image(image: ImageLike) -> Image.Image:
    """Any accepted form of an image as 8-bit RGB; DataError says what is wrong with another."""
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        try:
            return to_rgb(image)
        except Exception as error:  # Pillow decodes a file that it has opened only now, and raises what it stumbles over
            name = getattr(image, "filename", "") or "given"
            raise DataError(f"cannot read the image {name!r}: {error or type(error).__name__}. Give another.") from error
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise DataError(f"a tensor image must be (3, H, W), not {tuple(image.shape)}.")
        if image.is_floating_point():
            image = (image.clamp(0, 1) * 255).round().to(torch.uint8)
        image = image.permute(1, 2, 0).cpu().numpy()
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
            raise DataError(f"an array image must be (H, W, 3) of uint8, not {image.shape} of {image.dtype}.")
        return Image.fromarray(image.squeeze(-1) if image.ndim == 3 and image.shape[2] == 1 else image).convert("RGB")
    raise DataError(f"cannot take a {type(image).__name__} as an image: give a path, a PIL image, an array or a tensor.")


def _several(images: ImageLike) -> Sequence[ImageLike]:
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, np.ndarray | Tensor):
        single = images.ndim == 2 or (images.ndim == 3 and (isinstance(images, Tensor) or images.shape[-1] in (1, 3)))
        return [images] if single else list(images)
    return list(images)
