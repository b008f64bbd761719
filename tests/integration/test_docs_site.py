"""The documentation is built without warnings, needs nothing from elsewhere, and its pages from the code are whole."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from anomaly_core import KINDS, preset_names, registry
from anomaly_doctor import describe_options

ROOT = Path(__file__).resolve().parents[2]
# The packages whose public names have a page of the reference.
PACKAGES = (
    "anomaly_core",
    "anomaly_doctor",
    "anomaly_features",
    "anomaly_metrics",
    "anomaly_predict",
    "anomaly_teach",
    "anomaly_trainers",
    "anomaly_benchmark",
    "anomaly_export",
    "anomaly_testing",
)


class Fetched(HTMLParser):
    """Addresses that a browser fetches to show a page; links that a reader may follow are none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video"):
            self.addresses.append(values.get("src") or "")
        if tag == "link" and values.get("rel") != "canonical":
            self.addresses.append(values.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text("utf-8"))
        outside = [address for address in parser.addresses if re.match(r"(\w+:)?//", address)]
        assert not outside, f"{page.name} fetches {outside}"
        missing = [
            address
            for address in parser.addresses
            if address and not address.startswith("data:") and page.name != "404.html"
            if not (page.parent / address.partition("?")[0].partition("#")[0]).exists()
        ]
        assert not missing, f"{page.name} lacks {missing}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text("utf-8")), f"{sheet.name} fetches something"


def test_each_method_has_a_page_with_its_options(site: Path) -> None:
    for name in registry.models:
        text = (site / "methods" / f"{name}.html").read_text("utf-8")
        for option, *_ in describe_options(registry.models[name].config_class()):
            assert f"model.{option}" in text
        for preset in preset_names(registry.models[name]):
            assert f'id="{preset}"' in text


def test_the_reference_is_whole(site: Path) -> None:
    commands = (site / "reference" / "cli.html").read_text("utf-8")
    assert all(f"anomaly {name}" in commands for name in registry.commands)
    assert "anomaly backbones verify" in commands
    plugins = (site / "plugins.html").read_text("utf-8")
    assert all(f"<code>{component.name}</code>" in plugins for component in registry.components() if component.kind != "model")
    hooks = (site / "reference" / "hooks.html").read_text("utf-8")
    assert "anomaly_run_end" in hooks
    assert "anomaly_predicted" in hooks and "anomaly_benchmark_end" in hooks
    specs = (site / "reference" / "specs.html").read_text("utf-8")
    assert all(f'id="anomaly_core.{spec.__name__}"' in specs for spec in KINDS.values())
    for page in (site / "reference").glob("*.html"):
        assert not re.search(r":(class|meth|func|mod|attr):", page.read_text("utf-8")), f"{page.name} shows a raw role"


@pytest.mark.parametrize("package", PACKAGES)
def test_each_public_name_has_its_place_in_the_reference(site: Path, package: str) -> None:
    folder = site / "reference"
    pages = [folder / f"{package}.html", *([folder / "specs.html"] if package == "anomaly_core" else [])]
    text = "".join(page.read_text("utf-8") for page in pages)
    names = importlib.import_module(package).__all__
    assert names
    marks = (f'id="{package}.{{}}"', "<code>{}</code>", f"<code>{package}.{{}}</code>")
    missing = [name for name in names if not any(mark.format(name) in text for mark in marks)]
    assert not missing
    documented = re.findall(rf'id="{package}\.\w+"', text)
    assert len(documented) > len(names) / 2, "the front door is lazy, and yet its pages have content"


def test_drawings_follow_the_theme(site: Path) -> None:
    text = (site / "architecture.html").read_text("utf-8")
    assert text.count('<svg class="drawing"') == 2
    assert '[data-md-color-scheme="slate"] .drawing' in text
