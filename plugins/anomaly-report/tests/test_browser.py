"""The report in a real Chromium, opened from disk: its numbers, and what the threshold moves."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sealing import seal
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from anomaly_core import Measure
from anomaly_report.finished import FinishedRun
from anomaly_report.report import write_report


def assert_matches_scikit_learn(driver: Any, scores: np.ndarray, labels: np.ndarray, threshold: float) -> None:
    called = scores > threshold
    assert driver.counts() == confusion_matrix(labels, called, labels=[0, 1]).tolist()
    expected = {
        "accuracy": accuracy_score(labels, called),
        "precision": precision_score(labels, called) if called.any() else None,
        "recall": recall_score(labels, called),
        "f1": f1_score(labels, called),
        "alarms": called[labels == 0].mean(),
    }
    for key, value in expected.items():
        assert driver.text(f"measure-{key}") == ("undefined" if value is None else f"{value:.4f}"), key
    assert bool(driver.text("reason-precision")) == (not called.any())


def test_the_numbers_agree_with_scikit_learn_wherever_the_slider_stands(open_page, reported):
    driver = open_page(reported.folder / "report.html")
    scores, labels = reported.labelled()
    assert_matches_scikit_learn(driver, scores, labels, 5.0)
    assert driver.text("which") == "the run's own"
    low, high = driver.execute_script("return [data.scale.low, data.scale.high]")
    for position in (0, 137, 500, 803, 1000):
        driver.put("slider", str(position), "input")
        value = low + (high - low) * position / 1000
        driver.wait(f"return Math.abs(threshold.value - {value}) < 1e-9")
        assert_matches_scikit_learn(driver, scores, labels, value)
    assert driver.text("which") == "your trial; the run keeps its own"
    # Every score is itself a threshold: the image that has it is not above it.
    for value in scores[:6]:
        driver.put("exact", repr(float(value)), "input")
        assert_matches_scikit_learn(driver, scores, labels, value)
    driver.press("#reset")
    assert_matches_scikit_learn(driver, scores, labels, 5.0)
    assert driver.find_element("id", "slider").get_attribute("aria-valuetext") == "5"


def test_the_sentence_moves_with_the_slider_and_the_command_repeats_it(open_page, reported):
    driver = open_page(reported.folder / "report.html")
    sentences = "return [...document.querySelectorAll('.headline')].map((e) => e.textContent)"

    def found(threshold):
        hits, alarms = (sum(i.label == label and i.score > threshold for i in reported.images) for label in (1, 0))
        return f"Found {hits} of 20 defects, {alarms} false alarm{'s' * (alarms != 1)} in 20 good images"

    assert driver.execute_script(sentences) == [f"{found(5)}."] * 2
    page = (reported.folder / "report.html").read_text("utf-8")
    assert page.count(f'<p class="headline">{found(5)}.</p>') == 2, "the same without scripts"
    assert not driver.find_element("id", "command").is_displayed() and not driver.find_element("id", "copy").is_enabled()
    value = 5.0
    for position in (137, 500, 803):
        driver.put("slider", str(position), "input")
        driver.wait(f"return threshold.value !== {value!r}")  # the page follows in its next frame
        value = driver.execute_script("return threshold.value")
        driver.wait(f"return document.querySelector('.headline').textContent.startsWith({json.dumps(found(value))})")
        *command, given = shlex.split(driver.text("command"))
        assert command == ["anomaly", "threshold", str(reported.folder.absolute()), "--value"]
        assert found(float(given)) == found(value) and float(given) == pytest.approx(value, rel=1e-4)
    driver.put("exact", "5.25", "input")
    assert driver.text("command").endswith(" --value 5.25")
    driver.press("#copy")
    driver.wait("return document.getElementById('copied').textContent !== ''")
    assert driver.text("copied") in ("Copied.", "The command is selected: copy it by the keyboard.")
    assert driver.execute_script("return getSelection().toString()") == driver.text("command")
    driver.press("#reset")
    assert not driver.find_element("id", "command").is_displayed()


def test_the_oracle_is_a_labelled_mark_and_never_the_start(open_page, reported):
    driver = open_page(reported.folder / "report.html")
    oracle = driver.execute_script("return data.oracle.threshold")
    assert oracle != 5.0 and driver.execute_script("return threshold.value") == 5.0
    flag = driver.find_element("id", "flag-oracle")
    assert "oracle" in flag.text and "test set" in flag.text
    place = driver.execute_script("return (data.oracle.threshold - data.scale.low) / (data.scale.high - data.scale.low)")
    assert float(flag.get_attribute("style").partition("left: ")[2].partition("%")[0]) == pytest.approx(100 * place, abs=1e-3)
    mark = driver.find_element("id", "mark-oracle").get_attribute("x1")
    assert float(mark) == pytest.approx(1000 * place)


def test_images_move_between_the_verdicts_as_the_slider_moves(open_page, reported):
    driver = open_page(reported.folder / "report.html")
    driver.press("#clear")
    driver.press("#show-miss")
    names = {image.name for image in reported.images if image.label == 1 and image.score <= 5.0}
    assert {card["name"] for card in driver.cards()} == names and names
    assert {card["verdict"] for card in driver.cards()} == {"miss"}
    driver.put("exact", "6.5", "input")
    more = {image.name for image in reported.images if image.label == 1 and image.score <= 6.5}
    assert {card["name"] for card in driver.cards()} == more and more > names
    driver.put("exact", "-100", "input")
    assert driver.cards() == [] and driver.find_element("id", "nothing").is_displayed()
    driver.put("verdict", "false-alarm")
    assert driver.text("found") == "20 of 40 images"


@pytest.mark.parametrize(
    "options",
    [{"threshold": None, "held_out": ()}, {"pictures": False}, {"rows": []}, {"labels": False}],
    ids=["no threshold", "no pictures", "no images", "no labels"],
)
def test_a_run_without_some_part_opens(open_page, make_run, example_rows, tmp_path, options):
    if "labels" in options:
        options = {"rows": [replace(row, label=None) for row in example_rows()]}
    driver = open_page(write_report(make_run(tmp_path, **options)))
    assert "of" in driver.text("found")
    if options.get("threshold", 5.0) is None:
        assert (driver.text("count-hit"), driver.text("measure-f1"), driver.text("which")) == ("–", "undefined", "not set")
        driver.put("slider", "500", "input")
        driver.wait("return document.getElementById('count-hit').textContent !== '–'")
        driver.press("#reset")
        assert driver.text("count-hit") == "–"
    if options.get("rows") and options["rows"][0].label is None:
        assert driver.text("count-unlabelled").startswith("Without a label:")
        driver.put("verdict", "flagged")
        driver.press("#pictured")
        assert {card["verdict"] for card in driver.cards()} == {"called anomalous"}


def test_categories_are_counted_alone(open_page, make_run, row, tmp_path):
    rows = [row(f"good/{n}.png", 0, float(n), category="a" if n < 6 else "b") for n in range(10)]
    rows += [row(f"dent/{n}.png", 1, float(n), category="a" if n < 6 else "b") for n in range(10)]
    measures = [Measure.of("image_auroc", 0.5, categories={"a": 0.5, "b": 0.5})]
    driver = open_page(write_report(make_run(tmp_path, rows=rows, measures=measures)))
    assert driver.counts() == [[6, 4], [6, 4]]
    driver.put("threshold-category", "1")
    assert driver.counts() == [[0, 4], [0, 4]]
    driver.press("#show-hit")
    assert {card["name"] for card in driver.cards()} == {f"dent/{n}.png" for n in range(6, 10)}


def test_ten_thousand_images_are_never_all_in_the_page(open_page, make_run, example_rows, tmp_path):
    folder = make_run(tmp_path, rows=example_rows(10_000, pictures=False))
    (folder / "maps").mkdir()
    Image.new("RGB", (140, 64)).save(folder / "maps" / "0.png")
    rows = (folder / "predictions.csv").read_text()
    (folder / "predictions.csv").write_text(rows.replace(",,\n", ",,maps/0.png\n"))
    seal(folder)
    driver = open_page(write_report(folder))
    driver.wait("return document.getElementById('found').textContent === '10,000 of 10,000 images'")
    assert driver.text("pages") == "417"
    assert driver.execute_script("return document.images.length") < 60
    assert driver.execute_script("return document.querySelectorAll('*').length") < 1500
    scores, labels = FinishedRun.read(folder).labelled()
    driver.put("exact", "4.25", "input")
    assert_matches_scikit_learn(driver, scores, labels, 4.25)
    driver.put("page", "417")
    assert len(driver.cards()) == 10_000 - 416 * 24


def test_the_data_is_what_the_file_says(open_page, reported):
    driver = open_page(reported.folder / "report.html")
    data: dict[str, Any] = driver.execute_script("return data")
    assert data["scores"] == [image.score for image in reported.images]
    assert json.dumps(data["threshold"]) == "5"
