"""Whatever comes: the OpenAPI document against what is answered, and bytes that are damaged at random."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from anomaly_serve.app import create_app
from anomaly_serve.service import Service
from anomaly_serve.testing import as_file, grey_image, prepared_service

KINDS = ("png", "jpeg", "bmp", "tiff", "gif", "webp")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with prepared_service(tmp_path_factory.mktemp("store")) as service:
        yield service


def test_what_is_answered_is_what_the_document_says(service: Service) -> None:
    explore(service, 8)


@pytest.mark.soak
@pytest.mark.reliability("input")
def test_what_is_answered_to_thousands_is_what_the_document_says(service: Service, record: Any) -> None:
    count = explore(service, 400)
    record("input", "requests made from the OpenAPI document", count, "nothing: no 500, no status or answer that it lacks", 1)


def explore(service: Service, examples: int) -> int:
    """Requests by schemathesis to every operation; returns their number."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from schemathesis.checks import CHECKS, load_all_checks

    load_all_checks()
    left_out = ("positive_data_acceptance", "use_after_free", "ensure_resource_availability", "missing_required_header")
    checks = [check for check in CHECKS.get_all() if check.__name__ not in left_out]
    app: Any = create_app(service)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    count = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @seeded(1)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def answered(case: Any) -> None:
            nonlocal count
            count += 1
            if "product" in case.path_parameters and count % 5:
                case.path_parameters["product"] = "bolt"
            if case.path == "/v1/products/{product}/activate" and isinstance(case.body, dict):
                case.body = {"version": 1} if case.body.get("version") is None else case.body
            case.call_and_validate(checks=checks)

        answered()
    assert count >= examples * 10
    return count


def test_damaged_files_get_an_error_or_a_verdict(service: Service) -> None:
    batter(service, 150)


@pytest.mark.soak
@pytest.mark.reliability("input")
def test_thousands_of_damaged_files_get_an_error_or_a_verdict(service: Service, record: Any, soak_seed: int) -> None:
    statuses = batter(service, 10_000, soak_seed)
    record("input", f"image files damaged at random, over HTTP; answers {statuses}", 10_000, "nothing: no 500", soak_seed)


def batter(service: Service, count: int, seed: int = 7) -> dict[int, int]:
    """Damaged image files to the service; how often it answered with each status."""
    client, draw = TestClient(create_app(service)), np.random.default_rng(seed)
    whole = [as_file(grey_image(spot=True), kind) for kind in KINDS]
    statuses: dict[int, int] = {}
    for number in range(count):
        data = bytearray(whole[number % len(whole)])
        for _ in range(int(draw.integers(1, 20))):
            data[int(draw.integers(len(data)))] = int(draw.integers(256))
        if number % 3 == 0:
            del data[int(draw.integers(len(data))) :]
        media = f"image/{KINDS[number % len(whole)]}" if number % 2 else "application/octet-stream"
        answer = client.post("/v1/products/bolt/score?keep=0", content=bytes(data), headers={"Content-Type": media})
        assert answer.status_code in (200, 413, 422), (number, answer.text)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    assert service.in_work == 0 and set(statuses) >= {200, 422}
    return statuses


def test_nothing_was_written_by_the_fuzzing(service: Service, tmp_path: Path) -> None:
    """What was sent stays below the store's folder: a name is never a path."""
    client = TestClient(create_app(service))
    for name in ("../../evil.png", "C:\\evil.png", "a\0b", "<script>", "\u202e", "x" * 5000):
        verdict = client.post("/v1/products/bolt/score", params={"name": name}, content=as_file(grey_image()))
        assert verdict.status_code == 200
        files = [path for path in service.store.folder.rglob("*") if "evil" in path.name or "script" in path.name]
        assert not files
