"""Debian's Chromium, driven by selenium, for tests that look at pages, and what all of them do with a page."""

from __future__ import annotations

import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest


def chromium_driver() -> Iterator[Any]:
    """Debian's Chromium without a window; skipped where there is none, unless ANOMALY_REQUIRE_BROWSER=1."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    missing = "" if chromium and chromedriver else "no chromium with its chromedriver is installed"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # selenium's own
            from selenium import webdriver
            from selenium.webdriver.chrome.service import Service
    except ImportError:
        missing = "selenium is not installed"
    if missing:
        if os.environ.get("ANOMALY_REQUIRE_BROWSER") == "1":
            pytest.fail(f"{missing}, and ANOMALY_REQUIRE_BROWSER=1 asks for it", pytrace=False)
        pytest.skip(f"{missing} (Debian: apt-get install chromium chromium-driver; pip install selenium)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("headless=new", "disable-dev-shm-usage", "disable-gpu", "hide-scrollbars", "force-prefers-reduced-motion"):
        options.add_argument(f"--{argument}")
    if sys.platform == "linux" and os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to run as root with it
    browser = webdriver.Chrome(options=options, service=Service(chromedriver))
    try:
        yield browser
    finally:
        browser.quit()


class Browser:
    """The page that is open, used as its reader does; what is not here is the driver's own."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def show(self, address: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open an address, at a width and in a scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        self.get(address)

    def wait(self, script: str, *given: Any, seconds: float = 15) -> Any:
        """Until the script returns something true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.execute_script(script, *given):
                return value
            time.sleep(0.02)
        raise AssertionError(f"never true: {script}")

    def text(self, name: str) -> str:
        return str(self.execute_script("return document.getElementById(arguments[0]).textContent", name))

    def keys(self, *keys: str) -> None:
        """Press keys where the focus is: as it is then, for an element that was looked up before may have left the page."""
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self._driver).send_keys(key).perform()

    def press(self, selector: str) -> None:
        """Click in the middle of the screen, for bars may stand at its edges."""
        button = self.find_element("css selector", selector)
        self.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    def faults(self, *own: str) -> list[Any]:
        """What stands in the console, and what was fetched from addresses that do not begin with one of ``own``."""
        addresses = self.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
        return [*self.get_log("browser"), *(address for address in addresses if not address.startswith(own))]
