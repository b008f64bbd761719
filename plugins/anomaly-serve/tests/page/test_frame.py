"""What holds on every page: names, contrast, width, focus, the policy; and the form for the token."""

from __future__ import annotations

import re
from importlib.resources import files

import httpx
import pytest

from anomaly_serve.access import Tokens
from anomaly_serve.testing import running_service

BOLT = "/page/products/bolt"
PAGES = ["/page/", "/page/teach", "/page/login", *(f"{BOLT}/{name}" for name in ("inspect", "set", "history", "teach"))]
PAGES += [f"{BOLT}/history/{name}" for name in ("changes", "versions", "alarms")] + ["/page/nothing"]
TOKEN = "a-token-of-24-characters"

NAMELESS = """
return [...document.querySelectorAll('input, select, textarea, button, a, summary, [role=img], dialog, nav, section')]
  .filter((e) => e.checkVisibility?.({visibilityProperty: true}))
  .filter((e) => {
    const ids = (e.getAttribute('aria-labelledby') || '').split(' ');
    const by = ids.map((id) => document.getElementById(id)?.textContent.trim());
    const labels = [...(e.labels || [])].map((label) => label.textContent.trim());
    const own = ['INPUT', 'SELECT', 'TEXTAREA', 'SECTION', 'NAV', 'svg'].includes(e.tagName) ? '' : e.textContent.trim();
    return ![e.getAttribute('aria-label'), ...by, ...labels, own].some(Boolean);
  }).map((e) => e.outerHTML.slice(0, 200));
"""
SMALL = """
return [...document.querySelectorAll('input, select, textarea, button, summary, a.button, .sections a, .parts a')]
  .filter((e) => e.checkVisibility() && !['checkbox', 'radio'].includes(e.type))
  .filter((e) => Math.round(e.getBoundingClientRect().height) < 44).map((e) => e.outerHTML.slice(0, 200));
"""
WIDER = """
return document.documentElement.scrollWidth > innerWidth &&
  [...document.querySelectorAll('main *, header *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.outerHTML.slice(0, 120));
"""


def waited(browser, path):
    """The page once its scripts have done their part."""
    if path.endswith("inspect"):
        browser.wait("return document.getElementById('map')?.getAttribute('href')")
    if path.endswith("set"):
        browser.wait("return document.getElementById('t-after').textContent !== ''")


@pytest.mark.parametrize("path", [path for path in PAGES if path != "/page/nothing"])
def test_every_control_has_a_name_is_large_enough_and_nothing_is_too_wide(browser, path):
    for width in (320, 820, 1920):
        browser.open(path, width=width)
        waited(browser, path)
        assert browser.execute_script(WIDER) is False, width
        assert browser.execute_script(SMALL) == [], width
    assert browser.execute_script(NAMELESS) == []
    images = "return [...document.images].filter((e) => !e.hasAttribute('alt')).length"
    landmarks = "return ['main', 'header', 'h1'].map((n) => document.querySelectorAll(n).length)"
    assert browser.execute_script(images) == 0 and browser.execute_script(landmarks) == [1, 1, 1]
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("path", [f"{BOLT}/inspect", f"{BOLT}/set", f"{BOLT}/history/versions"])
def test_focus_is_seen_wherever_the_tab_key_leads(browser, path):
    browser.open(path)
    waited(browser, path)
    body = browser.find_element("tag name", "body")
    body.send_keys("\ue004")
    assert browser.switch_to.active_element.get_attribute("href").endswith("#content")
    seen = set()
    for _ in range(60):
        browser.keys("\ue004")
        element = browser.switch_to.active_element
        if element.tag_name == "body":
            break
        style = browser.execute_script("return getComputedStyle(arguments[0]).outline", element)
        assert "solid 3px" in style, element.get_attribute("outerHTML")[:200]
        seen.add(element.get_attribute("id") or element.get_attribute("href") or element.text)
    expected = {
        "inspect": {"theme", "follow", "filter-text", "opacity", "large"},
        "set": {"slider", "threshold", "rate", "why", "apply"},
    }
    assert expected.get(path.rpartition("/")[2], {"theme"}) <= seen


def test_light_and_dark_follow_the_system_and_the_reader(browser):
    colour = "return getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(244, 246, 248)", "rgb(18, 22, 27)"
    browser.open("/page/")
    assert browser.execute_script(colour) == light
    browser.open("/page/", dark=True)
    assert browser.execute_script(colour) == dark
    browser.press("#theme option[value=light]")
    assert browser.execute_script(colour) == light
    browser.open(f"{BOLT}/history", dark=True)
    assert browser.execute_script(colour) == light
    browser.press("#theme option[value=auto]")
    assert browser.execute_script(colour) == dark


def test_paper_is_light_and_tables_are_whole(browser):
    browser.open(f"{BOLT}/history", width=718)
    browser.press("#theme option[value=dark]")
    try:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
        ink = browser.execute_script("return getComputedStyle(document.body).color")
        assert ink == "rgb(27, 31, 36)" == browser.execute_script("return getComputedStyle(document.querySelector('h1')).color")
        assert browser.execute_script("return document.querySelector('header .product').checkVisibility()")
        assert not browser.execute_script("return document.querySelector('nav.sections').checkVisibility()")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 718
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
        browser.press("#theme option[value=auto]")


def schemes():
    """Name -> colours of the style sheet: light, and dark, which stands there twice."""
    text = (files("anomaly_serve.page") / "static" / "page.css").read_text(encoding="utf-8")
    blocks = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root[^{]*\{([^}]*)\}", text)]
    light, dark, chosen_dark = blocks
    assert dark == chosen_dark and light.keys() == dark.keys()
    return {"light": light, "dark": dark}


def luminance(colour):
    """Of WCAG 2.2, by https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(scheme):
    colours = schemes()[scheme]

    def contrast(ink, ground):
        high, low = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    texts = [(ink, ground) for ink in ("ink", "muted", "accent") for ground in ("page", "surface", "sunk")]
    texts += [
        ("on-accent", "accent"),
        ("on-alarm", "alarm"),
        ("normal", "normal-soft"),
        ("warn-ink", "warn-soft"),
        ("surface", "ink"),
    ]
    texts += [("alarm", "surface"), ("alarm", "page")]
    assert {pair: contrast(*pair) for pair in texts if contrast(*pair) < 4.5} == {}
    lines = [("control", "surface"), ("control", "page"), ("accent", "page"), ("normal", "surface"), ("warn-line", "page")]
    assert {pair: contrast(*pair) for pair in lines if contrast(*pair) < 3} == {}


@pytest.mark.parametrize("path", PAGES)
def test_nothing_inline_and_nothing_from_elsewhere(running, path):
    answer = httpx.get(running.url + path)
    assert "script-src 'self'; style-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
    assert re.findall(r"<style|<script(?![^>]* src=)|\sstyle=|\son[a-z]+=|javascript:", answer.text) == []
    addresses = re.findall(r'(?:src|href|action)="([^"]*)"', answer.text)
    assert addresses and all(re.match(r"/(?!/)|#", address) for address in addresses)


def test_static_files_are_asked_for_again_only_when_they_changed(running):
    answer = httpx.get(f"{running.url}/page/static/common.js")
    assert answer.headers["content-type"].startswith("text/javascript")
    again = httpx.get(f"{running.url}/page/static/common.js", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_form_for_the_token(driver, tmp_path):
    from selenium.webdriver.support.ui import WebDriverWait

    with running_service(tmp_path, tokens=Tokens([("anna", TOKEN)])) as running:

        def at(path):
            WebDriverWait(driver, 15).until(lambda browser: browser.current_url == running.url + path)

        driver.get(f"{running.url}{BOLT}/inspect")
        at("/page/login")
        driver.find_element("id", "token").send_keys("another-token-altogether\n")
        at("/page/login?wrong=1")
        assert "not known" in driver.find_element("id", "wrong").text
        driver.find_element("id", "token").send_keys(f"{TOKEN}\n")
        at("/page/")
        assert driver.find_element("css selector", ".own button").text == "Sign out anna"
        driver.get(f"{running.url}{BOLT}/history")
        assert driver.find_element("tag name", "h1").text == "Verdicts"
        driver.find_element("css selector", ".own button").click()
        at("/page/login")
        driver.get("about:blank")
        driver.get_log("browser")
