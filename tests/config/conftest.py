"""Presets that a test writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from anomaly_core import registry


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Give the method ``palette`` a preset, by its name and text, in place of its own ones."""
    package = tmp_path / "site" / f"presets_of_{tmp_path.name}"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setitem(vars(registry.models["palette"].spec), "presets", f"{package.name}:")

    def write(name: str, text: str) -> None:
        (package / "presets").mkdir(exist_ok=True)
        (package / "presets" / f"{name}.yaml").write_text(text)

    return write
