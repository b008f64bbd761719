"""Much at once: a hundred thousand images, ten runs in one folder, ten thousand runs in one page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from anomaly_core import Calibration, Measure, RunResult

pytestmark = [pytest.mark.soak, pytest.mark.reliability]

SETTINGS = {
    "data.size": 64, "data.train_count": 8, "data.good_count": 3, "data.bad_count": 5, "model.image_size": 32,
    "train.epochs": 1, "base.pictures": 0, "model.widths": "4,4", "model.latent_dim": 2,
}  # fmt: skip


def anomaly(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "anomaly_core", *map(str, arguments)]


def fit(root: Path, output: Path, seed: int = 0) -> list[str]:
    sets = [part for key, value in {**SETTINGS, "data.root": root}.items() for part in ("--set", f"{key}={value}")]
    start = ["run", "--model", "vanilla_ae", "--data", "sample", "--preset", "edge", "--category", "fabric"]
    return anomaly(*start, "--seed", seed, "--output", output, "--no-plugin", "anomaly-report", *sets)


def only(output: Path) -> Path:
    (manifest,) = output.rglob("manifest.json")
    return manifest.parent


def test_a_hundred_thousand_images_in_constant_memory(tmp_path, soak_minutes, record) -> None:
    subprocess.run(fit(tmp_path / "data", tmp_path / "runs"), check=True, capture_output=True)
    images = tmp_path / "images"
    images.mkdir()
    random = np.random.default_rng(0)
    for number in range(500):
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(images / f"{number:06d}.bmp")
    wanted = 100_000
    for number in range(500, wanted):
        os.link(images / f"{number % 500:06d}.bmp", images / f"{number:06d}.bmp")
    command = anomaly("predict", only(tmp_path / "runs"), images, "--jsonl", "--batch-size", 256)
    count, memory = 0, []
    end = time.monotonic() + 60 * soak_minutes * 0.25
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            assert json.loads(line)["path"].endswith(f"{count:06d}.bmp")
            count += 1
            if count % 2000 == 0:
                memory.append(psutil.Process(process.pid).memory_info().rss / 2**20)
                if time.monotonic() > end and count >= 20_000:
                    process.kill()
                    break
    assert count == wanted or count >= 20_000
    # It goes up and down by a batch's size; what counts is the middle of the first samples and of the last.
    growth = float(np.median(memory[-4:]) - np.median(memory[1:5]))
    assert growth < 16, memory
    record(
        "load", f"images through `predict --jsonl`; memory after the last and the first 8,000 differs by {growth:.0f} MB", count
    )


def test_ten_runs_at_once_in_one_folder(tmp_path, record) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(fit(tmp_path / "data", tmp_path / "runs", seed % 2), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                         env=environment, text=True)
        for seed in range(10)
    ]  # fmt: skip
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0] * 10, errors
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("manifest.json")]
    assert len(manifests) == 10 and {manifest["status"] for manifest in manifests} == {"complete"}
    predictions = {path.read_bytes() for path in (tmp_path / "runs").rglob("predictions.csv")}
    assert len(predictions) == 2  # one a seed
    assert [path.name for path in (tmp_path / "data").iterdir() if path.name.startswith(".")] == []
    record("load", "runs at once in one folder, which also generate one data set at once", 10)


def test_a_leaderboard_of_ten_thousand_runs_opens(tmp_path, record) -> None:
    values = {"image_auroc": 0.9, "image_ap": 0.8, "image_f1": 0.7, "pixel_auroc": 0.9, "pixel_ap": 0.5, "aupro": 0.8}
    measures = {name: Measure.of(name, value) for name, value in values.items()}
    calibration = Calibration(None, 0.01, 0, "none")
    empty = {"figures": {}, "predictions": [], "calibration": calibration, "images_per_second": 1.0, "fit_seconds": 2.0}
    for number in range(10_000):
        folder = tmp_path / f"d{number % 3}" / f"c{number % 50}" / f"m{number % 8}" / f"20260101-{number:06d}-abcdef"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"data: {{name: d{number % 3}}}\nmodel: {{name: m{number % 8}}}\n")
        measures["image_auroc"] = Measure.of("image_auroc", number / 10_000)
        facts = {
            "format": 1,
            "status": "complete",
            "category": f"c{number % 50}",
            "seed": number,
            "started": 1.0,
            "fit_seconds": 2.0,
        }
        (folder / "metrics.json").write_text(json.dumps(RunResult(folder, "", measures, **empty).metrics_json()))
        (folder / "manifest.json").write_text(json.dumps(facts))
    start = time.monotonic()
    subprocess.run(anomaly("report", tmp_path), check=True, capture_output=True)
    seconds = time.monotonic() - start
    page = tmp_path / "leaderboard.html"
    size = page.stat().st_size / 2**20
    assert size < 10 and seconds < 120
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    opened = "not opened: no Chromium here"
    if chromium:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
        begun = time.monotonic()
        done = subprocess.run([chromium, *flags, page.as_uri()], check=True, capture_output=True, text=True, timeout=300)
        assert "10,000 of 10,000 runs" in done.stdout
        assert done.stdout.count("<tr") < 600  # a page of rows, and not all of them
        opened = f"opens in {time.monotonic() - begun:.0f} s"
    record("load", f"runs in a leaderboard: written in {seconds:.0f} s, {size:.1f} MB, {opened}", 10_000)
