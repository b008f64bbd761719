"""The core, this distribution and the tiny components of the core's tests are all that is installed."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def companions() -> tuple[str, ...]:
    return ("anomaly-doctor",)
