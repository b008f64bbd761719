"""The example for Ray Serve, run as it is: an exported detector in a replica, requests batched."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from anomaly_core import RunConfig, run_experiment
from anomaly_predict import open_detector

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "ray_serve.py"

pytestmark = [
    pytest.mark.soak,  # Ray takes half a minute to start and to end
    pytest.mark.skipif(find_spec("ray") is None or find_spec("ray.serve") is None, reason='pip install "ray[serve]"'),
]


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """An exported detector of small images, which lie beside it."""
    export = pytest.importorskip("anomaly_export")
    overrides = {"data.root": str(tmp_path / "data"), "data.category": "wood", "data.size": 64, "data.train_count": 8}
    overrides |= {"data.good_count": 3, "data.bad_count": 5, "model.image_size": 64, "base.pictures": 0}
    overrides["base.output"] = str(tmp_path / "runs")
    run = run_experiment(RunConfig.create(model="patchcore", data="sample", preset="edge", overrides=overrides)).runs[0].folder
    path: Path = export.export_run(run, "onnx", tmp_path / "model.onnx", images=1).path
    return path


@pytest.fixture
def url(exported: Path) -> Iterator[str]:
    """The example at work; Ray ends what it started when the example ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLE), str(exported), "--port", str(port)]
    with (exported.parent / "log.txt").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            finally:
                process.kill()


def wait(url: str, log: Path) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        try:
            if httpx.post(url, content=b"", timeout=5).status_code == 422:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.3)
    pytest.fail(f"the example did not start:\n{log.read_text()[-2000:]}")


def test_the_example_judges_as_the_file_does(url: str, exported: Path) -> None:
    wait(url, exported.parent / "log.txt")
    images = sorted((exported.parent / "data").rglob("test/*/*.png"))
    detector = open_detector(exported, threads=1)
    expected = detector.predict(images).scores.tolist()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda path: httpx.post(url, content=path.read_bytes(), timeout=30).json(), images))
    assert [answer["score"] for answer in answers] == pytest.approx(expected, rel=1e-4)
    verdicts = [answer["is_anomalous"] for answer in answers]
    assert verdicts == [detector.calibration.is_anomalous(score) for score in expected] and True in verdicts
    assert httpx.post(url, content=b"no image", timeout=30).json() == {"error": "this is no image that can be read"}
