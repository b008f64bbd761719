"""The dependencies' licences: all of them are on the list of those that somebody has looked at."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def licences() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", Path(__file__).parents[2] / "tools" / "licences.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_dependency_may_be_installed(licences: ModuleType) -> None:
    closure = licences.closure()
    names = {distribution.metadata["Name"].lower() for distribution in closure}
    assert {"torch", "click", "safetensors"} <= names
    assert [f"{item.metadata['Name']}: {licences.licence(item)}" for item in closure if licences.refused(item)] == []


@pytest.mark.parametrize(
    "text", ["GPL-3.0-only", "AGPL", "MIT OR GPL-2.0", "UNKNOWN", "Proprietary", "GNU General Public License"]
)
def test_others_are_refused(licences: ModuleType, text: str) -> None:
    class Distribution:
        metadata = licences.metadata.metadata("click")

    Distribution.metadata.replace_header("License-Expression", text) if "License-Expression" in Distribution.metadata else None
    if "License-Expression" not in Distribution.metadata:
        Distribution.metadata["License-Expression"] = text
    assert licences.refused(Distribution())
