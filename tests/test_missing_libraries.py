"""A library that is not installed: its component is sound, says what to install, and costs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import MissingLibrary, registry

ENGINES = """
    from anomaly_core import EngineSpec

    QUICK = EngineSpec(target="fake_quick.compile:quick", suffixes=(".quick",), reader="fake_quick.files:opened")
    SWIFT = EngineSpec(target="fake_quick.compile:swift", suffixes=(".swift",), reader="fake_quick.files:opened")
    QUICKER = EngineSpec(target="fake_quick.compile:quick", suffixes=(".quick",), reader="fake_quick.files:missing")
    STRANGE = EngineSpec(target="fake_quick.strange:quick")
    INNER = EngineSpec(target="fake_quick.inner:quick")
"""
FILES = {
    "fake_quick/__init__.py": "",
    "fake_quick/plugin.py": ENGINES,
    "fake_quick/files.py": "def opened(path, engine, threads): ...\n",
    "fake_quick/compile.py": "import nowhere_to_be_found.compilers\n",
    "fake_quick/strange.py": "import declared_by_nobody\n",
    "fake_quick/inner.py": "import json.nowhere_to_be_found\n",
}


@pytest.fixture
def quick(distributions: Any) -> Iterator[None]:
    """Engines of anomaly-quick, whose extra `fast` brings a library that is not installed."""
    points = {
        "engines": {name: f"fake_quick.plugin:{name.upper()}" for name in ("quick", "swift", "quicker", "strange", "inner")}
    }
    requires = ["anomaly-core", 'Nowhere.to-be_found>=1 ; extra == "fast"', "json ; extra == 'fast'"]
    info: Path = distributions.install("anomaly-quick", points=points, files=FILES, requires=requires)
    with (info / "METADATA").open("a", encoding="utf-8") as file:
        file.write("Provides-Extra: slow\nProvides-Extra: fast\n")
    registry.refresh()
    yield
    registry.refresh()


def test_what_an_extra_brings_is_missing_and_the_message_has_the_command(quick: None) -> None:
    failure = registry.engines["quick"].check()
    assert isinstance(failure, MissingLibrary)
    assert str(failure) == (
        "the engine 'quick' of anomaly-quick 1.2.3 opens exported detectors; to compute the networks of a run it needs "
        'nowhere_to_be_found, which is not installed: pip install "anomaly-quick[fast]"'
    )
    assert registry.engines["quick"].load("reader").__name__ == "opened", "files are opened all the same"


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("quicker", "fake_quick.files:missing: AttributeError"),  # its reader is not there, whatever is missing besides
        ("strange", "No module named 'declared_by_nobody'"),  # no extra brings it
        ("inner", "No module named 'json.nowhere_to_be_found'"),  # the library is there, and has no such part
    ],
)
def test_what_no_extra_explains_is_broken(quick: None, name: str, cause: str) -> None:
    failure = registry.engines[name].check()
    assert failure is not None and not isinstance(failure, MissingLibrary)
    assert "is broken" in str(failure) and cause in str(failure)


def test_fitting_without_torch_says_so_before_anything_else(
    anomaly: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomaly_core.component.find_spec", lambda name: None)
    done = anomaly("run", "--model", "no such", "--data", "no such")
    assert done.code == 2
    assert done.err == 'Error: `anomaly run` needs torch, which is not installed: pip install "anomaly-core[train]"\n'
