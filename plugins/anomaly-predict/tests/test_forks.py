"""A detector that is used in a process that was forked after it had computed, as the workers of a web server are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from anomaly_core import RunError, RunResults, run_experiment
from anomaly_predict import detector as detectors
from anomaly_predict import load_run
from tiny.runs import config

pytestmark = [
    pytest.mark.usefixtures("tiny"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no process"),
]
# The score of an image in this process, in a forked one, and in a thread of that one: OpenMP has teams of its own in each.
FORK = """
import os, signal, sys, threading
from anomaly_predict import load_run, verdicts
folder, image = sys.argv[1:]
run = load_run(folder)
images = [image] * 64
print(run.predict(images).scores[-1].item(), flush=True)
child = os.fork()
if child == 0:
    signal.alarm(30)
    (verdict,) = verdicts(run, [image])
    print(verdict.score, flush=True)
    print(run.predict(images).scores[-1].item(), flush=True)
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""


@pytest.fixture(scope="module")
def finished(tiny: object, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return run_experiment(config(tmp_path_factory.mktemp("finished"), **{"model.image_size": 256}))


@pytest.mark.reliability("fault")
def test_a_forked_process_computes_and_does_not_hang(finished: RunResults) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(finished.folder), finished.predictions[-1].path],
        env={**os.environ, "OMP_NUM_THREADS": "4"},
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    here, *there, status = done.stdout.split()
    assert (done.returncode, status) == (0, "0"), done.stderr
    assert there == [here, here]


def test_a_forked_process_cannot_use_a_gpu(finished: RunResults, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_run(finished.folder)
    monkeypatch.setattr(detectors.os, "getpid", lambda: -1)
    threads = torch.get_num_threads()
    try:
        run.predict(Path(finished.predictions[0].path))
        run.device = torch.device("cuda")
        with pytest.raises(RunError, match="forked after the run was loaded, and cannot use its device 'cuda'"):
            run.predict(Path(finished.predictions[0].path))
    finally:
        torch.set_num_threads(threads)
