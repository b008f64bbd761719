"""Malicious files of each kind: they make a file in the hands of a loader that executes what it loads."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

KINDS = ("torch", "old torch", "pickle", "npy", "joblib")
# the same as YAML; {} is the file that it makes
YAML = (
    "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.PosixPath [{}]]",
    "!!python/object/new:os.system ['touch {}']",
    "base: !!python/name:os.system\nmodel: !!python/object/apply:os.system ['touch {}']",
)


class Canary:
    """An object whose unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def poisons(canary: Path) -> dict[str, bytes]:
    """Malicious files by kind."""
    saved, old, array = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"weight": Canary(canary)}, saved)
    torch.save({"weight": Canary(canary)}, old, _use_new_zipfile_serialization=False)
    np.save(array, np.array([Canary(canary)], dtype=object), allow_pickle=True)
    return {
        "torch": saved.getvalue(),
        "old torch": old.getvalue(),
        "pickle": pickle.dumps(Canary(canary)),
        "npy": array.getvalue(),
        "joblib": _packed(Canary(canary)),
    }


def _packed(canary: Canary) -> bytes:
    """As joblib writes it; where it is not installed, a pickle of the protocol that it uses."""
    try:
        import joblib
    except ModuleNotFoundError:
        return pickle.dumps(canary, protocol=3)
    buffer = io.BytesIO()
    joblib.dump(canary, buffer)
    return buffer.getvalue()
