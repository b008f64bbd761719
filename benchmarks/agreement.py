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


def _array(value: Any) -> Any:
    return np.asarray(torch.as_tensor(value).detach().cpu(), dtype=np.float64)


def _noting(compare: Callable[..., None]) -> Callable[..., None]:
    @wraps(compare)
    def noted(actual: Any, expected: Any, *args: Any, **options: Any) -> None:
        compare(actual, expected, *args, **options)
        wanted = _array(expected)
        scale = float(np.abs(wanted).max(initial=0)) or 1.0
        found = float(np.abs(_array(actual) - wanted).max(initial=0)) / scale
        relative = float(options.get("rtol", args[0] if args else 0) or 0)
        _differences.append((found, relative + float(options.get("atol") or 0) / scale))

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
