"""Broken bytes at the service's socket: an answer below 500 or a closed connection, and afterwards it judges as before."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from raw_requests import broken, exchange, sound

from anomaly_serve.testing import RunningService, as_file, grey_image, running_service

FEW, MANY = 300, 10_000
AT_ONCE = 8


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningService]:
    with running_service(tmp_path) as running:
        yield running


def address(running: RunningService) -> tuple[str, int]:
    parts = urlsplit(running.url)
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


def attack(running: RunningService, count: int, seed: int) -> Counter[int]:
    """Send broken requests; how many were answered how, 0 for those that got no answer."""
    place = address(running)

    def one(number: int) -> int:
        content = broken(random.Random(f"{seed}/{number}"))
        answer = exchange(place, content)
        assert all(status < 500 for status in answer.statuses), (
            f"{seed}/{number}: {answer.content[:300]!r} to {content[:500]!r}"
        )
        return answer.statuses[0] if answer.statuses else 0

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return Counter(pool.map(one, range(count)))


def judges(running: RunningService) -> None:
    for spot in (False, True):
        answer = httpx.post(f"{running.url}/v1/products/bolt/score", content=as_file(grey_image(spot=spot)))
        assert answer.status_code == 200 and answer.json()["is_anomalous"] is spot
    assert running.service.in_work == 0


@pytest.mark.filterwarnings("ignore::UserWarning")  # the reader's, of odd images
def test_sound_requests_are_answered(running: RunningService) -> None:
    for number in range(60):
        answer = exchange(address(running), sound(random.Random(number)), patience=10)
        assert answer.statuses == [200], answer.content[:500]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_requests_cost_nobody_else(running: RunningService) -> None:
    seen = attack(running, FEW, seed=7)
    judges(running)
    assert {200, 400, 422} <= set(seen), seen


@pytest.mark.soak
@pytest.mark.reliability("input")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_ten_thousand_broken_requests(running: RunningService, soak_seed: int, record: Callable[..., None]) -> None:
    seen = attack(running, MANY, soak_seed)
    judges(running)
    assert {200, 400, 422} <= set(seen), seen
    record("input", "broken bytes at the service's socket: no 500, and it judges as before", MANY, seed=soak_seed)
