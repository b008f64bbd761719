"""What the tests of doors share."""

from __future__ import annotations

import logging

import pytest
from doorstep import FakeService


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture(autouse=True)
def warnings_are_seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "anomaly_core.serve")
    logging.getLogger("anomaly_core").propagate = True
