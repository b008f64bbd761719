"""Using a detector: a finished run or an exported file, opened by its path and applied to new images."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_core import (
    AnomalyError,
    Component,
    ConfigError,
    Detector,
    ImageReader,
    Native,
    PluginError,
    Prediction,
    RunError,
    as_images,
    registry,
    require_training,
)
from anomaly_predict.given import ImageLike, as_image, placed, several
from anomaly_predict.judged import judged, whole
from anomaly_predict.quick import open_quickly
from anomaly_predict.regions import Region, only_map, regions_of

if TYPE_CHECKING:  # an exported detector needs no torch
    import torch
    from torch import Tensor

    from anomaly_core import BaseModeler, Calibration, InputSpec, RunConfig


def open_detector(
    path: str | Path,
    device: str = "auto",
    engine: str | None = None,
    threads: int | None = None,
    *,
    verify: bool = True,
    quick: bool = False,
) -> Detector:
    """The detector in a run's folder, or in a file from ``anomaly export``, which needs neither torch nor the method.

    Args:
        path: the folder, or the file; the engine that declares its suffix opens it.
        device: for a run: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        engine: the engine to compute with; None: the run's own, or the first that opens the file.
        threads: the number of threads that the engine may use; None: one per core.
        verify: whether what decides a verdict must be as it was written, by its SHA-256.
        quick: open a run without torch, in a tenth of the time, if it keeps a graph (``anomaly export RUN``) that computes the
            same; its predictions are numpy arrays then, as those of a file. Not with ``verify=False``.

    Raises:
        RunError: the folder is not a complete run, it or the file is damaged, or no installed engine opens such a file.
        PluginError: the method's distribution, or the engine or its library, is not installed.
    """
    path = Path(path)
    if path.is_dir() or not path.exists():
        kept = open_quickly(path, device, engine, threads) if quick and verify else None
        if kept is not None:
            return kept
        run = load_run(path, device, engine, verify=verify)
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        return run
    if device not in ("auto", "cpu"):
        raise ConfigError(f"{str(path)!r} is a file, which computes on the CPU, not on {device!r}. Leave the device out.")
    component = engine_for(path, engine)
    return cast(Detector, component.load("reader")(path, component.name, threads, **({} if verify else {"verify": False})))


def engine_for(path: Path, engine: str | None = None) -> Component:
    """The engine that opens an exported file: the named one, or the first that declares its suffix.

    Raises:
        RunError: no installed engine opens such a file, or the named one does not.
    """
    suffixes: dict[str, tuple[str, ...]] = {}
    for name in registry.engines if engine is None else [engine]:
        with suppress(*([PluginError] if engine is None else [])):  # skip broken engines; `list-plugins` reports them
            suffixes[name] = registry.engines[name].spec.suffixes
    names = [name for name, own in suffixes.items() if path.suffix.lower() in own]
    if not names:
        opened = ", ".join(sorted({suffix for own in suffixes.values() for suffix in own})) or "no file"
        by = f"The engine {engine!r} opens" if engine else "Installed engines (anomaly-export has some) open"
        what = f"{str(path)!r} is neither a run's folder nor a file that can be opened"
        raise RunError(f"{what}. {by}: {opened}.{_nearest(path)}")
    return registry.engines[names[0]]


def _nearest(path: Path) -> str:
    """What to give instead of a part of a detector."""
    if path.suffix.lower() == ".bin":  # of OpenVINO
        return f" A .bin file has only weights: give {path.with_suffix('.xml').name}, which must lie beside it."
    return f" Give the run's folder, {str(path.parent)!r}." if (path.parent / "manifest.json").is_file() else ""


def load_run(folder: str | Path, device: str = "auto", engine: str | None = None, *, verify: bool = True) -> RunDetector:
    """The detector of a finished run; loading executes no code from the folder and loads no pretrained weights.

    Args:
        folder: the run's folder.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        engine: the engine for frozen networks, such as ``openvino``; None: the one used for fitting (``model.engine``).
        verify: whether config, weights and calibration must be as the run wrote them, by their SHA-256.

    Raises:
        RunError: the folder is not a complete run, or a file in it is damaged.
        PluginError: torch, or the distribution that contains the method or the engine, is not installed.
        ConfigError: the method has no frozen network for an engine to compute.
    """
    from anomaly_core import RunFolder

    run = RunFolder.open(folder, verify)
    require_training(f"the run in {str(folder)!r}, unlike a file that `anomaly export` wrote,")
    from anomaly_core import choose_device

    config = run.config()
    if engine is not None:
        if not hasattr(config.model, "engine"):
            raise ConfigError(f"{config.model.name!r} has no frozen network that the engine {engine!r} could compute.")
        config = config.replace(**{"model.engine": engine})
    return RunDetector(run.modeler(config), config, run.calibration(), choose_device(device), run.reader())


class RunDetector:
    """A finished run's :class:`~anomaly_core.Detector`.

    Attributes:
        config: the config of the run that fitted it.
        calibration: its threshold and p-values.
        reader: decodes image files as those of the run were.
    """

    def __init__(
        self,
        modeler: BaseModeler,
        config: RunConfig,
        calibration: Calibration,
        device: torch.device,
        reader: ImageReader | None = None,
    ) -> None:
        from anomaly_core import Portions

        self.modeler = modeler.to(device).eval()
        self.config = config
        self.calibration = calibration
        self.reader = reader or ImageReader()
        self.device = device
        self._portions = Portions("scoring")
        self._process = os.getpid()

    @property
    def input_spec(self) -> InputSpec | None:
        """How an image becomes the model's input, on which maps lie; None with ``data.tile``: on the image itself."""
        return self.modeler.input_spec if self.config.data.tile is None else None

    def predict(self, images: ImageLike, *, batch_size: int | None = None, colour: str = "RGB") -> Prediction:
        """Score one image or several.

        Args:
            images: paths, PIL images, uint8 arrays (H, W, 3) RGB or (H, W), or tensors (3, H, W) RGB of uint8 or of floats in
                [0, 1]: one, a sequence, or a (B, ...) array or tensor. Any size: they are resized as in the run. A fourth
                channel is alpha and is dropped, as it is from a file.
            batch_size: images per forward pass; does not change the scores. None: 32.
            colour: the order of colours in arrays and tensors: ``RGB``, or ``BGR`` as OpenCV has it. The values do not tell.

        Returns:
            Scores (B,), maps (B, 1, H, W) and, for methods that reconstruct, reconstructions (B, 3, H, W) at the model's
            input size, float32 tensors on the CPU, with ``is_anomalous`` and ``p_values`` (B,); B is 1 for one image. For a run
            with ``data.tile``, maps have the image's own size; if sizes differ, the smaller ones are padded with NaN at the
            right and bottom.
        """
        return whole([part for _, part in self.stream(several(images), batch_size=batch_size or 32, colour=colour)])

    def stream(
        self, images: Iterable[ImageLike], *, batch_size: int = 32, colour: str = "RGB"
    ) -> Iterator[tuple[Tensor, Prediction]]:
        """Yield batches of (inputs (B, 3, H, W) RGB in [0, 1], prediction), in order and in constant memory.

        ``images`` and ``colour`` are those of :meth:`predict`. For a run with ``data.tile``: one image per batch, inputs and
        maps at its own size; ``batch_size`` counts tiles.
        """
        size = batch_size if self.config.data.tile is None else 1
        for held in placed(images, self.place, size, colour):
            yield self._predict(held, batch_size)

    def decode(self, path: str | Path) -> NDArray[np.uint8]:
        """An image file as uint8 (H, W, 3) RGB, in the geometry of the run; DataError if it cannot be read."""
        return self._placed(self.reader.read(path, grey=self.config.data.tile is None))

    def place(self, image: ImageLike, *, colour: str = "RGB") -> NDArray[np.uint8]:
        """An image in any form that :meth:`predict` takes, with ``colour`` as there, as :meth:`decode` gives a file: RGB."""
        return self._placed(as_image(image, self.reader, colour, grey=self.config.data.tile is None))

    def score(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction[NDArray[np.float32]]]:
        """A prediction for each of several images from :meth:`decode` or :meth:`place`, uint8 (H, W, 3) RGB."""
        batches = [images] if self.config.data.tile is None else [[image] for image in images]
        return [one for batch in batches for one in self._predict(batch, self.config.data.batch_size)[1].apart()]

    def regions(
        self,
        prediction: Prediction[Any],
        size: tuple[int, int],
        *,
        least_area: float | None = None,
        mm_per_px: float | None = None,
    ) -> tuple[Region, ...] | None:
        """What exceeds the map threshold in an image, the highest peak first; None without a map or a threshold of maps.

        Args:
            prediction: of one image, from :meth:`predict` or :meth:`score`.
            size: (height, width) of the upright image, before anything was cut off or resized.
            least_area, mm_per_px: in place of the run's ``data.least_area`` and ``data.mm_per_px``.
        """
        data = self.config.data
        return regions_of(
            only_map(prediction),
            self.calibration,
            size,
            self.input_spec,
            reader=self.reader,
            least_area=data.least_area if least_area is None else least_area,
            mm_per_px=data.mm_per_px if mm_per_px is None else mm_per_px,
        )

    def _placed(self, image: Image.Image) -> NDArray[np.uint8]:
        return (self.input_spec or Native()).array(image)

    def _predict(self, images: Sequence[NDArray[np.uint8]], tiles: int) -> tuple[Tensor, Prediction]:
        """The images, (B, 3, H, W) in [0, 1], and their prediction; ``tiles`` of a large image at once."""
        import torch

        from anomaly_core import score_images, tiled

        if os.getpid() != self._process:
            _compute_alone(self.device)
        inputs = as_images(np.stack(images))
        modeler = tiled(self.modeler, replace(self.config.data, batch_size=tiles))
        try:
            prediction = score_images(modeler, inputs, self.device, self._portions)
        except AnomalyError:
            raise
        except Exception as error:  # a method may fail in any way, and does for weights that do not fit it
            owner = registry.models[self.config.model.name].owner
            raise RunError(
                f"the model {self.config.model.name!r} of {owner} failed: {type(error).__name__}: {error}. The run may be "
                "damaged: `anomaly doctor RUN` compares its files with what it wrote. Else report it to the plugin's authors."
            ) from error
        if prediction.maps is not None and self.reader.roi:
            lowered = self.reader.lowered(prediction.maps.numpy(), self.input_spec)
            prediction = replace(prediction, maps=torch.from_numpy(lowered))
        return inputs, judged(prediction, self.calibration)


def _compute_alone(device: torch.device) -> None:
    """Compute in this thread only, in a process that was forked: OpenMP would wait for threads that the parent alone has.

    Raises:
        RunError: the detector is on a GPU, which a forked process cannot use.
    """
    if device.type != "cpu":
        raise RunError(
            f"this process was forked after the run was loaded, and cannot use its device {str(device)!r}. Load the run in "
            "this process, or start it with the method `spawn`."
        )
    import torch

    torch.set_num_threads(1)  # of this thread, and of those that begin later
    if faiss := sys.modules.get("faiss"):
        faiss.omp_set_num_threads(1)
