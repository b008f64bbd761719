"""Requests drawn from the service's own OpenAPI document, right and wrong: each answer is one that the document describes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from hypothesis import HealthCheck, Phase, given, seed, settings

from anomaly_serve.testing import RunningService, as_file, grey_image, running_service

schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
FEW, MANY = 6, 560  # of each address, right and wrong: 150 and 10,000 in all


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningService]:
    with running_service(tmp_path) as running:
        yield running


def operations(running: RunningService) -> list[Any]:
    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    return [result.ok() for result in schema.get_all_operations()]


def known() -> list[Any]:
    """What is asked of every answer."""
    from schemathesis.specs.openapi import checks

    names = "status_code content_type response_headers response_schema".split()
    return [getattr(checks, f"{name}_conformance") for name in names]


def draw(operation: Any, mode: Any, count: int, start: int, end: float, ids: list[str]) -> Counter[int]:
    """Send so many requests for an address, fewer where the time runs out; how many were answered how. Most are for a product
    and verdicts that exist."""
    seen: Counter[int] = Counter()
    session, checks = requests.Session(), known()

    @seed(start)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def once(case: Any) -> None:
        if time.monotonic() > end:
            return
        number = sum(seen.values())
        if number % 8 and "product" in case.path_parameters:
            case.path_parameters["product"] = "bolt"
        if number % 4 and "id" in case.path_parameters:
            case.path_parameters["id"] = ids[number % len(ids)]
        response = case.call(session=session)
        assert response.status_code < 500 or case.path == "/readyz"  # no version judges: one may be switched off
        case.validate_response(response, checks=checks)
        seen[response.status_code] += 1

    once()
    return seen


def attack(running: RunningService, count: int, start: int, seconds: float) -> Counter[int]:
    total: Counter[int] = Counter()
    end = time.monotonic() + seconds
    ids = [running.service.score("bolt", grey_image(seed=i, spot=True)).result().judgement.id for i in range(3)]
    modes = schemathesis.GenerationMode
    for operation in operations(running):
        can_be_wrong = list(operation.query) + list(operation.body)  # an address alone cannot: any text is one
        for mode in [modes.POSITIVE, *([modes.NEGATIVE] if can_be_wrong else [])]:
            total += draw(operation, mode, count, start, end, ids)
    return total


def judges(running: RunningService) -> None:
    running.service.activate("bolt", 1, "test")
    active = running.service.products["bolt"].active
    assert active is not None
    running.service.apply_settings("bolt", 1, active.detector.calibration, None, "test", "its own again")
    for spot in (False, True):
        answer = httpx.post(f"{running.url}/v1/products/bolt/score", content=as_file(grey_image(spot=spot)))
        assert answer.status_code == 200 and answer.json()["is_anomalous"] is spot


@pytest.mark.filterwarnings("ignore")
def test_every_answer_is_described(running: RunningService) -> None:
    seen = attack(running, FEW, 7, 60)
    judges(running)
    assert {200, 404, 422} <= set(seen), seen


@pytest.mark.soak
@pytest.mark.reliability("input")
@pytest.mark.filterwarnings("ignore")
def test_thousands_of_answers_are_described(
    running: RunningService, soak_minutes: float, soak_seed: int, record: Callable[..., None]
) -> None:
    seen = attack(running, MANY, soak_seed, 60 * soak_minutes * 0.2)
    judges(running)
    count = sum(seen.values())
    assert {200, 400, 404, 422} <= set(seen) and count > 500, seen
    record("input", "requests drawn from the OpenAPI document: no 500, and answers as it says", count, seed=soak_seed)
