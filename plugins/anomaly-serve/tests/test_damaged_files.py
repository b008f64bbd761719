"""Files that are damaged at random, and names that are no names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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


def test_damaged_files_get_an_error_or_a_verdict(service: Service) -> None:
    batter(service, 150)


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
