"""Runs as the core writes them, and a real Chromium to look at their pages."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly_core.calibration import Calibration
from anomaly_core.experiment import Experiment
from anomaly_report.figures.all import PLANS, Drawn

CONFIG = """\
base:
  preset: {preset}
data:
  name: {dataset}
model:
  name: {model}
"""


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """Write the folder of a complete run."""
    return _make_run


@pytest.fixture(scope="session")
def example_rows() -> Callable[..., list[dict[str, Any]]]:
    """Rows of predictions.csv."""
    return _example_rows


@pytest.fixture(scope="session")
def row() -> Callable[..., dict[str, Any]]:
    """One row of predictions.csv."""
    return _row


def _make_run(
    folder: Path,
    *,
    rows: list[dict[str, Any]] | None = None,
    threshold: float | None = 5.0,
    held_out: tuple[float, ...] = (2.0, 3.0, 5.0),
    warning: str | None = None,
    metrics: dict[str, Any] | None = None,
    history: list[dict[str, float]] | None = None,
    manifest: dict[str, Any] | None = None,
    curves: str = "",
    dataset: str = "bolts",
    model: str = "patchcore",
    preset: str = "edge",
    pictures: bool = True,
) -> Path:
    experiment = Experiment(folder)
    rows = _example_rows(pictures=pictures) if rows is None else rows
    source = f"{len(held_out)} held-out normal images" if held_out else "none: no held-out normal images (data.holdout=0)"
    calibration = Calibration(threshold, 0.01, len(held_out), source, warning=warning, scores=held_out)
    beside = {"undefined": {}, "categories": {}, "threshold": threshold, "threshold_source": source, "resolution": [32, 32]}
    found = {"image_auroc": 0.9, "pixel_auroc": 0.8, "memory_bank_size": 64.0, **beside, "images": len(rows), **(metrics or {})}
    facts = {"status": "complete", "category": "m6", "seed": 0, "started": 1795493596.7, "fit_seconds": 12.5, "warnings": []}
    facts |= {"test_images_per_second": 20.0, "versions": {"python": "3.11"}, "data": {"fit": 9, "held_out": len(held_out)}}
    experiment.write("config.yaml", CONFIG.format(preset=preset, dataset=dataset, model=model))
    experiment.write_json("calibration.json", calibration.to_dict())
    experiment.write_json("metrics.json", found)
    experiment.write_rows("predictions.csv", rows)
    experiment.write_rows("history.csv", history or [{"epoch": 1.0}])
    if curves:
        experiment.write("curves.json", curves)
    for number, row in enumerate(rows):
        if row["picture"]:
            path = folder / str(row["picture"])
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(_panel(number)).save(path)
    experiment.write_json("manifest.json", {**facts, **(manifest or {})})
    return folder


def _example_rows(count: int = 40, *, pictures: bool = True, seed: int = 0) -> list[dict[str, Any]]:
    """Half normal, half anomalous, of two defects, overlapping in their scores; every fourth has a picture."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        label = number % 2
        score = float(np.float32(random.normal(7 if label else 3, 2.2)))
        rows.append(_row(f"{'scratch' if number % 4 == 1 else 'dent' if label else 'good'}/{number:03d}.png", label, score))
        rows[-1]["picture"] = f"maps/{number:04d}.png" if pictures and number % 4 < 2 else ""
    return rows


def _row(name: str, label: int | str, score: float, *, category: str = "m6", picture: str = "") -> dict[str, Any]:
    """A row of predictions.csv."""
    defect = name.partition("/")[0] if "/" in name else ""
    values = {"path": f"/data/bolts/test/{name}", "category": category, "defect": defect, "label": label}
    return {**values, "score": repr(score), "is_anomalous": int(score > 5), "picture": picture}


def _panel(number: int) -> np.ndarray:
    """image | map | mask | overlay of 32 pixels each, with the gaps and the lines of text that the core leaves."""
    panel = np.full((64, 140, 3), 255, dtype=np.uint8)
    for column in range(4):
        panel[16:48, column * 36 : column * 36 + 32] = (40 * column, (37 * number) % 255, 90)
    return panel


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    """Debian's Chromium without a window; skipped where there is none, unless ANOMALY_REQUIRE_BROWSER=1."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    missing = "" if chromium and chromedriver else "no chromium with its chromedriver is installed"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # selenium's own
            from selenium import webdriver
            from selenium.webdriver.chrome.service import Service
    except ImportError:
        missing = "selenium is not installed"
    if missing:
        if os.environ.get("ANOMALY_REQUIRE_BROWSER") == "1":
            pytest.fail(f"{missing}, and ANOMALY_REQUIRE_BROWSER=1 asks for it", pytrace=False)
        pytest.skip(f"{missing} (Debian: apt-get install chromium chromium-driver; pip install selenium)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("headless=new", "disable-dev-shm-usage", "disable-gpu", "hide-scrollbars", "force-prefers-reduced-motion"):
        options.add_argument(f"--{argument}")
    if sys.platform == "linux" and os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to run as root with it
    browser = webdriver.Chrome(options=options, service=Service(chromedriver))
    try:
        yield browser
    finally:
        browser.quit()


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports that draw nothing: drawing takes seconds, and has tests of its own."""
    undrawn = [Drawn(plan) for plan in PLANS]
    monkeypatch.setattr("anomaly_report.report.write_figures", lambda run: undrawn)


@pytest.fixture
def open_page(driver: Any) -> Iterator[Callable[..., Any]]:
    """Open a page from disk, at a width and in a scheme; afterwards nothing may stand in the console, nor have been fetched."""

    def open_it(page: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> Any:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        driver.get(page.resolve().as_uri())
        return driver

    yield open_it
    assert driver.get_log("browser") == []
    addresses = driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [address for address in addresses if not address.startswith(("file:", "data:"))] == []
