"""A running service with a history, and a real Chromium that looks at its pages."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anomaly_serve.testing import RunningService, as_file, grey_image, running_service
from chromium import Browser, chromium_driver

PRODUCT = "bolt"
HOSTILE = '<img src=x onerror="alert(1)">.png'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Twelve images, every third with a defect; the threshold is 0.5."""
    with running_service(tmp_path_factory.mktemp("service")) as service:
        for number in range(12):
            judge(service, f"{number:03d}.png", spot=number % 3 == 1, seed=number)
        yield service


def judge(running: RunningService, name: str, *, spot: bool = False, seed: int = 0) -> Any:
    """Have an image judged, and return its verdict."""
    image = as_file(grey_image(spot=spot, seed=seed))
    return running.service.score(PRODUCT, image, name=name).result(20).judgement


@pytest.fixture(name="judge")
def _judge(running: RunningService) -> Callable[..., Any]:
    """:func:`judge` for the running service."""
    return lambda name, **facts: judge(running, name, **facts)


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    """Debian's Chromium, for these tests alone."""
    yield from chromium_driver()


class PageBrowser(Browser):
    """The page of a service."""

    def __init__(self, driver: Any, url: str) -> None:
        super().__init__(driver)
        self.url = url

    def open(self, path: str, **facts: Any) -> PageBrowser:
        """A page of the service, at a width and in a scheme."""
        self.show(self.url + path, **facts)
        return self

    def says(self, name: str, text: str) -> None:
        """Wait until an element has a text."""
        self.wait("return document.getElementById(arguments[0])?.textContent.includes(arguments[1])", name, text)

    def texts(self, selector: str) -> list[str]:
        return list(
            self.execute_script("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector)
        )

    def shoot(self, name: str, *, whole: bool = True) -> None:
        """A picture of the page, or of what the window shows of it, where ANOMALY_SCREENSHOTS names a folder."""
        if folder := os.environ.get("ANOMALY_SCREENSHOTS"):
            options: dict[str, Any] = {"format": "png"}
            if whole:
                width, height = self.execute_script("return [innerWidth, document.documentElement.scrollHeight]")
                clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
                options |= {"captureBeyondViewport": True, "clip": clip}
            data = self.execute_cdp_cmd("Page.captureScreenshot", options)["data"]
            Path(folder, f"{name}.png").write_bytes(base64.b64decode(data))


@pytest.fixture
def page_of() -> Callable[[Any, str], PageBrowser]:
    """The page of another service: ``page_of(driver, url)``."""
    return PageBrowser


@pytest.fixture
def browser(driver: Any, running: RunningService) -> Iterator[PageBrowser]:
    """Afterwards nothing may stand in the console, nor have been asked of another host."""
    driver.get_log("browser")
    page = PageBrowser(driver, running.url)
    yield page
    assert page.faults(running.url, "blob:") == []
    driver.get("about:blank")  # asks the service no more
