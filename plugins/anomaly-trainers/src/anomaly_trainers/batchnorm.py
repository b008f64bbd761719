"""Batch normalisation over the whole batch when it is split over several processes, on any device.

torch's own ``SyncBatchNorm`` runs only on GPUs and replaces modules. This context changes what every batch normalisation
computes while it is active, so that the number of processes does not change the training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def synchronized_batch_norm(processes: int) -> AbstractContextManager[Any]:
    """Inside, batch statistics are computed over the shares of all processes; nothing changes with one process."""
    return _Synchronized() if processes > 1 else nullcontext()


class _Synchronized(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``F.batch_norm`` over the batch of all processes; always in float32, even under autocast."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    from torch.distributed.nn.functional import all_reduce  # differentiable: gradients are those of the joint statistics too

    with torch.autocast(x.device.type, enabled=False):
        values = x.float()
        rest = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        count = values.new_tensor([values.numel() / values.shape[1]])
        count = all_reduce(count)
        mean = all_reduce(values.sum(dim=rest)) / count
        centred = values - mean.view(shape)
        variance = all_reduce(centred.square().sum(dim=rest)) / count
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((variance * count / (count - 1)).to(running_var.dtype), momentum)
        normed: Tensor = centred * (variance + eps).rsqrt().view(shape)
        if weight is not None:
            normed = normed * weight.view(shape)
        if bias is not None:
            normed = normed + bias.view(shape)
        return normed.to(x.dtype)
