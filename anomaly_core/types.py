"""What flows through the house: Sample -> Batch -> Prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from anomaly_core.calibration import Calibration

NORMAL, ANOMALOUS = 0, 1


@dataclass(frozen=True)
class Sample:
    """One image of a data set.

    Args:
        path: the image file.
        label: 0 normal, 1 anomalous, None unknown.
        mask_path: file whose non-zero pixels are defective; None where there is none.
        category: the object or texture, such as ``candle``.
        defect: the kind of defect (the folder's name); ``good`` for normal images.
    """

    path: Path
    label: int | None = None
    mask_path: Path | None = None
    category: str = ""
    defect: str = ""


@dataclass
class Batch:
    """Several images of one size, with what is known of them.

    Args:
        images: float32 RGB in [0, 1], (B, 3, H, W), resized and cropped as the modeler's InputSpec says, not normalised. To
            score with ``data.tile``: one image in its own geometry.
        labels: int64 (B,): 0 normal, 1 anomalous, -1 unknown.
        masks: bool (B, 1, H, W) in the images' geometry, or None where the data set has no masks.
        has_mask: bool (B,): False where an anomalous image came without its mask, so that its pixels say nothing.
        samples: the B samples.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor | None
    has_mask: Tensor
    samples: list[Sample]

    def __len__(self) -> int:
        return len(self.samples)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on a device."""
        masks = None if self.masks is None else self.masks.to(device)
        return Batch(self.images.to(device), self.labels.to(device), masks, self.has_mask.to(device), self.samples)

    def __getitem__(self, chosen: slice) -> Batch:
        """Consecutive images of the batch."""
        masks = None if self.masks is None else self.masks[chosen]
        return Batch(self.images[chosen], self.labels[chosen], masks, self.has_mask[chosen], self.samples[chosen])


@dataclass
class Prediction:
    """What a modeler says of B images. Higher is always more anomalous.

    Args:
        scores: float32 (B,), raw: never clamped, squashed or rescaled.
        maps: float32 (B, 1, H, W) at the model's input size (with ``data.tile`` the image's own), or None.
        reconstruction: float32 (B, 3, H, W) in [0, 1] from methods that reconstruct, else None.
    """

    scores: Tensor
    maps: Tensor | None = None
    reconstruction: Tensor | None = None

    def cpu(self) -> Prediction:
        """The same prediction, detached, as float32 on the CPU."""
        maps, reconstruction = (
            None if part is None else part.detach().float().cpu() for part in (self.maps, self.reconstruction)
        )
        return Prediction(self.scores.detach().float().cpu(), maps, reconstruction)

    @staticmethod
    def joined(parts: Sequence[Prediction]) -> Prediction:
        """The predictions of several batches as one; maps of several sizes as the greatest, NaN where there is no image."""
        if len(parts) == 1:
            return parts[0]
        import torch

        maps = [part.maps for part in parts if part.maps is not None]
        made = [part.reconstruction for part in parts if part.reconstruction is not None]
        scores = torch.cat([part.scores for part in parts])
        return Prediction(scores, _joined(maps) if maps else None, _joined(made) if made else None)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """(b, C, h, w) tensors as one (B, C, H, W) of the greatest size, NaN where there is no image."""
    import torch
    from torch.nn.functional import pad

    height, width = (max(part.shape[axis] for part in parts) for axis in (-2, -1))
    if any(part.shape[-2:] != (height, width) for part in parts):
        parts = [pad(p, (0, width - p.shape[-1], 0, height - p.shape[-2]), value=torch.nan) for p in parts]
    return torch.cat(list(parts))


@dataclass
class Scored:
    """What a detector says of one image, as numpy arrays.

    Args:
        image: uint8 (H, W, 3) RGB, as the network saw it.
        score: raw; higher is more anomalous.
        map: float32 (1, H, W), or None.
        reconstruction: float32 (3, H, W) in [0, 1], or None.
    """

    image: NDArray[np.uint8]
    score: float
    map: NDArray[np.float32] | None = None
    reconstruction: NDArray[np.float32] | None = None


class Scorer(Protocol):
    """What ``anomaly predict`` asks of a detector, be it a run's or one that was exported."""

    @property
    def calibration(self) -> Calibration:
        """Its threshold, and p-values."""

    def decode(self, path: str | Path) -> Any:
        """An image file, ready for :meth:`score`; called by several threads. DataError where it cannot be read."""

    def score(self, images: Sequence[Any]) -> list[Scored]:
        """What is said of each of several decoded images; called by one thread at a time."""
