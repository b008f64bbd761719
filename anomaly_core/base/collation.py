"""Joining the batches of a loader, and their way out of its workers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from anomaly_core.types import Batch


def collate(batches: Iterable[Batch]) -> Batch:
    """Join batches of the same geometry into one."""
    items = list(batches)
    joined = items[0]
    if len(items) > 1:
        masks, valid = (
            [part for part in parts if part is not None] for parts in zip(*((i.masks, i.valid) for i in items), strict=True)
        )
        joined = Batch(
            images=torch.cat([item.images for item in items]),
            labels=torch.cat([item.labels for item in items]),
            masks=torch.cat(masks) if masks else None,
            has_mask=torch.cat([item.has_mask for item in items]),
            samples=[sample for item in items for sample in item.samples],
            valid=torch.cat(valid) if valid else None,
        )
    if get_worker_info() is not None:
        # Here and not in the queue's own thread, where a failure would lose the batch, and the run would wait for it for ever.
        for name, tensor in vars(joined).items():
            if isinstance(tensor, Tensor):
                try:
                    tensor.share_memory_()
                except RuntimeError:  # no room, or too many open files
                    setattr(joined, name, _Piped(tensor.numpy()))
    return joined


class _Piped(NamedTuple):
    """A tensor that leaves a loader's worker by the pipe, byte by byte, instead of in shared memory."""

    array: NDArray[np.generic]

    def __reduce__(self) -> tuple[Callable[..., Tensor], tuple[NDArray[np.generic]]]:
        return _from_pipe, (self.array,)


def _from_pipe(array: NDArray[np.generic]) -> Tensor:
    warnings.warn(
        "shared memory (/dev/shm) has no room for what data.num_workers processes decode: it comes by a slower way, and is the "
        "same. Lower data.num_workers or data.batch_size, or give a container more (docker run --shm-size=2g).",
        stacklevel=2,
    )
    return torch.from_numpy(array)
