"""``anomaly serve`` as a process of its own: what it prints, how it ends, and what is there after it was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from PIL import Image

from anomaly_core import ConfigError, RunConfig, RunError, run_experiment
from anomaly_predict import open_detector
from anomaly_serve.serving import named, size_of
from anomaly_serve.store import Store
from anomaly_serve.testing import as_file, grey_image

SIDE = 32
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run that needs no pretrained weights, with its ONNX file in its folder."""
    from anomaly_export import export_run

    folder = tmp_path_factory.mktemp("images") / "plate"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(grey_image(seed=number)).save(folder / f"{number}.png")
    overrides = {
        "data.normal": str(folder),
        "data.holdout": 0.5,
        "model.image_size": SIDE,
        "train.epochs": 1,
        "base.output": str(tmp_path_factory.mktemp("runs")),
        "base.pictures": 0,
    }
    config = RunConfig.create(model="vanilla_ae", data="folder", preset="edge", overrides=overrides)
    finished = run_experiment(config).runs[0].folder
    export_run(finished, "onnx", finished / "model.onnx")
    return finished


class Serving(NamedTuple):
    process: subprocess.Popen[str]
    url: str
    said: list[str]


@contextmanager
def serving(*arguments: object) -> Iterator[Serving]:
    """``anomaly serve`` on a free port."""
    words = [sys.executable, "-m", "anomaly_core", "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    said: list[str] = []
    assert process.stderr is not None
    try:
        for line in process.stderr:
            said.append(line.rstrip())
            if line.startswith("page: "):
                break
        assert said and said[-1].startswith("page: "), said
        yield Serving(process, said[-1].removeprefix("page: ").rstrip("/"), said)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait(20)
        process.stderr.close()


def test_products_versions_and_an_orderly_end(run: Path, tmp_path: Path) -> None:
    store, image = tmp_path / "store", grey_image(spot=True)
    with serving(run / "model.onnx", f"lid={run / 'model.onnx'}", "--store", store) as served:
        assert [line.partition(":")[0] for line in served.said] == ["lid", "plate", "page"]
        answer = httpx.post(f"{served.url}/v1/products/plate/score", content=as_file(image), headers=PNG).json()
        expected = open_detector(run / "model.onnx", threads=1).predict(image)
        assert answer["score"] == pytest.approx(expected.score, rel=1e-5)
        with ThreadPoolExecutor(1) as pool:
            many = [("image", (f"{i}.png", as_file(image), "image/png")) for i in range(60)]
            waiting = pool.submit(httpx.post, f"{served.url}/v1/products/plate/score", files=many, timeout=30)
            time.sleep(0.15)
            served.process.terminate()
            results = waiting.result(40).json()["results"]  # what was accepted is answered
        assert served.process.wait(30) == (143 if os.name == "posix" else 1)
        assert len(results) == 60
    with Store.open(None, store) as kept:
        judged = [one["id"] for one in results if "id" in one]
        assert all(kept.judgement(id) is not None for id in judged)
        kept.add_version("plate", str(run), calibration=kept.settings("plate", 1)[-1].calibration, who="eva", note="by hand")
        kept.activate("plate", 2, "eva")
    with serving(run / "model.onnx", "--store", store) as served:  # the store knows the path: nothing changes
        assert "version 2 of 2" in next(line for line in served.said if line.startswith("plate: "))
    with serving("--store", store) as served:
        assert httpx.get(f"{served.url}/readyz").json()["products"] == 2


def test_no_verdict_that_was_answered_is_missing_after_a_kill(run: Path, tmp_path: Path) -> None:
    answered: list[str] = []
    with serving(run / "model.onnx", "--store", tmp_path) as served:

        def ask(number: int) -> None:
            with httpx.Client(base_url=served.url, headers=PNG) as client, suppress(httpx.HTTPError):
                while True:
                    body = as_file(grey_image(seed=number))
                    answered.append(client.post("/v1/products/plate/score", content=body).json()["id"])

        with ThreadPoolExecutor(4) as pool:
            for number in range(4):
                pool.submit(ask, number)
            while len(answered) < 60:
                time.sleep(0.01)
            served.process.kill()
    with Store.open(None, tmp_path) as store:
        missing = [id for id in answered if store.judgement(id) is None]
    assert len(answered) >= 60 and not missing


def test_torch_is_not_needed(run: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from starlette.testclient import TestClient
from anomaly_serve.app import create_app
from anomaly_serve.testing import as_file, grey_image, prepared_service
with prepared_service(Path({str(tmp_path)!r}), {{"plate": {str(run / "model.onnx")!r}}}) as service:
    client = TestClient(create_app(service))
    answer = client.post("/v1/products/plate/score?map=png", content=as_file(grey_image()))
    assert answer.status_code == 200, answer.text
    own = f"/v1/products/plate/verdicts/{{answer.json()['id']}}/map.png"
    for path in ("/docs", "/openapi.json", "/metrics", "/v1/products", own):
        assert client.get(path).status_code == 200, path
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def test_beyond_this_machine_it_warns_without_tokens(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.txt"
    tokens.write_text("eva 0123456789abcdefgh\n")
    with serving("--store", tmp_path / "a", "--host", "0.0.0.0") as served:
        assert any("--token-file" in line for line in served.said)
        assert any("no product yet" in line for line in served.said)
    with serving("--store", tmp_path / "b", "--host", "0.0.0.0", "--token-file", tokens) as served:
        assert not any("warning" in line for line in served.said)
        url = served.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/v1/products").status_code == 401


def test_names_and_sizes(run: Path, tmp_path: Path) -> None:
    assert named(str(run)) == ("plate", run) == (*named(str(run / "model.onnx"))[:1], run)
    assert named(f"lid={run}") == ("lid", run)
    file = tmp_path / "left lid.onnx"
    file.touch()
    with pytest.raises(ConfigError, match="NAME="):
        named(str(file))
    assert named(f"lid={file}") == ("lid", file)
    with pytest.raises(ConfigError, match="'the lid' cannot be a product's name"):
        named(f"the lid={file}")
    with pytest.raises(RunError, match="nothing at"):
        named("lid=missing.onnx")
    assert [size_of(text) for text in ("5", "2K", "1.5 MiB", "10GB")] == [5, 2048, 3 << 19, 10 << 30]
    for text in ("", "-1", "5 parsec", "1e9"):
        with pytest.raises(ConfigError, match="no size"):
            size_of(text)
