"""The pages in a real Chromium, opened from disk: their numbers, what moves, and that nothing stands in the console."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from anomaly_report.finished import FinishedRun
from anomaly_report.leaderboard import write_leaderboard
from anomaly_report.report import write_report
from anomaly_report.runs import RunRow

HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def run(make_run, tmp_path_factory) -> FinishedRun:
    folder = make_run(tmp_path_factory.mktemp("report") / "run")
    write_report(folder)
    return FinishedRun.read(folder)


def wait(driver: Any, script: str, seconds: float = 10) -> Any:
    """Until the script returns something true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := driver.execute_script(script):
            return found
        time.sleep(0.02)
    raise AssertionError(f"never true: {script}")


def text(driver: Any, name: str) -> str:
    return str(driver.execute_script("return document.getElementById(arguments[0]).textContent", name))


def put(driver: Any, name: str, value: str, event: str = "change") -> None:
    """Give a control a value, as its user does."""
    driver.execute_script(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event(arguments[2]))",
        name, value, event,
    )  # fmt: skip


def press(driver: Any, name: str) -> None:
    """Press a button, in the middle of the screen: the row of sections stays at its top."""
    button = driver.find_element("id", name)
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()


def counts(driver: Any) -> list[list[int]]:
    """[[correct, false alarms], [misses, hits]], as scikit-learn's confusion matrix has them."""
    cells = [["correct", "false-alarm"], ["miss", "hit"]]
    return [[int(text(driver, f"count-{key}").replace(",", "")) for key in row] for row in cells]


def cards(driver: Any) -> list[dict[str, str]]:
    return driver.execute_script(
        "return [...document.querySelectorAll('#cards .card')].map((card) => ({"
        "name: card.querySelector('.name').textContent, verdict: card.querySelector('.badge').textContent,"
        "score: card.querySelector('b').textContent}))"
    )


def assert_matches_scikit_learn(driver: Any, scores: np.ndarray, labels: np.ndarray, threshold: float) -> None:
    called = scores > threshold
    assert counts(driver) == confusion_matrix(labels, called, labels=[0, 1]).tolist()
    expected = {
        "accuracy": accuracy_score(labels, called),
        "precision": precision_score(labels, called) if called.any() else None,
        "recall": recall_score(labels, called),
        "f1": f1_score(labels, called),
        "alarms": called[labels == 0].mean(),
    }
    for key, value in expected.items():
        assert text(driver, f"measure-{key}") == ("undefined" if value is None else f"{value:.4f}"), key
    assert bool(text(driver, "reason-precision")) == (not called.any())


def test_the_numbers_agree_with_scikit_learn_wherever_the_slider_stands(open_page, run):
    driver = open_page(run.folder / "report.html")
    scores, labels = run.labelled()
    assert_matches_scikit_learn(driver, scores, labels, 5.0)
    assert text(driver, "which") == "the run's own"
    low, high = driver.execute_script("return [data.scale.low, data.scale.high]")
    for position in (0, 137, 500, 803, 1000):
        put(driver, "slider", str(position), "input")
        value = low + (high - low) * position / 1000
        wait(driver, f"return Math.abs(threshold.value - {value}) < 1e-9")
        assert_matches_scikit_learn(driver, scores, labels, value)
    assert text(driver, "which") == "your trial; nothing is saved"
    # Every score is itself a threshold: the image that has it is not above it.
    for value in scores[:6]:
        put(driver, "exact", repr(float(value)), "input")
        assert_matches_scikit_learn(driver, scores, labels, value)
    press(driver, "reset")
    assert_matches_scikit_learn(driver, scores, labels, 5.0)
    assert driver.find_element("id", "slider").get_attribute("aria-valuetext") == "5"


def test_the_oracle_is_a_labelled_mark_and_never_the_start(open_page, run):
    driver = open_page(run.folder / "report.html")
    oracle = driver.execute_script("return data.oracle.threshold")
    assert oracle != 5.0 and driver.execute_script("return threshold.value") == 5.0
    flag = driver.find_element("id", "flag-oracle")
    assert "oracle" in flag.text and "test set" in flag.text
    place = driver.execute_script("return (data.oracle.threshold - data.scale.low) / (data.scale.high - data.scale.low)")
    assert float(flag.get_attribute("style").partition("left: ")[2].partition("%")[0]) == pytest.approx(100 * place, abs=1e-3)
    mark = driver.find_element("id", "mark-oracle").get_attribute("x1")
    assert float(mark) == pytest.approx(1000 * place)


def test_images_move_between_the_verdicts_as_the_slider_moves(open_page, run):
    driver = open_page(run.folder / "report.html")
    press(driver, "clear")
    press(driver, "show-miss")
    names = {image.name for image in run.images if image.label == 1 and image.score <= 5.0}
    assert {card["name"] for card in cards(driver)} == names and names
    assert {card["verdict"] for card in cards(driver)} == {"miss"}
    put(driver, "exact", "6.5", "input")
    more = {image.name for image in run.images if image.label == 1 and image.score <= 6.5}
    assert {card["name"] for card in cards(driver)} == more and more > names
    put(driver, "exact", "-100", "input")
    assert cards(driver) == [] and driver.find_element("id", "nothing").is_displayed()
    put(driver, "verdict", "false-alarm")
    assert text(driver, "found") == "20 of 40 images"


def test_sort_filter_search_and_pages(open_page, run):
    driver = open_page(run.folder / "report.html")
    assert text(driver, "found") == "20 of 40 images, those with a picture"
    press(driver, "clear")
    assert text(driver, "found") == "40 of 40 images" and len(cards(driver)) == 24
    falling = sorted(run.images, key=lambda image: -image.score)
    assert [card["name"] for card in cards(driver)] == [image.name for image in falling[:24]]
    press(driver, "next")
    assert [card["name"] for card in cards(driver)] == [image.name for image in falling[24:]]
    assert not driver.find_element("id", "next").is_enabled()
    put(driver, "sort", "rising")
    assert [card["name"] for card in cards(driver)] == [image.name for image in falling[:-25:-1]]
    put(driver, "sort", "name")
    assert [card["name"] for card in cards(driver)] == sorted(image.name for image in run.images)[:24]
    put(driver, "sort", "near")
    near = sorted(run.images, key=lambda image: abs(image.score - 5.0))
    assert [card["name"] for card in cards(driver)] == [image.name for image in near[:24]]
    defect = driver.execute_script("return [...document.getElementById('defect').options].find((o) => o.text === 'dent').value")
    put(driver, "defect", defect)
    assert {card["name"].split("/")[0] for card in cards(driver)} == {"dent"}
    put(driver, "search", "DENT 003", "input")
    assert [card["name"] for card in cards(driver)] == ["dent/003.png"]


@pytest.mark.usefixtures("without_figures")
def test_a_hostile_name_stays_text_in_the_page(open_page, make_run, row, tmp_path):
    rows = [row(f"good/{HOSTILE}", 0, 1.0, category=HOSTILE, picture=f"maps/{HOSTILE}"), row("<b>x</b>/1.png", 1, 9.0)]
    driver = open_page(write_report(make_run(tmp_path, rows=rows, dataset=HOSTILE)))
    put(driver, "search", "onerror", "input")
    assert [card["name"] for card in cards(driver)] == [f"good/{HOSTILE}"]
    assert driver.execute_script("return document.querySelectorAll('[onerror], #cards .name *').length") == 0
    driver.execute_script("document.querySelector('#cards button').click()")
    assert text(driver, "viewer-name") == f"good/{HOSTILE}"
    # The picture, whose file bears that name, is found and shown.
    wait(driver, "return document.getElementById('viewer-picture').naturalWidth === 140")


def test_the_viewer_goes_on_by_keys_and_gives_the_focus_back(open_page, run):
    from selenium.webdriver.common.keys import Keys

    driver = open_page(run.folder / "report.html")
    first, second = (card["name"] for card in cards(driver)[:2])
    driver.execute_script("document.querySelector('#cards button').focus()")
    driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert text(driver, "viewer-name") == first
    driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert text(driver, "viewer-name") == second
    driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    # The browser first gives the focus back to the card that opened the viewer, and tells of the close thereafter.
    wait(driver, f"return document.activeElement.ariaLabel === {json.dumps(f'Enlarge {second}')}")
    assert not driver.execute_script("return document.getElementById('viewer').open")


def test_everything_is_reached_by_the_keyboard(open_page, run):
    from selenium.webdriver.common.keys import Keys

    driver = open_page(run.folder / "report.html")
    put(driver, "exact", "4", "input")  # a button that is disabled takes no focus
    driver.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached, unseen = [], []
    body = driver.find_element("tag name", "body")
    body.send_keys(Keys.TAB)
    for _ in range(80):
        focused = driver.switch_to.active_element
        named = (focused.get_attribute(key) for key in ("id", "href", "aria-label"))
        name = next(filter(None, named), focused.text)
        if name == "clear":
            break
        reached.append(name)
        style = driver.execute_script("return getComputedStyle(arguments[0]).outline", focused)
        if "solid 3px" not in style:
            unseen.append((name, style))
        focused.send_keys(Keys.TAB)
    ids = [name for name in reached if name in ("theme", "exact", "reset", "slider", "show-hit", "verdict", "sort", "search")]
    assert ids == ["theme", "exact", "reset", "slider", "show-hit", "verdict", "sort", "search"]
    assert reached[0].endswith("#content") and unseen == []
    slider = driver.find_element("id", "slider")
    before = driver.execute_script("return threshold.value")
    slider.send_keys(Keys.ARROW_RIGHT)
    wait(driver, f"return threshold.value > {before}")


def test_every_control_has_a_name(open_page, run):
    driver = open_page(run.folder / "report.html")
    nameless = driver.execute_script(
        "return [...document.querySelectorAll('input, select, button, a')].filter((e) => "
        "!(e.getAttribute('aria-label') || e.textContent.trim() || [...(e.labels || [])].some((l) => l.textContent.trim())))"
        ".map((e) => e.outerHTML)"
    )
    assert nameless == []
    missing = driver.execute_script("return [...document.images].filter((e) => !e.hasAttribute('alt')).map((e) => e.src)")
    assert missing == []


def test_dark_follows_the_system_and_the_reader(open_page, run):
    script = (
        "const shown = [...document.querySelectorAll('#figures img')].filter((e) => getComputedStyle(e).display !== 'none');"
        "return [getComputedStyle(document.body).backgroundColor, shown.every((e) => e.src.includes('/dark/')), shown.length]"
    )
    page = run.folder / "report.html"
    light = open_page(page).execute_script(script)
    driver = open_page(page, dark=True)
    dark = driver.execute_script(script)
    assert (light[0], dark[0]) == ("rgb(244, 246, 248)", "rgb(18, 22, 27)")
    assert (light[1], dark[1]) == (False, True) and light[2] == dark[2] > 0
    put(driver, "theme", "light")
    assert driver.execute_script(script) == light
    driver.refresh()  # the choice is kept
    assert driver.execute_script(script) == light
    put(driver, "theme", "auto")
    assert driver.execute_script(script) == dark


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_page_is_wider_than_the_screen(open_page, run, width):
    driver = open_page(run.folder / "report.html", width=width)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    for position in (0, 500, 1000):
        put(driver, "slider", str(position), "input")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize(
    "options",
    [{"threshold": None, "held_out": ()}, {"pictures": False}, {"rows": []}, {"labels": False}],
    ids=["no threshold", "no pictures", "no images", "no labels"],
)
def test_a_run_without_some_part_opens(open_page, make_run, example_rows, tmp_path, options):
    if "labels" in options:
        options = {"rows": [{**row, "label": ""} for row in example_rows()]}
    driver = open_page(write_report(make_run(tmp_path, **options)))
    assert "of" in text(driver, "found")
    if options.get("threshold", 5.0) is None:
        assert (text(driver, "count-hit"), text(driver, "measure-f1"), text(driver, "which")) == ("–", "undefined", "not set")
        put(driver, "slider", "500", "input")
        wait(driver, "return document.getElementById('count-hit').textContent !== '–'")
        press(driver, "reset")
        assert text(driver, "count-hit") == "–"
    if options.get("rows") and not options["rows"][0]["label"]:
        assert text(driver, "count-unlabelled").startswith("Without a label:")
        put(driver, "verdict", "flagged")
        press(driver, "pictured")
        assert {card["verdict"] for card in cards(driver)} == {"called anomalous"}


@pytest.mark.usefixtures("without_figures")
def test_categories_are_counted_alone(open_page, make_run, row, tmp_path):
    rows = [row(f"good/{n}.png", 0, float(n), category="a" if n < 6 else "b") for n in range(10)]
    rows += [row(f"dent/{n}.png", 1, float(n), category="a" if n < 6 else "b") for n in range(10)]
    metrics = {"categories": {"a": {"image_auroc": 0.5}, "b": {"image_auroc": 0.5}}}
    driver = open_page(write_report(make_run(tmp_path, rows=rows, metrics=metrics)))
    assert counts(driver) == [[6, 4], [6, 4]]
    put(driver, "threshold-category", "1")
    assert counts(driver) == [[0, 4], [0, 4]]
    press(driver, "show-hit")
    assert {card["name"] for card in cards(driver)} == {f"dent/{n}.png" for n in range(6, 10)}


@pytest.mark.usefixtures("without_figures")
def test_ten_thousand_images_are_never_all_in_the_page(open_page, make_run, example_rows, tmp_path):
    rows = [{**row, "picture": ""} for row in example_rows(10_000)]
    folder = make_run(tmp_path, rows=rows)
    (folder / "maps").mkdir()
    Image.new("RGB", (140, 64)).save(folder / "maps" / "0.png")
    text_of = (folder / "predictions.csv").read_text()
    (folder / "predictions.csv").write_text(text_of.replace(",0,\n", ",0,maps/0.png\n").replace(",1,\n", ",1,maps/0.png\n"))
    driver = open_page(write_report(folder))
    wait(driver, "return document.getElementById('found').textContent === '10,000 of 10,000 images'")
    assert text(driver, "pages") == "417"
    assert driver.execute_script("return document.images.length") < 60
    assert driver.execute_script("return document.querySelectorAll('*').length") < 1500
    run = FinishedRun.read(folder)
    scores, labels = run.labelled()
    put(driver, "exact", "4.25", "input")
    assert_matches_scikit_learn(driver, scores, labels, 4.25)
    put(driver, "page", "417")
    assert len(cards(driver)) == 10_000 - 416 * 24


def many_runs(count: int) -> list[RunRow]:
    random = np.random.default_rng(0)
    categories, models = [f"c{n}" for n in range(10)], [f"model{n}" for n in range(10)]
    rows = []
    for number in range(count):
        metrics = {"image_auroc": float(random.random()), "pixel_auroc": None if number % 7 == 0 else float(random.random())}
        place = Path(f"d/{categories[number % 10]}/{models[number // 10 % 10]}/{number:05d}")
        known = {"dataset": "d", "category": categories[number % 10], "model": models[number // 10 % 10], "seed": number // 100}
        rows.append(RunRow(place, "complete", metrics=metrics, fit_seconds=1.0, images_per_second=9.0, **known))
    rows[5] = RunRow(Path(f"d/{HOSTILE}"), "damaged", HOSTILE, dataset="d", category="c5", model="model0")
    return rows


def names(driver: Any, table: str, column: int) -> list[str]:
    return driver.execute_script(
        "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].map((r) => r.children[arguments[1]].textContent)",
        table, column,
    )  # fmt: skip


def test_a_leaderboard_of_ten_thousand_runs(open_page, tmp_path):
    rows = many_runs(10_000)
    driver = open_page(write_leaderboard(tmp_path, rows))
    assert text(driver, "found") == "10,000 of 10,000 runs" and text(driver, "pages") == "200"
    assert len(names(driver, "runs", 0)) == 50
    values = sorted((row.metrics.get("image_auroc", -1) for row in rows), reverse=True)
    assert [name.split()[0] for name in names(driver, "runs", 6)] == [f"{value:.4f}" for value in values[:50]]
    put(driver, "category", "c5")
    put(driver, "model", "model0")
    assert text(driver, "found") == "100 of 10,000 runs"
    put(driver, "status", "damaged")
    assert HOSTILE in names(driver, "runs", 0)[0] and "damaged" in names(driver, "runs", 0)[0]
    assert driver.execute_script("return document.querySelectorAll('[onerror]').length") == 0
    press(driver, "clear")
    put(driver, "search", "model3 c7", "input")
    assert text(driver, "found") == "100 of 10,000 runs"
    best = max(row.metrics["image_auroc"] for row in rows if row.category == "c1")
    put(driver, "search", "", "input")
    put(driver, "category", "c1")
    starred = driver.execute_script("return [...document.querySelectorAll('#runs td.best')].map((c) => c.textContent)")
    assert f"{best:.4f} ★ best" in starred and len(starred) <= 2
    assert len(names(driver, "means", 1)) == 10


def test_heads_sort_and_tell_it(open_page, tmp_path):
    driver = open_page(write_leaderboard(tmp_path, many_runs(60)))
    head = "[...document.querySelectorAll('#runs th')].find((t) => t.textContent.startsWith('{}'))"
    assert driver.execute_script(f"return {head.format('Image AUROC')}.getAttribute('aria-sort')") == "descending"
    driver.execute_script(f"{head.format('Image AUROC')}.querySelector('button').click()")
    assert driver.execute_script(f"return {head.format('Image AUROC')}.getAttribute('aria-sort')") == "ascending"
    values = [float(name.split()[0]) for name in names(driver, "runs", 6) if name != "–"]
    assert values == sorted(values)
    assert driver.switch_to.active_element.text.startswith("Image AUROC")
    driver.execute_script(f"{head.format('run')}.querySelector('button').click()")
    found = names(driver, "runs", 0)
    assert len(found) == 50 and found[0] != found[-1]
    # What is undefined stands last, whichever way.
    for _ in range(2):
        driver.execute_script(f"{head.format('Pixel AUROC')}.querySelector('button').click()")
        press(driver, "next")
        assert names(driver, "runs", 7)[-1] == "–"


@pytest.mark.parametrize("width", [360, 1280])
def test_the_leaderboard_fits_the_screen_and_ticks_choose_metrics(open_page, tmp_path, width):
    driver = open_page(write_leaderboard(tmp_path, many_runs(30)), width=width, dark=True)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert driver.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 27)"
    driver.execute_script("document.querySelector('#columns input').click()")
    heads = driver.execute_script("return [...document.querySelectorAll('#runs th')].map((t) => t.textContent)")
    assert not any(head.startswith("Image AUROC") for head in heads)


def test_the_data_is_what_the_file_says(open_page, run):
    driver = open_page(run.folder / "report.html")
    data: dict[str, Any] = driver.execute_script("return data")
    assert data["scores"] == [image.score for image in run.images]
    assert json.dumps(data["threshold"]) == "5"
