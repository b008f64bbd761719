"""Plugins in one or two modules, right but for one line: each proves that a check can fail."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anomaly_core import ComponentSpec
from anomaly_testing import ConformanceError, check_component

Modules = Callable[..., str]
Fails = Callable[[ComponentSpec, str, str], None]
COMMON = {"torch_free", "importable", "described", "named_well"}  # of every kind; proved by the tests of models


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Modules]:
    """Write a source of which one line is replaced; the module's name.

    What stands above a line ``# ---`` is a module of its own, whose name ends in ``_config``.
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    stem = "checked_" + "".join(letter if letter.isalnum() else "_" for letter in request.node.name)

    def write(source: str, old: str = "", new: str = "") -> str:
        assert old in source
        above, line, below = (source.replace(old, new, 1) if old else source).partition("# ---")
        if line:
            (tmp_path / f"{stem}_config.py").write_text(above)
        (tmp_path / f"{stem}.py").write_text(below if line else above)
        return stem

    yield write
    for name in set(sys.modules) - before:
        if name.startswith(stem):
            del sys.modules[name]


@pytest.fixture
def fails() -> Fails:
    """A component fails one check, for a reason that holds one of some words (separated by ``|``)."""

    def require(spec: ComponentSpec, check: str, words: str) -> None:
        with pytest.raises(ConformanceError, match=check) as failure:
            check_component(spec, spec.kind, only=[check])
        assert any(word in str(failure.value) for word in words.split("|")), str(failure.value)

    return require


@pytest.fixture
def common() -> set[str]:
    """The checks that every kind of component has."""
    return set(COMMON)
