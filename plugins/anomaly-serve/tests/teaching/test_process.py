"""The process of a job ends with what started it, however that ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from anomaly_core import RunError
from anomaly_serve.teaching.process import Cancelled, WorkerProcess, tail

PARENT = """
import sys
from pathlib import Path
from anomaly_serve.teaching.process import WorkerProcess
process = WorkerProcess(Path(sys.argv[1]))
print("starts", flush=True)
process.run({"kind": "compare", "detectors": {"one": {"path": sys.argv[2], "images": ["-"]}}}, print)
"""


def test_it_does_not_outlive_a_service_that_is_killed(tmp_path: Path) -> None:
    pipe = tmp_path / "never.onnx"
    pipe.mkdir()  # a folder that is no run: the error comes after the line that it is opened
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "log.txt"), str(pipe)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "starts\n"
        end = time.monotonic() + 60
        while not (children := psutil.Process(parent.pid).children()):
            assert time.monotonic() < end
            time.sleep(0.01)
        parent.kill()
    psutil.wait_procs(children, timeout=60)
    assert not any(child.is_running() for child in children)


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    process = WorkerProcess(tmp_path / "log.txt")
    lines: list[str] = []
    request = {"kind": "compare", "detectors": {"one": {"path": str(tmp_path / "nothing"), "images": ["a.png"]}}}
    with pytest.raises(RunError, match="is not a run's folder"):
        process.run(request, lambda line: lines.append(line["doing"]))
    assert lines == ["opening the detectors"]
    process.end()
    with pytest.raises(Cancelled):
        process.run(request, lambda line: None)


def test_the_end_of_a_log(tmp_path: Path) -> None:
    assert tail(tmp_path / "none.txt") == ""
    (tmp_path / "log.txt").write_text("a" * 10 + "end")
    assert tail(tmp_path / "log.txt", 3) == "end"
