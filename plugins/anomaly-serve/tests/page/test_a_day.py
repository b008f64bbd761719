"""A day on the line: a product is taught on the page, 500 images are inspected over HTTP, the light drifts, the threshold is
set anew, a version is taken back; and the service is killed in between."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_serve.store import Store
from anomaly_serve.testing import Pixels, as_file, disc_image

IMAGES, DEFECTS, DRIFT, KILLED = 500, 20, 300, 140
WITHIN = 30  # images from the change to the alarm
MORE = 100  # images of the new light, after which a person sets the threshold anew
NEW_LIGHT = 1.15
PATIENCE = 300  # seconds for a fit

pytestmark = [pytest.mark.soak, pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")]


def files(folder: Path, name: str, seeds: range, **facts: Any) -> list[Path]:
    paths = [folder / f"{name}{seed:04}.png" for seed in seeds]
    for path, seed in zip(paths, seeds, strict=True):
        path.write_bytes(as_file(disc_image(seed, **facts), compress_level=1))
    return paths


class Serving:
    """``anomaly serve`` in a process of its own, on one folder, which may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, ""
        self.process: Any = None

    def start(self) -> None:
        command = [sys.executable, "-m", "anomaly_core", "serve", "--store", str(self.folder), "--port", "0"]
        environment = {**os.environ, "ANOMALY_ENGINE": "onnx"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        for line in self.process.stderr:
            if found := re.search(r"http://\S+?:\d+", line):
                self.url = found[0]
                self._reading = threading.Thread(target=self.process.stderr.read, daemon=True)
                self._reading.start()  # what it says later fills no pipe
                return
        pytest.fail(f"the service ended with {self.process.wait()}")

    def kill(self) -> None:
        self.process.kill()
        self.ended()

    def ended(self) -> int:
        code = int(self.process.wait(60))
        self._reading.join(10)
        self.process.stderr.close()
        return code

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.ended()


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    serving = Serving(tmp_path / "line")
    serving.start()
    try:
        yield serving
    finally:
        if serving.process.poll() is None:
            serving.kill()


class Line:
    """Sends images as a line does: every other by tritonclient, the others by curl."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self.answers: dict[str, tuple[int, bool]] = {}  # id -> (number, verdict), as they were answered

    def send(self, number: int, image: Pixels) -> None:
        file = as_file(image, "jpeg", quality=95)
        key, verdict = (self._by_tritonclient if number % 2 else self._by_curl)(f"part {number:04}", file)
        assert key not in self.answers
        self.answers[key] = number, verdict

    def share(self, of: Callable[[int], bool]) -> float:
        """The share of alarms among some of the images."""
        return float(np.mean([verdict for number, verdict in self.answers.values() if of(number)]))

    def _by_tritonclient(self, name: str, content: bytes) -> tuple[str, bool]:
        http = pytest.importorskip("tritonclient.http")
        given = []
        for label, value in (("encoded", content), ("name", name.encode())):
            given.append(http.InferInput(label, [1], "BYTES"))
            given[-1].set_data_from_numpy(np.array([value], dtype=object))
        asked = [http.InferRequestedOutput("id"), http.InferRequestedOutput("is_anomalous")]
        with http.InferenceServerClient(self._serving.url.removeprefix("http://")) as client:
            answer = client.infer("disc", given, outputs=asked)
        return answer.as_numpy("id")[0].decode(), bool(answer.as_numpy("is_anomalous")[0])

    def _by_curl(self, name: str, content: bytes) -> tuple[str, bool]:
        address = f"{self._serving.url}/v1/products/disc/score?name={name.replace(' ', '%20')}"
        command = ["curl", "-sf", "-H", "Content-Type: image/jpeg", "--data-binary", "@-", address]
        answer = json.loads(subprocess.run(command, input=content, capture_output=True, check=True, timeout=60).stdout)
        return answer["id"], answer["is_anomalous"]


def bring(page: Any, kind: str, paths: list[Path], count: int) -> None:
    """Choose images on the page, and wait until there are so many."""
    page.find_element("id", f"files-{kind}").send_keys("\n".join(map(str, paths)))
    page.wait(
        "return document.getElementById(arguments[0]).textContent === arguments[1]", f"count-{kind}", f"({count})", seconds=90
    )


def teach(page: Any, number: int) -> None:
    """Fit a version of what was brought, and put it to use."""
    page.press("#fit")
    page.wait("return document.querySelector('#jobs li.is-running')", seconds=90)
    state = (
        "const job = document.querySelector('#jobs li'); return !/is-(running|waiting)/.test(job.className) && job.className"
    )
    assert page.wait(state, seconds=PATIENCE) == "is-done", page.texts("#jobs li")
    page.open(f"/page/products/disc/teach/versions/{number}")
    page.press("#use")
    page.says("judging", f"version {number} judges")


def set_threshold(page: Any) -> None:
    """20 false alarms in 1,000."""
    page.open("/page/products/disc/set")
    page.wait("return document.getElementById('t-before').textContent")
    page.find_element("id", "rate").clear()
    page.find_element("id", "rate").send_keys("20", "\ue004")
    page.find_element("id", "why").send_keys("two in a hundred may be looked at by hand")
    page.press("#apply")
    page.wait("return document.getElementById('choice').dataset.holds === '2'")


def recalibrate(page: Any) -> None:
    """Have the last images propose a threshold, and accept it."""
    page.open("/page/products/disc/set")
    page.find_element("id", "r-count").clear()
    page.find_element("id", "r-count").send_keys(str(MORE))
    page.press("#r-propose")
    page.wait("return !document.getElementById('r-proposal').hidden", seconds=90)
    page.find_element("id", "r-why").send_keys("new lamps")
    page.press("#r-accept")
    page.wait("return document.getElementById('choice')?.dataset.holds === '3'", seconds=30)


def test_a_day(driver: Any, serving: Serving, tmp_path: Path, page_of: Callable[[Any, str], Any], record: Any) -> None:
    # in the morning: a new product, from 100 good parts and three known defects
    page = page_of(driver, serving.url).open("/page/")
    page.press("a[href$='/page/teach']")
    page.keys("disc", "\n")
    page.wait("return location.pathname.endsWith('/products/disc/teach')")
    bring(page, "normal", files(tmp_path, "good", range(100)), 100)
    bring(page, "abnormal", files(tmp_path, "bad", range(200, 203), defect=True), 3)
    teach(page, 1)
    set_threshold(page)

    # 500 images, 20 of them defects; somebody trips over the cable; the light changes
    defects = set(np.random.default_rng(5).choice(IMAGES, DEFECTS, replace=False).tolist())
    line, alarmed = Line(serving), IMAGES
    for number in range(IMAGES):
        if number == KILLED:
            serving.kill()
            serving.start()
            page.url = serving.url
        line.send(number, disc_image(1000 + number, defect=number in defects, bright=NEW_LIGHT if number >= DRIFT else 1.0))
        if alarmed == IMAGES and number >= DRIFT - 1 and page.open("/page/products/disc/history").texts("[data-alarm]"):
            alarmed = number
        if number == alarmed + MORE:
            recalibrate(page)
    assert DRIFT <= alarmed < DRIFT + WITHIN, alarmed
    assert line.share(lambda number: number < DRIFT and number not in defects) <= 0.05
    assert line.share(lambda number: number in defects) >= 0.9
    assert line.share(lambda number: number > alarmed + MORE and number not in defects) <= 0.05

    # in the evening: a version from images of now; then it is taken back
    page.open("/page/products/disc/teach")
    bring(page, "normal", files(tmp_path, "late", range(5000, 5030), bright=NEW_LIGHT), 130)
    teach(page, 2)
    line.send(IMAGES, disc_image(9000, bright=NEW_LIGHT))
    page.press("#back")
    page.says("judging", "version 1 judges")
    line.send(IMAGES + 1, disc_image(9001, bright=NEW_LIGHT))
    assert driver.get_log("browser") == []

    # every verdict that was answered is in the history, as it was answered
    assert serving.stop() in (0, 143)
    store = Store.open(None, serving.folder)
    try:
        for key, (number, verdict) in line.answers.items():
            kept = store.judgement(key)
            assert (kept.name, kept.is_anomalous, kept.version) == (f"part {number:04}", verdict, 2 if number == IMAGES else 1)
        assert store.count("disc") == len(line.answers) == IMAGES + 2
        assert len(store.alarms("disc")) >= 1
    finally:
        store.close()
    record("load", f"a day on the line, killed once; alarm {alarmed - DRIFT + 1} images after the light changed", IMAGES)
