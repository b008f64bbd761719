"""*History* in a real Chromium, against a running service."""

from __future__ import annotations

import csv
import dataclasses
import io
import time

import httpx
import pytest

from anomaly_serve.identifiers import new_id
from anomaly_serve.store import search

HISTORY = "/page/products/bolt/history"


@pytest.fixture(scope="module", autouse=True)
def days(running):
    """130 verdicts of two weeks before."""
    (judgement,) = running.store.judgements("bolt", limit=1)
    start = time.time() - 14 * 86400
    old = [
        dataclasses.replace(judgement, id=new_id(), time=start + 3600 * number, name=f"old-{number:03d}", regions=None)
        for number in range(130)
    ]
    for done in running.store.record_many([(one, None, ".png") for one in old]):
        done.result(20)


def test_verdicts_page_by_page_and_filtered(browser):
    browser.open(HISTORY)
    browser.says("count", "142 verdicts")
    seen = browser.texts(".verdicts tbody th")
    for _ in range(2):
        browser.press("a[rel=next]")
        seen += browser.texts(".verdicts tbody th")
    assert len(seen) == len(set(seen)) == 142 and seen[0] == "011.png" and seen[-1] == "old-000"
    assert browser.texts("a[rel=next]") == []
    browser.press("a[rel=prev]")
    assert browser.texts(".verdicts tbody th") == seen[50:100]
    browser.press("a[rel=prev]")
    assert browser.texts(".verdicts tbody th") == seen[:50] and browser.texts("a[rel=prev]") == []
    browser.press("#filters option[value=alarm]")
    browser.press("#filters .primary")
    browser.says("count", "4 verdicts")
    assert set(browser.texts(".verdicts .badge")) == {"Alarm"}
    link = browser.find_element("id", "csv").get_attribute("href")
    rows = list(csv.DictReader(io.StringIO(httpx.get(link).text.lstrip("\ufeff"))))
    assert len(rows) == 4 and {row["name"] for row in rows} == {"001.png", "004.png", "007.png", "010.png"}
    bars = browser.texts(".bar-images title")
    assert len(bars) == 30 and any("24 images, 0 alarms, 0 in 1,000" in words for words in bars)


def test_a_search_that_takes_long_stops_and_goes_on(browser, monkeypatch):
    monkeypatch.setattr(search, "SPAN", 60)
    monkeypatch.setattr(search, "PATIENCE", -1.0)
    browser.open(f"{HISTORY}?text=old-00")
    browser.says("count", "0 verdicts since ")
    assert "older ones were not counted" in browser.text("count") and "older verdicts were not searched yet" in browser.text(
        "reached"
    )
    browser.shoot("history-search")
    for _ in range(2):
        assert browser.texts(".verdicts tbody th") == [] and browser.texts("a[rel=next]") == ["Search older ones →"]
        browser.press("a[rel=next]")
    assert browser.texts(".verdicts tbody th") == [f"old-{number:03}" for number in range(9, -1, -1)]
    assert browser.texts("#reached") == browser.texts("a[rel=next]") == []


def test_who_changed_what_and_another_version(browser, running):
    store = running.store
    running.service.add_version("bolt", store.versions("bolt")[0].path, parent=1, who="anna", note="with the new lamp")
    browser.open(f"{HISTORY}/versions")
    browser.press("[data-activate='2']")
    browser.press("#activating-do")
    browser.says("toast", "Version 2 judges from now on.")
    assert store.active("bolt").number == 2
    assert browser.text("judging") == "version 2 judges"
    browser.press("[data-activate='1']")
    browser.press("#activating-do")
    browser.says("toast", "Version 1 judges from now on.")
    (judgement,) = store.judgements("bolt", text="004.png")
    store.mark(judgement.id, "fine", "bert")
    browser.open(f"{HISTORY}/changes")
    words = browser.texts("tbody tr td:nth-child(3)")
    assert [text.strip() for text in words[:4]] == [
        "A verdict was said to be fine",
        "Version 1 judges instead of version 2",
        "Version 2 judges instead of version 1",
        "Version 2 was added, taught on from version 1",
    ]
    assert browser.texts("tbody tr td:nth-child(4)")[3] == "with the new lamp"
    browser.press("tbody a")
    browser.says("name", "004.png")


def test_an_alarm_of_the_line_stands_on_every_page_until_somebody_knows(browser, running):
    browser.open("/page/products/bolt/inspect")
    alarm = running.store.add_alarm("bolt", 1, "Images are 18 % <b>brighter</b>.", {}, since=time.time() - 600)
    browser.wait("return document.querySelector('.banner strong')?.textContent === 'Images are 18 % <b>brighter</b>.'")
    for path in ("set", "history", "history/alarms", "inspect"):
        browser.open(f"/page/products/bolt/{path}")
        assert browser.texts(".banner strong") == ["Images are 18 % <b>brighter</b>."]
    browser.press("[data-acknowledge]")
    browser.says("toast", "Noted.")
    assert browser.texts(".banner") == [] and running.store.alarms("bolt")[0].acknowledged is not None
    assert running.store.changes("bolt")[0].action == "acknowledge"
    browser.open(f"{HISTORY}/alarms")
    assert browser.texts("tbody td.wide") == ["Images are 18 % <b>brighter</b>."]
    other = f"{running.url}/page/api/products/bolt/alarms/{alarm.id + 1}/acknowledge"
    assert httpx.post(other, json={}).status_code == 404


@pytest.mark.parametrize("query", ["since=yesterday", "version=one", "since=9e999", "version=1e40"])
def test_filters_that_are_none_are_refused(running, query):
    answer = httpx.get(f"{running.url}{HISTORY}?{query}")
    assert answer.status_code == 422 and "text/html" in answer.headers["content-type"]


def test_an_unknown_product_or_page_is_not_found(running):
    assert httpx.get(f"{running.url}/page/products/nut/history").status_code == 404
    assert httpx.get(f"{running.url}{HISTORY}?before=nothing").status_code in (404, 422)
    assert httpx.get(f"{running.url}/page/static/..%2fsite.py").status_code == 404
    assert httpx.get(f"{running.url}/page/static/site.py").status_code == 404
