"""Debian's Chromium, driven by selenium, for tests that look at pages."""

from __future__ import annotations

import os
import shutil
import sys
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
