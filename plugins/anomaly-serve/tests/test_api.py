"""Version 1 of the interface: every address, with what it takes and what it refuses."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from anomaly_serve.app import create_app
from anomaly_serve.service import Service, ServiceOptions
from anomaly_serve.testing import BrightSpots, as_file, grey_image, prepared_service, running_service

PNG = {"Content-Type": "image/png"}
RAW = {"Content-Type": "application/octet-stream"}
SPOT = as_file(grey_image(spot=True))
SCORE = "/v1/products/bolt/score"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    options = ServiceOptions(max_bytes=100_000, max_pixels=20_000, opener=lambda path: BrightSpots())
    with prepared_service(tmp_path_factory.mktemp("store"), {"bolt": "a", "nut": "b"}, options=options) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return TestClient(create_app(service))


def fault(answer: Any, status: int, code: str) -> str:
    """The message of an error in the one form."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["status"], error["code"]) == (status, code)
    return str(error["message"])


def test_a_real_server_answers(tmp_path: Path) -> None:
    with running_service(tmp_path) as running:
        answer = httpx.post(f"{running.url}{SCORE}?name=a", content=SPOT, headers=PNG)
        verdict = answer.json()
        assert verdict["is_anomalous"] and verdict["name"] == "a" and (verdict["width"], verdict["height"]) == (64, 48)
        assert running.store.judgement(verdict["id"]) is not None


def test_the_same_image_in_every_form_has_the_same_score(client: TestClient) -> None:
    image = grey_image(spot=True)
    size = {"X-Image-Width": "64", "X-Image-Height": "48"}
    answers = [
        client.post(SCORE, content=SPOT, headers=PNG),
        client.post(SCORE, content=SPOT),
        client.post(SCORE, content=as_file(image, "bmp"), headers={"Content-Type": "image/bmp"}),
        client.post(SCORE, content=as_file(image, "tiff"), headers=RAW),
        client.post(f"{SCORE}?width=64&height=48", content=image.tobytes(), headers=RAW),
        client.post(SCORE, content=image.tobytes(), headers={**RAW, **size}),
        client.post(f"{SCORE}?colour=BGR", content=image[..., ::-1].tobytes(), headers={**RAW, **size}),
    ]
    scores = [answer.json()["score"] for answer in answers]
    assert scores == [scores[0]] * 7
    grey = np.full((48, 64), 200, np.uint8).tobytes()
    answer = client.post(SCORE, content=grey, headers={**RAW, **size, "X-Image-Channels": "1"})
    assert answer.json()["score"] == pytest.approx((200 - 127.5) / 127.5)


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("?width=64&height=47", RAW, 422, "unusable"),
        ("?width=64", RAW, 422, "unusable"),
        ("?width=-1&height=1", RAW, 422, "unusable"),
        ("?width=64&height=48&colour=CMYK", RAW, 422, "unusable"),
        ("?width=64&height=48", {**RAW, "X-Image-Channels": "1"}, 422, "unusable"),
        ("?width=64&height=48", PNG, 422, "unusable"),
        ("?map=jpg", PNG, 422, "unusable"),
        ("?keep=perhaps", PNG, 422, "unusable"),
        ("?version=0", PNG, 422, "unusable"),
        ("?version=99999999999999999999", PNG, 422, "unusable"),
        ("?version=7", PNG, 404, "not_found"),
        ("?threshold=3", PNG, 422, "unusable"),
        ("?name=a&name=b", PNG, 422, "unusable"),
        ("", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ("", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        ("", {"Content-Type": "multipart/form-data"}, 400, "bad_request"),
        ("?name=a", {"Content-Type": "multipart/form-data; boundary=x"}, 422, "unusable"),
    ],
)
def test_what_cannot_be_is_refused(client: TestClient, query: str, headers: dict[str, str], status: int, code: str) -> None:
    fault(client.post(SCORE + query, content=SPOT, headers=headers), status, code)


def test_bad_bytes_and_large_ones_are_refused(client: TestClient, service: Service) -> None:
    before = service.store.count("bolt")
    for body in (b"", b"\xff\xd8\xff\xe0", SPOT[:200], b"\0" * 1000):
        fault(client.post(SCORE, content=body, headers=PNG), 422, "unusable")
    assert "100,000 bytes" in fault(client.post(SCORE, content=b"a" * 100_001, headers=PNG), 413, "too_large")
    streamed = client.post(SCORE, content=iter([b"a" * 60_000] * 2), headers=PNG)  # without a length
    fault(streamed, 413, "too_large")
    bomb = as_file(np.zeros((2000, 2000, 3), np.uint8))
    assert len(bomb) < 100_000
    assert "2000 x 2000 pixels" in fault(client.post(SCORE, content=bomb, headers=PNG), 413, "too_large")
    assert service.store.count("bolt") == before


def test_many_images_have_a_result_each_in_order(client: TestClient) -> None:
    files = [("image", (f"{i}.png", as_file(grey_image(seed=i, spot=i % 2 == 0)), "image/png")) for i in range(20)]
    files[3] = ("image", ("3.png", b"no image", "image/png"))
    files[5] = ("image", ("5.png", b"a" * 100_001, "image/png"))
    results = client.post(f"{SCORE}?map=npy", files=files).json()["results"]
    assert [result["name"] for result in results] == [f"{i}.png" for i in range(20)]
    assert [i for i, result in enumerate(results) if "error" in result] == [3, 5]
    assert [results[i]["error"]["status"] for i in (3, 5)] == [422, 413]
    assert all(result["is_anomalous"] == (i % 2 == 0) for i, result in enumerate(results) if "error" not in result)
    assert np.load(BytesIO(b64decode(results[0]["map"]["data"]))).shape == (32, 32)
    fault(client.post(SCORE, files=[("picture", ("a.png", SPOT))]), 422, "unusable")
    fault(client.post(SCORE, files=[("image", ("a.png", SPOT))] * 101), 400, "bad_request")


def test_maps_say_where_they_lie_and_what_they_mean(client: TestClient) -> None:
    expected = BrightSpots().predict(grey_image(spot=True)).maps[0, 0]
    facts = client.post(f"{SCORE}?map=npy", content=SPOT, headers=PNG).json()["map"]
    assert np.array_equal(np.load(BytesIO(b64decode(facts["data"]))), expected)
    assert facts["extent"] == [0, 0, 64, 48]
    for answer in (
        client.post("/v1/products/bolt/map", content=SPOT, headers=PNG),
        client.post(SCORE, content=SPOT, headers={**PNG, "Accept": "image/png"}),
    ):
        picture = np.asarray(Image.open(BytesIO(answer.content)), dtype=float)
        low, high = float(answer.headers["X-Map-Low"]), float(answer.headers["X-Map-High"])
        assert (low + high) / 2 == pytest.approx(0.5)  # the map threshold is mid-grey
        assert np.allclose(picture / 255 * (high - low) + low, np.clip(expected, low, high), atol=(high - low) / 500)
        assert answer.headers["X-Is-Anomalous"] == "true"


def test_versions_settings_and_who_changed_them(client: TestClient, service: Service, tmp_path: Path) -> None:
    service.add_version("nut", tmp_path / "second", who="eva", note="taught on")
    assert [one["number"] for one in client.get("/v1/products/nut/versions").json()["versions"]] == [1, 2]
    assert client.post("/v1/products/nut/activate", json={"version": 2}).json()["active"]["number"] == 2
    assert client.post("/v1/products/nut/score", content=SPOT, headers=PNG).json()["version"] == 2
    fault(client.post("/v1/products/nut/activate", json={"version": 3}), 404, "not_found")
    answer = client.post("/v1/products/nut/settings", json={"threshold": 2, "least_area": 5, "why": "dust"}).json()
    assert (answer["number"], answer["threshold"], answer["least_area"], answer["who"]) == (2, 2.0, 5.0, "local")
    assert client.post("/v1/products/nut/score", content=SPOT, headers=PNG).json()["is_anomalous"] is False
    assert client.post("/v1/products/nut/settings", json={"false_alarm_rate": 0.1}).json()["threshold"] < 0.5
    assert [row["why"] for row in client.get("/v1/products/nut/settings").json()["settings"]] == ["taught on", "dust", ""]
    short = client.post("/v1/products/nut/settings", json={"false_alarm_rate": 0.001}).json()["warning"]
    assert short.endswith("needs 999 images: add a version taught from more normal images, or raise false_alarm_rate.")
    for body in ({"threshold": 1, "false_alarm_rate": 0.1}, {}, {"thresh": 1}, {"threshold": "1"}, {"threshold": True}):
        fault(client.post("/v1/products/nut/settings", json=body), 422, "unusable")
    for rate in (0, 1, -1, 1e9):
        fault(client.post("/v1/products/nut/settings", json={"false_alarm_rate": rate}), 422, "unusable")
    json = {"Content-Type": "application/json"}
    for text in ("[" * 5000, "nul", '{"threshold": NaN}', '{"threshold": 1e999}'):
        assert client.post("/v1/products/nut/settings", content=text, headers=json).status_code in (400, 422)
    assert client.post("/v1/products/nut/activate", json={"version": None}).json()["is_ready"] is False
    assert "no version that judges" in fault(client.post("/v1/products/nut/score", content=SPOT), 409, "no_version")


def test_the_history_is_read_page_by_page_and_marked(client: TestClient, service: Service) -> None:
    for i in range(5):
        client.post(f"{SCORE}?name=page-{i}", content=SPOT if i % 2 else as_file(grey_image(seed=i)), headers=PNG)
    base = "/v1/products/bolt/verdicts"
    first = client.get(f"{base}?limit=3&text=page-").json()
    second = client.get(f"{base}?limit=3&text=page-&before={first['next']}").json()
    assert [one["name"] for one in first["verdicts"] + second["verdicts"]] == [f"page-{i}" for i in (4, 3, 2, 1, 0)]
    assert second["next"] is None
    anomalous = client.get(f"{base}?is_anomalous=1&text=page-&since=0&version=1").json()["verdicts"]
    assert [one["name"] for one in anomalous] == ["page-3", "page-1"]
    own = f"{base}/{anomalous[0]['id']}"
    assert client.post(f"{own}/mark", json={"mark": "confirmed"}).json()["mark"] == "confirmed"
    assert client.get(own).json()["mark"] == "confirmed"
    fault(client.post(f"{own}/mark", json={"mark": "nice"}), 422, "unusable")
    image = client.get(f"{own}/image")
    assert image.content == SPOT and image.headers["Content-Type"] == "image/png"
    assert Image.open(BytesIO(client.get(f"{own}/map.png").content)).size == (32, 32)
    unkept = client.post(f"{SCORE}?keep=0", content=SPOT, headers=PNG).json()["id"]
    fault(client.get(f"{base}/{unkept}/image"), 404, "not_found")
    fault(client.get(f"{base}/{unkept}/map.png"), 404, "not_found")
    for id in ("0" * 26, "nonsense", "%00", "ü" * 26):
        fault(client.get(f"{base}/{id}"), 404, "not_found")
    for query in ("limit=0", "limit=501", "limit=a", "before=x", "since=nan", "mark=x", "is_anomalous=2", "text=%00", "x=1"):
        fault(client.get(f"{base}?{query}"), 422, "unusable")


def test_unknown_addresses_and_methods(client: TestClient) -> None:
    assert "'nope'" in fault(client.get("/v1/products/nope"), 404, "unknown_product")
    fault(client.post("/v1/products/nope/score", content=SPOT), 404, "unknown_product")
    fault(client.get("/v1/nothing"), 404, "not_found")
    answer = client.get(SCORE)
    fault(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]


def test_a_full_queue_says_when_to_come_again(tmp_path: Path) -> None:
    options = ServiceOptions(queue=1, opener=lambda path: BrightSpots(delay=0.5))
    with prepared_service(tmp_path, {"bolt": "a"}, options=options) as service:
        client = TestClient(create_app(service))
        first = service.score("bolt", grey_image())
        answer = client.post(SCORE, content=SPOT, headers=PNG)
        fault(answer, 429, "busy")
        assert int(answer.headers["Retry-After"]) >= 1
        first.result(10)
        many = client.post(SCORE, files=[("image", (f"{i}.png", SPOT)) for i in range(3)]).json()["results"]
        assert all("error" not in one for one in many)  # a form waits for room
        service.stop()
        fault(client.post(SCORE, content=SPOT, headers=PNG), 503, "not_ready")
        assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200


def test_the_figures_for_prometheus(client: TestClient) -> None:
    client.post(SCORE, content=SPOT, headers=PNG)
    text = client.get("/metrics").text
    for line in (
        'anomaly_requests_total{status="200"}',
        'anomaly_verdicts_total{product="bolt",verdict="anomalous"}',
        'anomaly_stage_seconds_bucket{le="0.1",stage="score"}',
        "anomaly_batch_size_count",
        "anomaly_queue_length 0.0",
        'anomaly_drift_alarms_open{product="bolt"} 0.0',
        "anomaly_store_bytes",
    ):
        assert line in text, line
    assert client.get("/readyz").json()["status"] == "ready"


def test_bodies_in_memory_are_bounded(service: Service) -> None:
    app: Any = create_app(service)
    app._most = 500
    client = TestClient(app)
    answer = client.post(SCORE, content=as_file(grey_image()), headers=PNG)
    assert "memory" in fault(answer, 429, "busy") and answer.headers["Retry-After"]
    assert app._held == 0
    app._most = 50_000
    assert client.post(SCORE, content=SPOT, headers=PNG).status_code == 200 and app._held == 0
