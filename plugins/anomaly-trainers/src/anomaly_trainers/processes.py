"""Accelerate's Accelerator, configured so that the number of processes does not change the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from anomaly_core import ConfigError, is_launched, process_state

if TYPE_CHECKING:
    from accelerate import Accelerator


def accelerator(device: torch.device, precision: str = "32", seed: int = 0) -> Accelerator:
    """An Accelerator that splits each batch over the processes, so that their number does not change the training.

    Args:
        device: the device on which the caller puts modeler and batches.
        precision: ``32``, ``bf16-mixed`` or ``16-mixed``.
        seed: with the epoch's number, sets the order of shuffled images, the same in every process and after a resume.

    Raises:
        ConfigError: the device cannot compute in that precision.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DataLoaderConfiguration

    joined = process_state(device.type)
    if not is_launched():
        joined.device = device  # a single process uses the requested device
    # Accelerate keeps one state per process, but the next run may need another precision.
    AcceleratorState._reset_state()
    mixed = {"32": "no", "bf16-mixed": "bf16", "16-mixed": "fp16"}[precision]
    try:
        processes = Accelerator(
            mixed_precision=mixed,
            cpu=device.type == "cpu",
            device_placement=False,
            dataloader_config=DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True, data_seed=seed),
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"train.precision={precision} is not available on the device {str(device)!r}: {error}. Use train.precision=32."
        ) from error
    if mixed == "fp16" and device.type == "cpu":
        raise ConfigError("train.precision=16-mixed needs a GPU. Use train.precision=32 or bf16-mixed.")
    return processes
