"""The leaderboard in a real Chromium: filters, order, marks, narrow screens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomaly_core import Measure
from anomaly_report.leaderboard import write_leaderboard
from anomaly_report.runs import RunRow

HOSTILE = "<img src=x onerror=alert(1)>.png"


def many_runs(count: int) -> list[RunRow]:
    random = np.random.default_rng(0)
    categories, models = [f"c{n}" for n in range(10)], [f"model{n}" for n in range(10)]
    rows = []
    for number in range(count):
        values = {"image_auroc": float(random.random()), "pixel_auroc": None if number % 7 == 0 else float(random.random())}
        measures = {name: Measure.of(name, value) for name, value in values.items()}
        place = Path(f"d/{categories[number % 10]}/{models[number // 10 % 10]}/{number:05d}")
        known = {"dataset": "d", "category": categories[number % 10], "model": models[number // 10 % 10], "seed": number // 100}
        rows.append(RunRow(place, "complete", measures=measures, fit_seconds=1.0, images_per_second=9.0, **known))
    rows[5] = RunRow(Path(f"d/{HOSTILE}"), "damaged", HOSTILE, dataset="d", category="c5", model="model0")
    return rows


def test_a_leaderboard_of_ten_thousand_runs(open_page, tmp_path):
    rows = many_runs(10_000)
    driver = open_page(write_leaderboard(tmp_path, rows))
    assert driver.text("found") == "10,000 of 10,000 runs" and driver.text("pages") == "200"
    assert len(driver.cells("runs", 0)) == 50
    values = sorted((row.metrics.get("image_auroc", -1) for row in rows), reverse=True)
    assert [name.split()[0] for name in driver.cells("runs", 6)] == [f"{value:.4f}" for value in values[:50]]
    driver.put("category", "c5")
    driver.put("model", "model0")
    assert driver.text("found") == "100 of 10,000 runs"
    driver.put("status", "damaged")
    assert HOSTILE in driver.cells("runs", 0)[0] and "damaged" in driver.cells("runs", 0)[0]
    assert driver.execute_script("return document.querySelectorAll('[onerror]').length") == 0
    driver.press("#clear")
    driver.put("search", "model3 c7", "input")
    assert driver.text("found") == "100 of 10,000 runs"
    best = max(row.metrics["image_auroc"] for row in rows if row.category == "c1")
    driver.put("search", "", "input")
    driver.put("category", "c1")
    starred = driver.execute_script("return [...document.querySelectorAll('#runs td.best')].map((c) => c.textContent)")
    assert f"{best:.4f} ★ best" in starred and len(starred) <= 2
    assert len(driver.cells("means", 1)) == 10


def test_heads_sort_and_tell_it(open_page, tmp_path):
    driver = open_page(write_leaderboard(tmp_path, many_runs(60)))
    head = "[...document.querySelectorAll('#runs th')].find((t) => t.textContent.startsWith('{}'))"
    assert driver.execute_script(f"return {head.format('Image AUROC')}.getAttribute('aria-sort')") == "descending"
    driver.execute_script(f"{head.format('Image AUROC')}.querySelector('button').click()")
    assert driver.execute_script(f"return {head.format('Image AUROC')}.getAttribute('aria-sort')") == "ascending"
    values = [float(name.split()[0]) for name in driver.cells("runs", 6) if name != "–"]
    assert values == sorted(values)
    assert driver.switch_to.active_element.text.startswith("Image AUROC")
    driver.execute_script(f"{head.format('run')}.querySelector('button').click()")
    found = driver.cells("runs", 0)
    assert len(found) == 50 and found[0] != found[-1]
    # What is undefined stands last, whichever way.
    for _ in range(2):
        driver.execute_script(f"{head.format('Pixel AUROC')}.querySelector('button').click()")
        driver.press("#next")
        assert driver.cells("runs", 7)[-1] == "–"


@pytest.mark.parametrize("width", [360, 1280])
def test_the_leaderboard_fits_the_screen_and_ticks_choose_metrics(open_page, tmp_path, width):
    driver = open_page(write_leaderboard(tmp_path, many_runs(30)), width=width, dark=True)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert driver.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 27)"
    driver.execute_script("document.querySelector('#columns input').click()")
    heads = driver.execute_script("return [...document.querySelectorAll('#runs th')].map((t) => t.textContent)")
    assert not any(head.startswith("Image AUROC") for head in heads)
