"""The device and the processes of a run: the only access to Hugging Face Accelerate's process state."""

from __future__ import annotations

import os
import platform
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import torch

from anomaly_core.config.sections import DEVICES
from anomaly_core.errors import ConfigError

if TYPE_CHECKING:
    from accelerate import PartialState

PATIENCE = timedelta(hours=6)  # other processes wait while the main one tests


def is_launched() -> bool:
    """Whether torchrun (``--devices``) or accelerate launch started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def process_state(device: str = "auto") -> PartialState:
    """Accelerate's view of the processes; joins the process group if there are several."""
    from accelerate import PartialState

    cpu = is_launched() and (device == "cpu" or not torch.cuda.is_available())
    return PartialState(cpu=cpu, **({"timeout": PATIENCE} if is_launched() else {}))


def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in one instruction; where it does not, that takes far longer than float32."""
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):  # on x86: AVX-512, no more
        return False
    return platform.machine().lower() in ("arm64", "aarch64") or getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()


def choose_device(name: str) -> torch.device:
    """The device for a name; with ``auto``, Accelerate chooses. ConfigError if there is no such device, or not here."""
    if not re.fullmatch(DEVICES, name):
        raise ConfigError(f"no device is called {name!r}. Give auto, cpu, mps, cuda or, for one of several, cuda:N.")
    if is_launched() and ":" in name:
        raise ConfigError(f"the device {name!r} is one, and this run has several processes. Use cuda, or leave out --devices.")
    if name == "auto" or is_launched():
        return torch.device(process_state(name).device)
    device = torch.device(name)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[device.type]
    if not available or (device.index or 0) >= max(1, torch.cuda.device_count()):
        raise ConfigError(f"the device {name!r} is not available here. Use auto or cpu (--device, or base.device).")
    return device
