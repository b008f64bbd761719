"""Runs as the core writes them, and a real Chromium to look at their pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sealing import seal

from anomaly_core import Calibration, Hooks, Measure, Registry, RunFolder, RunResult, TestedImage
from anomaly_report.finished import FinishedRun
from anomaly_report.hooks import Reporter
from anomaly_report.report import write_report
from chromium import Browser, chromium_driver

CONFIG = """\
base:
  preset: {preset}
data:
  name: {dataset}
model:
  name: {model}
"""


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> tuple[Hooks, list[str]]:
    """The hooks as the core calls them, and what it warns of."""
    monkeypatch.setenv("ANOMALY_PLUGINS", "anomaly-report")
    monkeypatch.setattr("anomaly_report.hooks.OBSERVERS", Reporter())
    failures: list[str] = []
    return Hooks(Registry(), failures.append), failures


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """Write the folder of a complete run."""
    return _make_run


@pytest.fixture(scope="session")
def example_rows() -> Callable[..., list[TestedImage]]:
    """Rows of predictions.csv."""
    return _example_rows


@pytest.fixture(scope="session")
def row() -> Callable[..., TestedImage]:
    """One row of predictions.csv."""
    return _row


def _make_run(
    folder: Path,
    *,
    rows: list[TestedImage] | None = None,
    threshold: float | None = 5.0,
    held_out: tuple[float, ...] = (2.0, 3.0, 5.0),
    warning: str | None = None,
    measures: Sequence[Measure] = (Measure.of("image_auroc", 0.9), Measure.of("pixel_auroc", 0.8)),
    figures: dict[str, float] | None = None,
    history: list[dict[str, float]] | None = None,
    manifest: dict[str, Any] | None = None,
    curves: str = "",
    dataset: str = "bolts",
    model: str = "patchcore",
    preset: str = "edge",
    pictures: bool = True,
    maps: bool = True,
) -> Path:
    run = RunFolder(folder)
    rows = _example_rows(pictures=pictures) if rows is None else rows
    source = f"{len(held_out)} held-out normal images" if held_out else "none: no held-out normal images (data.holdout=0)"
    calibration = Calibration(threshold, 0.01, len(held_out), source, warning=warning, scores=held_out)
    result = RunResult(
        folder,
        "m6",
        {measure.name: measure for measure in sorted(measures, key=lambda measure: measure.rank)},
        {"memory_bank_size": 64.0} if figures is None else figures,
        rows,
        calibration,
        20.0,
        12.5,
    )
    facts = {"status": "complete", "category": "m6", "seed": 0, "started": 1795493596.7, "fit_seconds": 12.5, "warnings": []}
    facts |= {"test_images_per_second": 20.0, "versions": {"python": "3.11"}, "data": {"fit": 9, "held_out": len(held_out)}}
    run.write("config.yaml", CONFIG.format(preset=preset, dataset=dataset, model=model))
    run.write_json("calibration.json", calibration.to_dict())
    run.write_result(result, {})
    size = [32, 32] if maps else None
    resolution = {"evaluated_at": "input", "smallest": size, "largest": size}
    run.write_json("metrics.json", {**run.read_json("metrics.json"), "resolution": resolution})
    run.write_rows("history.csv", history or [{"epoch": 1.0}])
    (folder / "curves.json").unlink()
    if curves:
        run.write("curves.json", curves)
    for number, row in enumerate(rows):
        if row.picture:
            path = folder / row.picture
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(_panel(number)).save(path)
    return seal(folder, **{**facts, **(manifest or {})})


def _example_rows(count: int = 40, *, pictures: bool = True, seed: int = 0) -> list[TestedImage]:
    """Half normal, half anomalous, of two defects, overlapping in their scores; every fourth has a picture."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        label = number % 2
        score = float(np.float32(random.normal(7 if label else 3, 2.2)))
        name = f"{'scratch' if number % 4 == 1 else 'dent' if label else 'good'}/{number:03d}.png"
        rows.append(_row(name, label, score, picture=f"maps/{number:04d}.png" if pictures and number % 4 < 2 else ""))
    return rows


def _row(name: str, label: int | None, score: float, *, category: str = "m6", picture: str = "") -> TestedImage:
    """A row of predictions.csv."""
    defect = name.partition("/")[0] if "/" in name else ""
    return TestedImage(f"/data/bolts/test/{name}", category, defect, label, score, score > 5, picture=picture)


def _panel(number: int) -> np.ndarray:
    """image | map | mask | overlay of 32 pixels each, with the gaps and the lines of text that are between them."""
    panel = np.full((64, 140, 3), 255, dtype=np.uint8)
    for column in range(4):
        panel[16:48, column * 36 : column * 36 + 32] = (40 * column, (37 * number) % 255, 90)
    return panel


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    """Debian's Chromium, for these tests alone."""
    yield from chromium_driver()


class ReportBrowser(Browser):
    """A report or a leaderboard."""

    def put(self, name: str, value: str, event: str = "change") -> None:
        """Give a control a value."""
        self.execute_script(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event(arguments[2]))",
            name, value, event,
        )  # fmt: skip

    def counts(self) -> list[list[int]]:
        """[[correct, false alarms], [misses, hits]], as scikit-learn's confusion matrix has them."""
        cells = [["correct", "false-alarm"], ["miss", "hit"]]
        return [[int(self.text(f"count-{key}").replace(",", "")) for key in row] for row in cells]

    def cards(self) -> list[dict[str, str]]:
        """The gallery's images that are in the document."""
        return self.execute_script(
            "return [...document.querySelectorAll('#cards .card')].map((card) => ({"
            "name: card.querySelector('.name').textContent, verdict: card.querySelector('.badge').textContent,"
            "score: card.querySelector('b').textContent}))"
        )

    def cells(self, table: str, column: int) -> list[str]:
        """The texts of a column of a table."""
        return self.execute_script(
            "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].map((r) => r.cells[arguments[1]].textContent)",
            table, column,
        )  # fmt: skip


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run with its report."""
    folder = _make_run(tmp_path_factory.mktemp("report") / "run")
    write_report(folder)
    return FinishedRun.read(folder)


@pytest.fixture
def open_page(driver: Any) -> Iterator[Callable[..., ReportBrowser]]:
    """Open a page from disk, at a width and in a scheme; afterwards nothing may stand in the console, nor have been fetched."""
    browser = ReportBrowser(driver)

    def open_it(page: Path, **facts: Any) -> ReportBrowser:
        browser.show(page.resolve().as_uri(), **facts)
        return browser

    yield open_it
    assert browser.faults("file:", "data:") == []
