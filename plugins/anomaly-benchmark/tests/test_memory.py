"""The peak memory of a run, which the tables compare."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from anomaly_benchmark.memory import forget_peak, peak_megabytes
from anomaly_core import RunConfig, RunFolder, run_experiment


def test_the_peak_is_at_least_what_is_held() -> None:
    held = torch.ones(64 * 2**20, dtype=torch.uint8)
    assert peak_megabytes() > len(held) / 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is the process's")
def test_what_was_held_before_is_forgotten() -> None:
    before = torch.ones(256 * 2**20, dtype=torch.uint8)
    peak = peak_megabytes()
    del before
    forget_peak()
    assert peak_megabytes() < peak - 128


def test_the_manifest_of_a_run_holds_its_peak(options: Callable[..., dict[str, Any]]) -> None:
    run = run_experiment(RunConfig.create(model="vanilla_ae", data="mvtec", overrides=options(**{"data.category": "grid"})))
    assert 50 < RunFolder(run.folder).manifest()["peak_memory_mb"] <= peak_megabytes() + 1
