"""Training goes on with parts of a batch when memory runs out, and learns the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from anomaly_core import RunFolder, run_experiment
from faults import config

pytestmark = [pytest.mark.reliability, pytest.mark.usefixtures("without_report")]


def allocate(count: int, most: int, error: type[BaseException]) -> None:
    if count > most:
        raise error(f"[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate {count} images")


def test_training_in_parts_is_the_same_training(root, tmp_path, monkeypatch, record) -> None:
    from anomaly_autoencoder.modeler import ReconstructionModeler

    def weights(output: str) -> tuple[Path, dict[str, torch.Tensor]]:
        # without batch statistics and random draws, a sum of parts is the whole batch's gradient
        result = run_experiment(config(root, tmp_path / output, **{"model.norm": False, "data.holdout": 0.25}))
        return result.folder, RunFolder(result.folder).state()

    _, expected = weights("whole")
    step = ReconstructionModeler.training_step

    def hungry(self: Any, batch: Any) -> Any:
        allocate(len(batch), 1, RuntimeError)
        return step(self, batch)

    monkeypatch.setattr(ReconstructionModeler, "training_step", hungry)
    folder, parts = weights("parts")
    log = (folder / "log.txt").read_text()
    assert "out of memory while training with 4 images at once: going on with 2" in log and "going on with 1" in log
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-4)
    record("fault", "out of memory while training: halved, gradients summed")
