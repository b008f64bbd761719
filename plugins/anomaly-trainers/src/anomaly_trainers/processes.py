"""Accelerate's Accelerator, configured so that the number of processes does not change the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from anomaly_core import ConfigError, has_bfloat16, is_launched, process_state

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
    return processes


def require_precision(precision: str, device: torch.device) -> None:
    """Raise ConfigError if the CPU, where that is the device, lacks a precision."""
    if device.type != "cpu":
        return
    if precision == "16-mixed":
        raise ConfigError("train.precision=16-mixed needs a GPU. Use train.precision=32.")
    if precision == "bf16-mixed" and not has_bfloat16():
        raise ConfigError(
            "train.precision=bf16-mixed: this processor has no bfloat16 (AVX512-BF16 or AMX), and would train hundreds of "
            "times slower than in float32. Use train.precision=32, or a GPU."
        )
