"""*Set* in a real Chromium, against a running service."""

from __future__ import annotations

import httpx
import pytest

SET = "/page/products/bolt/set"


@pytest.fixture
def setting(browser):
    browser.open(SET)
    browser.wait("return document.getElementById('t-after').textContent !== ''")
    return browser


def test_a_threshold_is_moved_looked_at_and_applied(setting, running, judge):
    before = running.store.settings("bolt", 1)[-1]
    assert setting.text("t-before") == setting.text("t-after") == "0.5"
    assert setting.text("expected") == "10"  # the rate of 1 % that the detector came with
    assert "4 of 12 of the last 7 days" in setting.text("observed-words") and setting.text("observed") == "330"
    assert len(setting.texts("#above li")) == 4 and len(setting.texts("#below li")) == 6
    slider = setting.find_element("id", "slider")
    for _ in range(3):
        slider.send_keys("\ue00e")  # Page Up is a tenth of the range
    value = float(setting.find_element("id", "threshold").get_attribute("value"))
    assert value > 0.7
    setting.wait("return document.getElementById('t-after').textContent === arguments[0]", f"{value:.4g}")
    assert setting.text("e-after") == "9.9"  # (0 + 1) / (99 + 2)
    assert setting.text("changed") == "No verdict of these days would have been another."
    field = setting.find_element("id", "threshold")
    field.clear()
    field.send_keys("0.02")
    setting.says("changed", "more would have raised an alarm.")
    assert setting.text("warning") == "" and float(setting.text("e-after")) > 900
    setting.find_element("id", "area").send_keys("50")
    setting.says("a-after", "50")
    setting.press("#apply")  # without a reason, the browser asks for one
    assert running.store.settings("bolt", 1)[-1].number == before.number
    setting.find_element("id", "why").send_keys("Every bright spot counts")
    setting.press("#apply")
    setting.says("toast", "Settings 2 hold since")
    after = running.store.settings("bolt", 1)[-1]
    assert (after.calibration.threshold, after.least_area, after.who, after.why) == (
        0.02,
        50,
        "local",
        "Every bright spot counts",
    )
    assert judge("after.png").threshold == 0.02
    setting.press("[data-take-back='1']")
    setting.find_element("id", "taking-why").send_keys("Too many alarms")
    setting.press("#taking-do")
    setting.says("toast", "Settings 3 hold since")
    last = running.store.settings("bolt", 1)[-1]
    assert (last.calibration, last.least_area, last.why) == (before.calibration, before.least_area, "Too many alarms")


def test_a_rate_of_false_alarms_chooses_the_threshold(setting, running):
    rate = setting.find_element("id", "rate")
    rate.clear()
    rate.send_keys("100")
    setting.wait("return document.getElementById('e-after').textContent === '100'")
    expected = running.store.settings("bolt", 1)[-1].calibration.at_rate(0.1)
    assert float(setting.find_element("id", "threshold").get_attribute("value")) == pytest.approx(expected.threshold, rel=1e-6)
    assert "with 95 % confidence" in setting.text("expected-words")
    rate.clear()
    rate.send_keys("1")
    setting.says("warning", "cannot support a false-alarm rate of 0.001")
    setting.says("warning", "That rate needs 999 images: add images of good parts under Teach, or allow more false alarms")
    assert "base." not in setting.text("warning")
    setting.press("#back")
    setting.wait("return document.getElementById('t-after').textContent === document.getElementById('t-before').textContent")


def test_what_cannot_be_is_refused_in_words(running):
    api = f"{running.url}/page/api/products/bolt/set"
    holds = running.store.settings("bolt", 1)[-1].number

    def refusal(**body):
        answer = httpx.post(api, json={"version": 1, "holds": holds, "threshold": 0.7, "why": "a reason", **body})
        return answer.status_code, answer.json()["error"]["message"]

    assert refusal(why="") == (422, "Say why, in some words: whoever looks at a verdict later will read it.")
    assert refusal(holds=holds + 1)[0] == 409 and refusal(version=7)[0] == 404 and refusal(take_back=99)[0] == 404
    assert refusal(threshold="nan")[0] == refusal(threshold=True)[0] == refusal(threshold=[1])[0] == 422
    assert refusal(threshold=None, per_thousand=0)[0] == refusal(per_thousand=1000)[0] == refusal(least_area=-1)[0] == 422
    now = running.store.settings("bolt", 1)[-1].calibration.threshold
    assert refusal(threshold=now) == (422, "These settings hold already.")
    assert running.store.settings("bolt", 1)[-1].number == holds
    assert httpx.get(f"{api}/outcome").status_code == 422 and httpx.get(f"{api}/outcome?threshold=1&days=0").status_code == 422
    assert httpx.get(f"{running.url}/page/products/bolt/set?version=9").status_code == 404
