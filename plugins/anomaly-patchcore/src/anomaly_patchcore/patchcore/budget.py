"""The budget of memory: how it is divided, and whether it holds what a run will need."""

from __future__ import annotations

import math
import re

from torch import Tensor

from anomaly_core import ConfigError
from anomaly_patchcore.patchcore.config import PatchCoreConfig
from anomaly_patchcore.patchcore.store import PatchStore

IMAGES = 8  # a budget leaves one part of so many to decoded images
UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}


def parse_bytes(text: str) -> int:
    """``2GiB``, ``500 MB`` or ``1e9`` as bytes; ConfigError where it is no size."""
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    try:
        if match and match[2].upper() in UNITS and float(match[1]) > 0:
            return int(float(match[1]) * UNITS[match[2].upper()])
    except ValueError:  # such as 1.2.3
        pass
    raise ConfigError(f"model.memory_budget={text!r} is no size in memory. Write a number and a unit, such as 500MB or 2GiB.")


def divided(config: PatchCoreConfig) -> tuple[int | None, int | None]:
    """The bytes that patches and bank may take, and decoded images; None without a budget.

    Raises:
        ConfigError: it is no size, or leaves nothing beside cached features.
    """
    if config.memory_budget is None:
        return None, None
    budget = parse_bytes(config.memory_budget)
    room = budget // IMAGES
    budget -= room
    if config.feature_cache == "ram":
        budget -= int(config.cache_budget)
        if budget <= 0:
            raise ConfigError(
                f"model.memory_budget={config.memory_budget} leaves nothing beside the features that "
                f"model.feature_cache=ram keeps: model.cache_budget={config.cache_budget:d} bytes. Lower that, or set "
                "model.feature_cache=auto."
            )
    return budget, room


def require_room(store: PatchStore, config: PatchCoreConfig, expected: int | None, patches: Tensor) -> None:
    """ConfigError if the store's budget cannot hold the memory bank of the ``expected`` images; (B, h, w, D): of the first."""
    if store.budget is None or expected is None:
        return
    total = expected * patches.shape[1] * patches.shape[2]
    needed, fits = store.least(total, patches.shape[3])
    if needed > store.budget:
        needed += int(config.cache_budget) if config.feature_cache == "ram" else 0
        option = "coreset_ratio" if config.bank_size is None else "bank_size"
        enough = math.ceil(needed * IMAGES / (IMAGES - 1) / 2**20)
        raise ConfigError(
            f"model.memory_budget={config.memory_budget} cannot hold the memory bank: {expected} images have {total} "
            f"patches, and model.{option}={getattr(config, option)} keeps {store.wanted_of(total)} of them. Set "
            f"model.memory_budget={enough}MiB or more, or model.bank_size={fits} or less."
        )
