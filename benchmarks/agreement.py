"""A pytest plugin that notes how closely tests agree with their golden files: ``python benchmarks/fidelity.py --golden``.

It wraps numpy's and torch's comparisons of arrays, and writes the greatest difference that they let pass, relative to the
expected array's greatest absolute value, to the file that $ANOMALY_AGREEMENT names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

_differences: list[tuple[float, float]] = []  # (found, allowed)


def _relative(actual: Any, expected: Any) -> float:
    found, wanted = (np.asarray(torch.as_tensor(part).detach().cpu(), dtype=np.float64) for part in (actual, expected))
    if not wanted.size or (found.shape != wanted.shape and found.size != wanted.size):
        return 0.0
    scale = float(np.abs(wanted).max()) or 1.0
    return float(np.abs(found.reshape(wanted.shape) - wanted).max()) / scale


def _noting(compare: Callable[..., None]) -> Callable[..., None]:
    @wraps(compare)
    def noted(actual: Any, expected: Any, *args: Any, **options: Any) -> None:
        compare(actual, expected, *args, **options)
        allowed = max(float(options.get("rtol") or (args[0] if args else 0) or 0), 0.0)
        _differences.append((_relative(actual, expected), allowed))

    return noted


np.testing.assert_allclose = _noting(np.testing.assert_allclose)
torch.testing.assert_close = _noting(torch.testing.assert_close)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Write what was found."""
    if target := os.environ.get("ANOMALY_AGREEMENT"):
        found, allowed = ([pair[part] for pair in _differences] or [0.0] for part in (0, 1))
        result = {"arrays": len(_differences), "greatest": max(found), "allowed": max(allowed)}
        Path(target).write_text(json.dumps(result), encoding="utf-8")
