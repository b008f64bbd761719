"""Versions that come, go and cannot be opened, while images are judged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from anomaly_core import RunError
from anomaly_serve.app import create_app
from anomaly_serve.faults import NotReady, NoVersion
from anomaly_serve.products import MOST_LOADED
from anomaly_serve.service import Service, ServiceOptions
from anomaly_serve.store import Store
from anomaly_serve.testing import BrightSpots, grey_image, prepared_service


def opener(path: Path) -> Any:
    """A detector for every path that is not said to be gone."""
    if "gone" in path.name:
        raise RunError(f"there is nothing at {str(path)!r}. Give the run's folder, {str(path.parent)!r}.")
    if "broken" in path.name:
        raise ValueError("an engine's own")
    return BrightSpots()


def test_a_version_that_cannot_be_opened_is_told_and_the_others_serve(tmp_path: Path) -> None:
    secret = tmp_path / "of-the-plant"
    calibration = BrightSpots().calibration
    with Store.open(None, tmp_path) as store:
        for name, path in (("bolt", secret / "gone"), ("nut", secret / "broken"), ("lid", secret / "lid")):
            store.add_product(name, "eva")
            store.add_version(name, str(path), calibration=calibration, who="eva")
            store.activate(name, 1, "eva")
        with pytest.warns(UserWarning) as told, Service(store, ServiceOptions(opener=opener)) as service:
            client = TestClient(create_app(service))
            for name, words in (("bolt", "nothing at 'gone'"), ("nut", "ValueError: an engine's own")):
                answer = client.post(f"/v1/products/{name}/score", content=b"")
                message = answer.json()["error"]["message"]
                assert answer.status_code == 503 and words in message and "of-the-plant/" not in message
            assert service.score("lid", grey_image()).result(10).judgement.version == 1
            ready = client.get("/readyz")
            assert ready.status_code == 200 and ready.json()["not_ready"] == ["bolt", "nut"]
            service.add_version("bolt", secret / "good", who="eva", activate=True)
            assert service.score("bolt", grey_image()).result(10).judgement.version == 2
            with pytest.raises(NotReady, match="version 1"):
                service.activate("bolt", 1, "eva")
            active = service.products["bolt"].active
            assert active is not None and active.number == 2 == store.active("bolt").number  # type: ignore[union-attr]
    assert sum("cannot be loaded" in str(one.message) for one in told) == 2


def test_versions_change_under_load_and_no_image_is_lost(tmp_path: Path) -> None:
    options = ServiceOptions(queue=10_000, opener=opener)
    with prepared_service(tmp_path, {"bolt": "1"}, options=options) as service:
        for number in range(2, 6):
            service.add_version("bolt", tmp_path / str(number), who="eva")
        image = grey_image()
        with ThreadPoolExecutor(3) as people:
            changes = [people.submit(service.activate, "bolt", 1 + i % 5, f"{i}") for i in range(40)]
            judged = [service.score("bolt", image, keep=False, version=None if i % 3 else 1 + i % 5) for i in range(300)]
            for change in changes:
                change.result(20)
        assert len({one.result(20).judgement.id for one in judged}) == 300
        active = service.products["bolt"].active
        assert active is not None and active.number == service.store.active("bolt").number  # type: ignore[union-attr]
        loaded = [number for number in range(1, 6) if service.products["bolt"].loaded(number)]
        assert len(loaded) <= MOST_LOADED + 1
        service.activate("bolt", None, "eva")
        with pytest.raises(NoVersion):
            service.score("bolt", image)
        assert service.in_work == 0
