"""The core's data types: Sample -> Batch -> Prediction; and Detector, which gives predictions for image files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, cast

from typing_extensions import TypeVar

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
    """

    scores: Array
    maps: Array | None = None
    reconstruction: Array | None = None

    @property
    def score(self) -> float:
        """The score of the only image."""
        (score,) = cast(Any, self.scores)
        return float(score)

    def __getitem__(self, chosen: slice | list[int]) -> Prediction[Array]:
        """The prediction for some of the images."""
        parts: list[Any] = [self.scores, self.maps, self.reconstruction]
        return Prediction(*(None if part is None else part[chosen] for part in parts))

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
        return Prediction(self.scores.detach().float().cpu(), maps, reconstruction)

    def apart(self: Prediction) -> list[Prediction[NDArray[np.float32]]]:
        """A prediction for each image, as numpy arrays; the tensors must be on the CPU."""
        parts = (None if part is None else part.numpy() for part in (self.scores, self.maps, self.reconstruction))
        whole: Prediction[NDArray[np.float32]] = Prediction(*parts)  # type: ignore[arg-type]  # scores are never None
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
        return Prediction(torch.cat([part.scores for part in parts]), maps, reconstruction)


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
        """A prediction (B = 1) for each of several decoded images; called by one thread at a time."""
