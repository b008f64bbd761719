"""Every installed component passes the conformance kit; methods do in test_methods.py, data sets in their plugin's tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from anomaly_core import registry
from anomaly_testing import parametrize_with_checks

KINDS = ("trainer", "metric", "backbone", "command", "hook", "engine", "executor")
COMPONENTS = [(kind, name) for kind in KINDS for name in registry.group(kind)]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """LPIPS's weights are not looked for on the network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@parametrize_with_checks(*COMPONENTS)
def test_conformance(check: Callable[[], None]) -> None:
    check()
