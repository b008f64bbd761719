"""The core's data types: Sample -> Batch -> Prediction; and Detector, which gives predictions for image files."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, cast

from typing_extensions import TypeVar

from anomaly_core.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

    from anomaly_core.imaging.reading import ImageReader
    from anomaly_core.run.calibration import Calibration

NORMAL, ANOMALOUS = 0, 1
Array = TypeVar("Array", default="Tensor")


@dataclass(frozen=True)
class MaskSource(ABC):
    """A mask that is no image file, such as a polygon or a box; a subclass is a frozen dataclass, hashable and picklable.

    Args:
        path: the file that it comes from, for messages.
    """

    path: Path

    @abstractmethod
    def read(self) -> Image:
        """The mask: mode ``L``, 0 and 255, of the upright image's size. DataError if it cannot be read."""


@dataclass(frozen=True)
class Sample:
    """One image of a data set.

    Args:
        path: the image file.
        label: 0 normal, 1 anomalous, None unknown.
        mask_path: a file in which non-zero pixels are defective, several such files, or a source; None if there is none.
        category: the object or texture, such as ``candle``.
        defect: the kind of defect (the folder's name); ``good`` for normal images.
        extra: facts specific to the data set, such as a saturation threshold for each defect; metrics read them. Images of
            one ``group``, such as those of one part, are never divided between fitting and holding out.
    """

    path: Path
    label: int | None = None
    mask_path: Path | tuple[Path, ...] | MaskSource | None = None
    category: str = ""
    defect: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """The files that the mask comes from."""
        if self.mask_path is None or isinstance(self.mask_path, tuple):
            return self.mask_path or ()
        return (self.mask_path.path if isinstance(self.mask_path, MaskSource) else self.mask_path,)


@dataclass
class Batch:
    """Several images of one size, with their labels and masks.

    Args:
        images: float32 RGB in [0, 1], (B, 3, H, W), in the geometry of the modeler's InputSpec, not normalised. When scoring
            with ``data.tile``: one image in its own geometry.
        labels: int64 (B,): 0 normal, 1 anomalous, -1 unknown.
        masks: bool (B, 1, H, W) in the images' geometry, or None if the data set has no masks.
        has_mask: bool (B,): False for an image without a mask that is not known to be normal: its pixels have no known labels.
        samples: the B samples.
        valid: bool (B, 1, H, W), the pixels that count with ``data.roi`` and ``data.ignore``; None: all of them.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor | None
    has_mask: Tensor
    samples: list[Sample]
    valid: Tensor | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def to(self, device: torch.device | str) -> Batch:
        """The batch with its tensors on a device."""
        masks, valid = (None if part is None else part.to(device) for part in (self.masks, self.valid))
        return Batch(self.images.to(device), self.labels.to(device), masks, self.has_mask.to(device), self.samples, valid)

    def __getitem__(self, chosen: slice | list[int]) -> Batch:
        """Some images of the batch."""
        masks, valid = (None if part is None else part[chosen] for part in (self.masks, self.valid))
        samples = [self.samples[i] for i in (range(len(self))[chosen] if isinstance(chosen, slice) else chosen)]
        return Batch(self.images[chosen], self.labels[chosen], masks, self.has_mask[chosen], samples, valid)


@dataclass
class Prediction(Generic[Array]):
    """A method's output for B images: tensors from a modeler, numpy arrays from a detector. Higher is more anomalous.

    Args:
        scores: float32 (B,), raw: never clamped, squashed or rescaled.
        maps: float32 (B, 1, H, W) at the model's input size (with ``data.tile`` the image's own), or None.
        reconstruction: float32 (B, 3, H, W) in [0, 1] from methods that reconstruct, else None.
        p_values: float64 (B,), from a detector with a threshold, else None: each the share of normal images with at least this
            score; NaN where the score or the map is not finite, and there is no verdict.
        threshold: of the detector; None without one.
    """

    scores: Array
    maps: Array | None = None
    reconstruction: Array | None = None
    p_values: Array | None = None
    threshold: float | None = None

    @property
    def score(self) -> float:
        """The score of the only image."""
        (score,) = cast(Any, self.scores)
        return float(score)

    @property
    def is_anomalous(self) -> Array | None:
        """The verdicts, bool (B,): scores above the threshold; None without one. DataError if an image has no verdict."""
        if self.threshold is None or self.p_values is None:
            return None
        p_values = cast(Any, self.p_values)
        if damaged := [number for number, value in enumerate(p_values.tolist()) if math.isnan(value)]:
            raise DataError(
                f"no verdict on {len(damaged)} of {len(p_values)} images, first number {damaged[0]}: its score or map is "
                "NaN or infinite. The verdicts on the others: `prediction[prediction.p_values >= 0].is_anomalous`."
            )
        verdicts: Array = self.scores + 0 * p_values > self.threshold  # in float64: float32 would round the threshold
        return verdicts

    def __getitem__(self, chosen: slice | list[int] | Array) -> Prediction[Array]:
        """The prediction for some of the images: a slice, their numbers, or a mask of type bool (B,)."""
        arrays: list[Any] = [self.scores, self.maps, self.reconstruction, self.p_values]
        parts: list[Any] = [None if array is None else array[chosen] for array in arrays]
        return Prediction(*[*parts, self.threshold])

    def finite(self: Prediction) -> list[bool]:
        """For each image, whether its score and its map are finite; for tensors."""
        fine = self.scores.isfinite()
        if self.maps is not None:
            fine &= self.maps.isfinite().flatten(1).all(dim=1)
        return list(fine.tolist())

    def cpu(self: Prediction) -> Prediction:
        """The prediction, detached, as float32 on the CPU."""
        maps, reconstruction = (
            None if part is None else part.detach().float().cpu() for part in (self.maps, self.reconstruction)
        )
        return replace(self, scores=self.scores.detach().float().cpu(), maps=maps, reconstruction=reconstruction)

    def apart(self: Prediction) -> list[Prediction[NDArray[np.float32]]]:
        """A prediction for each image, as numpy arrays; the tensors must be on the CPU."""
        tensors = self.scores, self.maps, self.reconstruction, self.p_values
        parts: list[Any] = [None if part is None else part.numpy() for part in tensors]
        whole: Prediction[NDArray[np.float32]] = Prediction(*[*parts, self.threshold])
        return [whole[i : i + 1] for i in range(len(self.scores))]

    @staticmethod
    def joined(parts: Sequence[Prediction]) -> Prediction:
        """The predictions of several batches as one; maps of different sizes are padded to the largest with NaN."""
        if len(parts) == 1:
            return parts[0]
        import torch
        from torch.nn.functional import pad

        def joined(tensors: list[Tensor]) -> Tensor | None:
            if not tensors:
                return None
            height, width = (max(tensor.shape[axis] for tensor in tensors) for axis in (-2, -1))
            edges = [(0, width - tensor.shape[-1], 0, height - tensor.shape[-2]) for tensor in tensors]
            return torch.cat(
                [pad(t, edge, value=torch.nan) if any(edge) else t for t, edge in zip(tensors, edges, strict=True)]
            )

        maps = joined([part.maps for part in parts if part.maps is not None])
        reconstruction = joined([part.reconstruction for part in parts if part.reconstruction is not None])
        p_values = [part.p_values for part in parts if part.p_values is not None]
        scores = torch.cat([part.scores for part in parts])
        return Prediction(scores, maps, reconstruction, torch.cat(p_values) if p_values else None, parts[0].threshold)


class Detector(Protocol):
    """A fitted detector: that of a run, or an exported one that needs no torch."""

    @property
    def calibration(self) -> Calibration:
        """Its threshold and p-values."""

    @property
    def reader(self) -> ImageReader:
        """How it decodes image files."""

    def decode(self, path: str | Path) -> NDArray[np.uint8]:
        """An image file as uint8 (H, W, 3) RGB for :meth:`score`; thread-safe. DataError if it cannot be read."""

    def score(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction[NDArray[np.float32]]]:
        """A prediction (B = 1) for each of several decoded images, RGB; called by one thread at a time."""

    def predict(self, images: Any, *, batch_size: int | None = None, colour: str = "RGB") -> Prediction[Any]:
        """The prediction for one image or several: paths, PIL images, arrays (H, W, 3) or tensors (3, H, W), RGB unless
        ``colour`` is ``BGR``. A run's has tensors, an exported file's numpy arrays, as it needs no torch."""
