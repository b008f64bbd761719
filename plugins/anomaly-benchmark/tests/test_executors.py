"""Executors, and `anomaly predict` on them: results in order, the same rows as alone, and what is said when one is missing."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_benchmark import grid, run_grid
from anomaly_benchmark.backends import BACKENDS
from anomaly_core import MissingLibrary, main, registry

LIBRARIES = {"processes": "concurrent", "loky": "joblib", "dask": "distributed", "ray": "ray"}
EXECUTORS = [pytest.param(name, marks=[pytest.mark.slow]) for name in LIBRARIES]


def require(executor: str) -> None:
    if importlib.util.find_spec(LIBRARIES[executor]) is None:
        pytest.skip(f"{LIBRARIES[executor]} is not installed: pip install 'anomaly-benchmark[{executor}]'")


def test_every_backend_is_an_executor_beside_plain_processes() -> None:
    assert set(registry.executors) >= {*BACKENDS, "processes"}
    for name in BACKENDS:
        assert registry.executors[name].distribution == "anomaly-benchmark"
        failure = registry.executors[name].check()
        there = importlib.util.find_spec(registry.executors[name].spec.module or "joblib") is not None
        assert failure is None if there else isinstance(failure, MissingLibrary)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_executor_keeps_the_order(executor: str) -> None:
    require(executor)
    numbers = [60_000, 3, 2, 1, 4]  # the first takes longest by far
    with registry.executors[executor].load()(2, None) as run:
        assert list(run(math.factorial, numbers)) == list(map(math.factorial, numbers))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_predict_gives_the_same_rows_as_alone(
    executor: str, options: Callable[..., dict[str, Any]], tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    require(executor)

    def predict(*flags: str) -> list[list[str]]:
        with pytest.raises(SystemExit) as stop:
            main(["predict", cell.folder, str(images), "--device", "cpu", *flags])
        out, err = capfd.readouterr()
        assert stop.value.code == 0, err
        header, *rows = out.splitlines()
        assert header == "path,score,is_anomalous,p_value,regions"
        return [row.split(",") for row in rows]

    (cell,) = run_grid(grid(["vanilla_ae"], ["mvtec"], categories=["bottle"], overrides=options()))
    images = tree / "bottle" / "test"
    alone, shared = predict(), predict("--jobs", "2", "--backend", executor)
    assert len(alone) == 6
    assert [(path, verdict) for path, _, verdict, *_ in shared] == [(path, verdict) for path, _, verdict, *_ in alone]
    scores, others = ([float(row[1]) for row in rows] for rows in (alone, shared))
    np.testing.assert_allclose(scores, others, rtol=1e-5)


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_backend_without_its_library_says_what_to_install(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, LIBRARIES[backend], None)  # which makes its import fail
    executor = registry.executors[backend].load()
    with pytest.raises(MissingLibrary, match=rf'pip install "anomaly-benchmark\[{backend}\]"'), executor(2, None):
        pass
