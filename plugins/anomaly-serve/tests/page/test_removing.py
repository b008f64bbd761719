"""The files of a version are removed by hand: on the page in Chromium, by keyboard too, and over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from anomaly_serve.records import Job
from anomaly_serve.testing import RunningService, as_file, grey_image, running_service

TEACH = "/page/products/bolt/teach"
VERSIONS = "/v1/products/bolt/versions"
FACTS = {"kind": "fit", "model": "patchcore", "preset": "edge", "asked": []}


def teach(running: RunningService) -> int:
    """A version as a job leaves it."""
    store, teaching = running.store, running.service.teaching
    number = len(store.versions("bolt")) + 1
    assert teaching is not None
    job = Job(f"job{number}", "bolt", "done", number, number, "anna", facts=FACTS)
    store.save_job(job)
    run = teaching.work.runs(job) / "run"
    run.mkdir(parents=True)
    teaching.sets.get("bolt", f"set-{number}").take("normal", "a", [as_file(grey_image(seed=number))])
    known = {"set": f"set-{number}", "job": job.id, "run": str(run), "warnings": [], "extends": False}
    return running.service.add_version("bolt", run, who="anna", note=f"lamp {number}", taught=known).number


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningService]:
    """Version 1 was given; 2 to 5 were taught, of which 4 judges, and 3 did before."""
    with running_service(tmp_path) as running:
        for _ in range(4):
            teach(running)
        for number in (3, 4):
            running.service.activate("bolt", number, "anna")
        yield running


def path_of(running: RunningService, number: int) -> Path:
    return Path(running.store.versions("bolt")[number - 1].path)


def test_a_person_removes_files_and_reads_what_became_of_them(browser: Any, running: RunningService) -> None:
    judged = running.service.score("bolt", as_file(grey_image(spot=True)), name="a.png", version=5).result(20).judgement
    browser.open(TEACH)
    assert browser.texts("[data-remove-files]") == [f"Remove its files, of version {number}" for number in (5, 2)]
    browser.shoot("removing-list")
    browser.press("[data-remove-files='5']")
    browser.wait("return document.getElementById('removing').open")
    browser.shoot("removing-dialog", whole=False)
    browser.keys("\ue00c")  # Escape: nothing happens
    browser.wait("return !document.getElementById('removing').open")
    assert path_of(running, 5).is_dir()

    browser.execute_script("document.querySelector('[data-remove-files=\"5\"]').focus()")
    browser.keys("\n")
    browser.wait("return document.activeElement.id === 'removing-no'")  # what a person in a hurry presses keeps them
    browser.keys("\ue004", "\n")
    browser.says("toast", "The files of version 5 are removed.")
    assert not path_of(running, 5).exists()
    (text,) = [text for text in browser.texts(".version") if "Version 5" in text]
    assert "its files were removed on" in text and "by local" in text and "Remove its files" not in text
    browser.shoot("removing-done")

    for width in (1280, 390):
        browser.open(f"{TEACH}/versions/5", width=width)
        assert "It cannot be used any more" in browser.texts("#use-title")
        assert "anomaly serve bolt=RUN" in browser.texts(".note")[0]
        assert browser.texts("#use") == browser.texts("#try") == browser.texts("[data-remove-files]") == []
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        browser.shoot(f"removing-version-{width}")
    browser.open("/page/products/bolt/history/versions")
    assert browser.texts("[data-activate='5']") == [] and "its files were removed on" in browser.texts("tbody tr")[0]
    browser.shoot("removing-versions")
    browser.open("/page/products/bolt/history/changes")
    assert browser.texts("tbody tr td:nth-child(3)")[0].strip() == "The files of version 5 were removed"
    browser.open(f"/page/products/bolt/inspect?id={judged.id}")
    browser.says("map-said", "cannot be used any more: its files were removed on")
    browser.shoot("removing-inspect")
    messages = [entry["message"] for entry in browser.get_log("browser")]
    assert len(messages) == 1 and "410" in messages[0]  # the map; the browser notes each answer that is an error


def test_over_http(running: RunningService) -> None:
    judged = running.service.score("bolt", as_file(grey_image(spot=True)), version=2).result(20).judgement
    url, path = f"{running.url}{VERSIONS}", path_of(running, 2)
    for number, status, words in (
        (4, 409, "it judges"),
        (1, 409, "somebody gave them"),
        (9, 404, "no version 9"),
        ("x", 404, ""),
    ):
        answer = httpx.delete(f"{url}/{number}")
        assert answer.status_code == status and words in answer.json()["error"]["message"]
    assert path.is_dir()
    for _ in range(2):
        answer = httpx.delete(f"{url}/2")
        assert answer.status_code == 200 and answer.json()["files_removed_why"] == "by local" and not path.exists()
    rows = httpx.get(url).json()["versions"]
    assert [row["number"] for row in rows if row["files_removed"] is not None] == [2]
    assert rows[1] == answer.json()
    image = as_file(grey_image())
    for gone in (
        httpx.post(f"{running.url}/v1/products/bolt/activate", json={"version": 2}),
        httpx.post(f"{running.url}/v1/products/bolt/score?version=2", content=image),
        httpx.get(f"{running.url}/v1/products/bolt/verdicts/{judged.id}/map.png"),
        httpx.post(f"{running.url}/page/api/products/bolt/teach/versions/2/try", json={}),
        httpx.post(f"{running.url}/page/api/products/bolt/teach/versions/2/use", json={}),
    ):
        assert gone.status_code == 410 and "anomaly serve bolt=RUN" in gone.json()["error"]["message"]
    assert httpx.get(f"{running.url}/v1/products/bolt/verdicts/{judged.id}").json()["version"] == 2
    assert httpx.get(f"{running.url}/v2/models/bolt").json()["versions"] == ["1", "3", "4", "5"]
    index = httpx.post(f"{running.url}/v2/repository/index").json()
    assert "its files were removed" in index[1]["reason"]
    other = httpx.delete(f"{url}/5", headers={"origin": "http://elsewhere.example"})
    assert other.status_code == 403 and path_of(running, 5).is_dir()
