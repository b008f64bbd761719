"""A service that runs for months holds no more memory than after its first minute."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from anomaly_serve.app import create_app
from anomaly_serve.service import ServiceOptions
from anomaly_serve.testing import BrightSpots, as_file, grey_image, prepared_service

BODIES = [as_file(grey_image(seed=seed, spot=seed % 4 == 0)) for seed in range(8)]


def ask(client: TestClient, count: int) -> None:
    """Requests of all kinds, of which some are refused."""
    for number in range(count):
        body = b"no image" if number % 10 == 9 else BODIES[number % 8]
        query = ("?keep=0", f"?name=serial-{number}&keep=0", "?map=npy&keep=0", "?map=nonsense")[number % 4]
        client.post("/v1/products/bolt/score" + query, content=body)
        if number % 50 == 0:
            client.get("/v1/products/bolt/verdicts?limit=2")
            client.get(f"/v1/products/{number}")
            client.get("/metrics")


def objects() -> Counter[str]:
    gc.collect()
    return Counter(type(one).__name__ for one in gc.get_objects())


def test_nothing_is_left_of_a_request(tmp_path: Path) -> None:
    listened = []
    options = ServiceOptions(opener=lambda path: BrightSpots())
    with prepared_service(tmp_path, {"bolt": "a"}, options=options) as service:
        service.listeners.append(lambda scored, image: listened.append(1))
        client = TestClient(create_app(service))
        ask(client, 200)
        before = objects()
        ask(client, 800)
        listened.clear()
        grown = objects() - before
        assert sum(grown.values()) < 80, grown.most_common(8)  # a tenth of an object a request
        assert service.in_work == 0


@pytest.mark.soak
@pytest.mark.reliability("load")
@pytest.mark.skipif(sys.platform == "win32", reason="reads the memory of the process as POSIX has it")
def test_memory_is_flat(tmp_path: Path, record: Any) -> None:
    import resource

    count = 20_000
    options = ServiceOptions(opener=lambda path: BrightSpots())
    with prepared_service(tmp_path, {"bolt": "a"}, options=options) as service:
        client = TestClient(create_app(service))
        ask(client, 2000)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ask(client, count)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    record("load", f"requests to a service; its memory grew by {grown} KiB", count, "nothing")
    assert grown < 16_384
