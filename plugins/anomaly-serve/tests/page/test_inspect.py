"""*Inspect* in a real Chromium, against a running service."""

from __future__ import annotations

import httpx
import pytest

from anomaly_serve.page.waiting import Waiting
from anomaly_serve.testing import as_file, grey_image, prepared_service

HOSTILE = '<img src=x onerror="alert(1)">.png'
INSPECT = "/page/products/bolt/inspect"
NAMES = "#list .called"


@pytest.fixture
def inspect(browser):
    browser.open(INSPECT)
    browser.wait("return document.querySelectorAll('#list .row').length >= 12")
    return browser


def chosen(browser):
    """The name of the chosen verdict, once it is shown large."""
    script = "return document.querySelector('[aria-current=true] .called')?.textContent"
    name = browser.wait(script)
    browser.says("name", name)
    return name


def test_new_verdicts_come_by_themselves_and_wait_while_one_reads(inspect, judge):
    assert inspect.texts(NAMES)[:3] == ["011.png", "010.png", "009.png"] and chosen(inspect) == "011.png"
    judge("new.png", spot=True)
    inspect.wait(f"return document.querySelector('{NAMES}').textContent === 'new.png'")
    assert chosen(inspect) == "new.png"
    inspect.says("said", "Alarm: new.png")
    inspect.execute_script("document.getElementById('rows').scrollTop = 400")
    inspect.wait("return document.getElementById('rows').scrollTop > 300")
    first, second = judge("held-1.png"), judge("held-2.png")
    inspect.says("fresh", "2 new")
    assert inspect.texts(NAMES)[0] == "new.png"
    inspect.press("#fresh")
    inspect.wait(f"return document.querySelector('{NAMES}').textContent === 'held-2.png'")
    assert [one.id for one in (second, first)] == inspect.execute_script(
        "return [...document.querySelectorAll('#list .row')].slice(0, 2).map((e) => e.dataset.id)"
    )


def test_more_than_an_answer_holds_is_found_again_at_the_top(inspect, running):
    inspect.execute_script("document.getElementById('rows').scrollTop = 400")
    inspect.wait("return document.getElementById('rows').scrollTop > 300")
    first = inspect.texts(NAMES)
    images = [as_file(grey_image(seed=number)) for number in range(3)]
    answers = [running.service.score("bolt", images[number % 3], name=f"many-{number:02d}") for number in range(75)]
    for answer in answers:
        answer.result(20)
    inspect.wait("return parseInt(document.getElementById('fresh').textContent) >= 50")
    assert inspect.texts(NAMES) == first
    inspect.press("#fresh")
    inspect.wait(f"return document.querySelectorAll('{NAMES}').length >= 50")
    newest = running.store.judgements("bolt", limit=50)
    inspect.wait("return document.querySelector('#list .row').dataset.id === arguments[0]", newest[0].id)
    ids = inspect.execute_script("return [...document.querySelectorAll('#list .row')].slice(0, 50).map((e) => e.dataset.id)")
    assert ids == [one.id for one in newest]


def test_the_chosen_one_has_its_image_map_regions_and_reasons(inspect, judge):
    judgement = judge("spot.png", spot=True)
    inspect.wait("return document.getElementById('name').textContent === 'spot.png'")
    assert inspect.text("verdict") == "Alarm" and "is-alarm" in inspect.find_element("id", "verdict").get_attribute("class")
    reasons = inspect.texts("#reasons p")
    assert reasons == ["None of 99 normal images looks this odd.", "The score 1 is above the threshold 0.5."]
    assert len(judgement.regions) == 1
    inspect.wait("return document.getElementById('map').getAttribute('href')?.startsWith('blob:')")
    points = inspect.execute_script("return document.querySelector('#outline .outline').getAttribute('points')")
    corners = [tuple(map(float, point.split(","))) for point in points.split()]
    assert corners == [tuple(point) for point in judgement.regions[0]["polygon"]]
    frame = inspect.execute_script(
        "return ['x', 'y', 'width', 'height'].map((n) => document.getElementById('map').getAttribute(n))"
    )
    assert list(map(float, frame)) == [0, 0, 64, 48]
    assert inspect.execute_script("return document.getElementById('map').getAttribute('opacity')") == "0.5"
    inspect.find_element("id", "opacity").send_keys("\ue010")  # End
    assert inspect.execute_script("return document.getElementById('map').getAttribute('opacity')") == "1"
    inspect.press("#outlines")
    assert inspect.execute_script("return getComputedStyle(document.getElementById('outline')).display") == "none"
    assert "no normal image is this odd anywhere" in inspect.texts("#regions li")[0]


def test_everything_goes_by_keys(inspect, running):
    names = inspect.texts(NAMES)
    store = running.store
    inspect.keys("j", "j")
    assert chosen(inspect) == names[1 + 1]
    assert not inspect.execute_script("return document.getElementById('follow').checked")
    inspect.keys("k")
    assert chosen(inspect) == names[1]
    inspect.keys("f")
    assert inspect.execute_script("return document.body.classList.contains('is-large')")
    inspect.keys("\ue015")  # arrow down
    assert chosen(inspect) == names[2]
    inspect.keys("\ue00c")  # Escape
    assert not inspect.execute_script("return document.body.classList.contains('is-large')")
    inspect.keys("?")
    assert inspect.execute_script("return document.getElementById('help').open")
    inspect.keys("\ue00c", "/")
    assert inspect.switch_to.active_element.get_attribute("name") == "text"
    inspect.keys("004")
    inspect.wait(f"return document.querySelectorAll('{NAMES}').length === 1")
    assert chosen(inspect) == "004.png"
    inspect.execute_script("document.querySelector('#list .row').focus()")
    inspect.keys("g")
    inspect.says("done", "it becomes a normal image")
    (judgement,) = store.judgements("bolt", text="004.png")
    assert judgement.mark == "fine"
    inspect.says("waiting", "1 image waits for the next version: 1 that is fine.")
    inspect.keys("m")  # which an alarm cannot be
    inspect.says("toast", "nothing was missed")
    inspect.keys("c")
    inspect.wait("return document.querySelector('[data-mark=confirmed]').getAttribute('aria-pressed') === 'true'")
    inspect.keys("u", "u")
    inspect.wait("return document.getElementById('waiting').hidden")
    assert store.judgement(judgement.id).mark is None
    assert [change.who for change in store.changes("bolt") if change.action == "mark"] == ["local"] * 4


def test_the_list_is_not_filtered_by_what_is_still_typed(inspect, judge):
    inspect.execute_script("document.getElementById('filter-text').value = 'no such name'")  # and no pause after it
    judge("meanwhile.png")
    inspect.wait(f"return document.querySelector('{NAMES}').textContent === 'meanwhile.png'")
    assert len(inspect.texts(NAMES)) > 12


def test_buttons_and_filters_do_the_same(inspect, running):
    inspect.press("#filters option[value=normal]")
    inspect.wait("return [...document.querySelectorAll('#list .badge')].every((e) => e.textContent === 'Normal')")
    chosen(inspect)
    assert not inspect.find_element("css selector", "[data-mark=fine]").is_enabled()
    inspect.press("[data-mark=missed]")
    inspect.says("done", "known defect")
    inspect.press("#more-filters summary")
    inspect.press("#filters [name=mark] option[value=missed]")
    inspect.wait(f"return document.querySelectorAll('{NAMES}').length === 1")
    (missed,) = running.store.judgements("bolt", mark="missed")
    assert chosen(inspect) == missed.name
    inspect.says("waiting", "1 image waits for the next version: 1 defect.")
    inspect.press("[data-mark=confirmed]")
    inspect.says("done", "the part is good")
    inspect.wait("return document.getElementById('waiting').hidden")
    inspect.press("#undo")
    inspect.says("done", "known defect")
    inspect.press("#undo")
    inspect.wait("return document.getElementById('done').textContent === ''")
    assert running.store.judgement(missed.id).mark is None
    inspect.press("#filters [type=reset]")
    inspect.wait(f"return document.querySelectorAll('{NAMES}').length >= 12")
    inspect.press("#next")
    assert chosen(inspect) == inspect.texts(NAMES)[1]


def test_a_hostile_name_stays_text(inspect, judge):
    judgement = judge(HOSTILE, spot=True)
    inspect.wait("return document.getElementById('name').textContent === arguments[0]", HOSTILE)
    assert inspect.execute_script("return document.querySelectorAll('[onerror]').length") == 0
    inspect.open(f"/page/products/bolt/history?text={judgement.id}")
    assert inspect.texts(".verdicts tbody th") == [HOSTILE]
    assert inspect.execute_script("return document.querySelectorAll('[onerror]').length") == 0


def test_a_link_leads_to_one_verdict(browser, running):
    (judgement,) = running.store.judgements("bolt", text="001.png")
    browser.open(f"{INSPECT}?id={judgement.id}")
    browser.says("name", "001.png")
    assert not browser.find_element("id", "follow").is_selected()


def test_pictures_over_http(running):
    (judgement,) = running.store.judgements("bolt", text="001.png")
    one = f"{running.url}/page/api/products/bolt/judgements/{judgement.id}"
    thumbnail, image, overlay = (httpx.get(f"{one}/{name}") for name in ("thumbnail", "image", "map"))
    assert thumbnail.headers["content-type"] == "image/jpeg" and image.content == running.store.image(judgement.id)[0]
    assert image.headers["content-type"] == "image/png" and image.headers["x-content-type-options"] == "nosniff"
    assert overlay.headers["x-frame-in-image"] == "0.000 0.000 64.000 48.000"
    assert httpx.get(f"{one.replace('bolt', 'nut')}/image").status_code == 404
    assert httpx.get(f"{one[:-3]}AAA/image").json()["error"]["message"] == "There is no such verdict of this product."


@pytest.mark.parametrize(
    ("name", "mark", "status"),
    [
        ("001.png", "missed", 422),
        ("000.png", "fine", 422),
        ("000.png", "good", 422),
        ("001.png", "nice", 422),
        ("001.png", 3, 422),
    ],
)
def test_marks_that_cannot_be_are_refused(running, name, mark, status):
    (judgement,) = running.store.judgements("bolt", text=name)
    one = f"{running.url}/page/api/products/bolt/judgements/{judgement.id}/mark"
    assert httpx.post(one, json={"mark": mark}).status_code == status
    assert running.store.judgement(judgement.id).mark is None


@pytest.mark.parametrize(("quota", "waiting"), [(1 << 20, {"fine": 1, "defects": 1}), (0, {"fine": 0, "defects": 0})])
def test_a_verdict_without_an_image_waits_for_no_version(tmp_path, quota, waiting):
    with prepared_service(tmp_path, quota=quota) as service:
        for name, mark in (("a.png", "fine"), ("b.png", "missed")):
            verdict = service.score("bolt", as_file(grey_image(spot=name == "a.png")), name=name).result(20).judgement
            service.store.mark(verdict.id, mark, "anna")
        assert Waiting(service.store).of("bolt") == waiting


def test_another_sites_page_marks_nothing(running):
    (judgement,) = running.store.judgements("bolt", text="001.png")
    one = f"{running.url}/page/api/products/bolt/judgements/{judgement.id}/mark"
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert httpx.post(one, json={"mark": "fine"}, headers=headers).status_code == 403
    assert httpx.post(one, content=b"mark=fine", headers={"content-type": "text/plain"}).status_code == 415
    assert running.store.judgement(judgement.id).mark is None
