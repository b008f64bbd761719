"""A checkpoint that is no file: an error that says so, never a training from the start in silence, nor a wait."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from anomaly_core import RunContext, RunError
from anomaly_trainers.checkpoint import BEST, LAST, Checkpoints
from special_files import SPECIAL, in_time
from tiny.config import MirrorConfig
from tiny.methods import Mirror

pytestmark = [
    pytest.mark.reliability("fault"),
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders"),
]


class Alone:
    """The only process, without mixed precision."""

    scaler = None
    is_main_process = True


def checkpoints(folder: Path) -> Checkpoints:
    modeler = Mirror(MirrorConfig())
    optimizer, schedule = modeler.configure_optimizer(1)

    def write(name: str, content: bytes) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

    return Checkpoints(modeler, optimizer, schedule, Alone(), RunContext(0, folder, write, True))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", [LAST, BEST])
def test_a_checkpoint_that_is_no_file(kind: str, name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = checkpoints(tmp_path)
    first.improve(1, 0.5)
    first.save(1, {"epoch": 1.0})
    second = checkpoints(tmp_path)
    second.load()
    assert second.epoch == 1 and second.best is not None
    (tmp_path / name).unlink()
    SPECIAL[kind](tmp_path / name)
    with pytest.raises(RunError, match=r"cannot be resumed: .*Delete '.*checkpoints' to train from the start"):
        in_time(checkpoints(tmp_path).load, *([tmp_path / name] if kind == "pipe" else []))
    shutil.rmtree(tmp_path / "checkpoints")  # as the message says
    last = checkpoints(tmp_path)
    last.load()
    assert last.epoch == 0
