"""The report in a real Chromium: gallery and viewer, keyboard, themes and narrow screens."""

from __future__ import annotations

import json

import pytest

from anomaly_report.report import write_report

HOSTILE = "<img src=x onerror=alert(1)>.png"


def test_sort_filter_search_and_pages(open_page, reported):
    driver = open_page(reported.folder / "report.html")
    assert driver.text("found") == "20 of 40 images are shown; the others have no picture"
    driver.put("verdict", "miss")
    misses = [image for image in reported.images if image.label == 1 and image.score <= 5]
    shown = sum(bool(image.picture) for image in misses)
    assert shown == len(misses) - 1
    assert driver.text("found") == f"{shown} of {len(misses)} misses are shown; the other has no picture"
    driver.press("#clear")
    assert driver.text("found") == "40 of 40 images" and len(driver.cards()) == 24
    falling = sorted(reported.images, key=lambda image: -image.score)
    assert [card["name"] for card in driver.cards()] == [image.name for image in falling[:24]]
    driver.press("#next")
    assert [card["name"] for card in driver.cards()] == [image.name for image in falling[24:]]
    assert not driver.find_element("id", "next").is_enabled()
    driver.put("sort", "rising")
    assert [card["name"] for card in driver.cards()] == [image.name for image in falling[:-25:-1]]
    driver.put("sort", "name")
    assert [card["name"] for card in driver.cards()] == sorted(image.name for image in reported.images)[:24]
    driver.put("sort", "near")
    near = sorted(reported.images, key=lambda image: abs(image.score - 5.0))
    assert [card["name"] for card in driver.cards()] == [image.name for image in near[:24]]
    defect = driver.execute_script("return [...document.getElementById('defect').options].find((o) => o.text === 'dent').value")
    driver.put("defect", defect)
    assert {card["name"].split("/")[0] for card in driver.cards()} == {"dent"}
    driver.put("search", "DENT 003", "input")
    assert [card["name"] for card in driver.cards()] == ["dent/003.png"]


def test_a_hostile_name_stays_text_in_the_page(open_page, make_run, row, tmp_path):
    rows = [row(f"good/{HOSTILE}", 0, 1.0, category=HOSTILE, picture=f"maps/{HOSTILE}"), row("<b>x</b>/1.png", 1, 9.0)]
    driver = open_page(write_report(make_run(tmp_path, rows=rows, dataset=HOSTILE)))
    driver.put("search", "onerror", "input")
    assert [card["name"] for card in driver.cards()] == [f"good/{HOSTILE}"]
    assert driver.execute_script("return document.querySelectorAll('[onerror], #cards .name *').length") == 0
    driver.execute_script("document.querySelector('#cards button').click()")
    assert driver.text("viewer-name") == f"good/{HOSTILE}"
    # The picture, whose file bears that name, is found and shown.
    driver.wait("return document.getElementById('viewer-picture').naturalWidth === 140")


def test_the_regions_of_an_image_are_listed(open_page, make_run, row, tmp_path):
    rows = [row(f"dent/{number}.png", 1, 9.0 - number, picture=f"maps/{number}.png") for number in range(4)]
    region = {"box": [4, 6, 14, 26], "area": 1234.56, "peak": 7.5, "p_value": 0.25}
    rows[0].regions = [{**region, "area_mm2": 2.5}, region]
    rows[1].regions = [region] * 30
    rows[2].regions = []
    driver = open_page(write_report(make_run(tmp_path, rows=rows)))
    cards = driver.execute_script("return [...document.querySelectorAll('#cards .card')].map((e) => e.textContent)")
    assert "2 regions, the largest of 2.5 mm²" in cards[0] and "30 regions, the largest of 1,235 px" in cards[1]
    assert "no region" in cards[2] and "region" not in cards[3]
    driver.execute_script("document.querySelector('#cards button').click()")
    table = "return [...document.querySelectorAll('#viewer-regions tr')].map((e) => [...e.children].map((c) => c.textContent))"
    assert driver.execute_script(table)[1:] == [
        ["1", "4, 6", "10 × 20", "2.5 mm²", "7.5", "0.25"],
        ["2", "4, 6", "10 × 20", "1,235 px", "7.5", "0.25"],
    ]
    driver.press("#viewer-next")
    assert driver.text("viewer-regions-head") == "The first 20 of 30 regions" and len(driver.execute_script(table)) == 21
    driver.press("#viewer-next")
    assert driver.execute_script("return document.getElementById('viewer-regions').hidden")


def test_facts_of_a_strangers_regions_are_left_out(open_page, make_run, row, tmp_path):
    rows = [row("dent/0.png", 1, 9.0, picture="maps/0.png")]
    rows[0].regions = [{"box": [1]}, {}, {"box": [1, 2, 3, 4], "area": [5], "peak": None}, {"box": [1, 2, 3, 4]}]
    driver = open_page(write_report(make_run(tmp_path, rows=rows)))
    driver.execute_script("document.querySelector('#cards button').click()")
    assert driver.execute_script("return document.querySelectorAll('#viewer-regions-rows tr').length") == 1


def test_the_viewer_goes_on_by_keys_and_gives_the_focus_back(open_page, reported):
    from selenium.webdriver.common.keys import Keys

    driver = open_page(reported.folder / "report.html")
    first, second = (card["name"] for card in driver.cards()[:2])
    driver.execute_script("document.querySelector('#cards button').focus()")
    driver.keys(Keys.ENTER)
    assert driver.text("viewer-name") == first
    driver.keys(Keys.ARROW_RIGHT)
    assert driver.text("viewer-name") == second
    driver.keys(Keys.ESCAPE)
    # The browser first gives the focus back to the card that opened the viewer, and tells of the close thereafter.
    driver.wait(f"return document.activeElement.ariaLabel === {json.dumps(f'Enlarge {second}')}")
    assert not driver.execute_script("return document.getElementById('viewer').open")


def test_everything_is_reached_by_the_keyboard(open_page, reported):
    from selenium.webdriver.common.keys import Keys

    driver = open_page(reported.folder / "report.html")
    driver.put("exact", "4", "input")  # a button that is disabled takes no focus
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
    driver.wait(f"return threshold.value > {before}")


def test_every_control_has_a_name(open_page, reported):
    driver = open_page(reported.folder / "report.html")
    nameless = driver.execute_script(
        "return [...document.querySelectorAll('input, select, button, a')].filter((e) => "
        "!(e.getAttribute('aria-label') || e.textContent.trim() || [...(e.labels || [])].some((l) => l.textContent.trim())))"
        ".map((e) => e.outerHTML)"
    )
    assert nameless == []
    missing = driver.execute_script("return [...document.images].filter((e) => !e.hasAttribute('alt')).map((e) => e.src)")
    assert missing == []


def test_dark_follows_the_system_and_the_reader(open_page, reported):
    script = (
        "const colours = [...document.querySelectorAll('#figures .of-normal')].map((e) => getComputedStyle(e).stroke);"
        "return [getComputedStyle(document.body).backgroundColor, ...new Set(colours)]"
    )
    page = reported.folder / "report.html"
    driver = open_page(page)
    light, dark = ["rgb(244, 246, 248)", "rgb(0, 114, 178)"], ["rgb(18, 22, 27)", "rgb(86, 180, 233)"]

    def turns(expected):
        """A busy machine applies a theme a moment later."""
        driver.wait(
            f"return JSON.stringify((() => {{{script}}})()) === {json.dumps(json.dumps(expected, separators=(',', ':')))}"
        )

    turns(light)
    driver = open_page(page, dark=True)
    turns(dark)
    driver.put("theme", "light")
    turns(light)
    driver.refresh()  # the choice is kept
    turns(light)
    driver.put("theme", "auto")
    turns(dark)


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_page_is_wider_than_the_screen(open_page, reported, width):
    driver = open_page(reported.folder / "report.html", width=width)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    for position in (0, 500, 1000):
        driver.put("slider", str(position), "input")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
