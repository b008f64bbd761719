"""The protocol as Triton's own client speaks it, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from anomaly_serve.testing import BrightSpots, RunningService, as_file, grey_image, running_service

http = pytest.importorskip("tritonclient.http", reason='pip install "tritonclient[http]"')

IMAGES = np.stack([grey_image(seed=seed, spot=seed == 1) for seed in range(3)])
SCORES = [float(one.scores[0]) for one in BrightSpots().score([BrightSpots().place(image) for image in IMAGES])]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def client(running: RunningService) -> Iterator[Any]:
    with http.InferenceServerClient(running.url.removeprefix("http://")) as client:
        yield client


def pixels(images: Any, *, binary: bool = True) -> Any:
    tensor = http.InferInput("image", list(images.shape), "UINT8")
    return tensor.set_data_from_numpy(np.ascontiguousarray(images), binary_data=binary)


def elements(name: str, values: list[bytes]) -> Any:
    tensor = http.InferInput(name, [len(values)], "BYTES")
    return tensor.set_data_from_numpy(np.array(values, dtype=np.object_))


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException) as caught:
        call()
    return caught.value.status(), caught.value.message()


def test_server_and_models_are_described(client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("bolt", "1")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    model = client.get_model_metadata("bolt")
    assert (model["name"], model["versions"]) == ("bolt", ["1"])
    assert {one["name"]: (one["datatype"], one["shape"]) for one in model["inputs"]} == {
        "image": ("UINT8", [-1, -1, -1, 3]),
        "encoded": ("BYTES", [-1]),
        "name": ("BYTES", [-1]),
    }
    assert [one["name"] for one in model["outputs"]] == [
        "score",
        "id",
        "is_anomalous",
        "p_value",
        "threshold",
        "map",
        "regions",
    ]
    assert client.get_model_repository_index() == [{"name": "bolt", "version": "1", "state": "READY", "reason": ""}]


def test_a_batch_of_pixels_gets_the_verdicts_that_the_history_holds(client: Any, running: RunningService) -> None:
    result = client.infer("bolt", [pixels(IMAGES), elements("name", [b"a", b"b", "ü".encode()])], request_id="7")
    np.testing.assert_allclose(result.as_numpy("score"), SCORES)
    assert result.as_numpy("is_anomalous").tolist() == [False, True, False]
    assert result.as_numpy("map").shape == (3, 32, 32) and result.as_numpy("map").dtype == np.float32
    np.testing.assert_allclose(result.as_numpy("map").max(axis=(1, 2)), SCORES)
    head = result.get_response()
    assert (head["id"], head["model_name"], head["model_version"]) == ("7", "bolt", "1")
    for i, id in enumerate(result.as_numpy("id")):
        kept = running.store.judgement(id.decode())
        assert kept is not None and (kept.source, kept.name) == ("v2", ["a", "b", "ü"][i])
        assert kept.score == result.as_numpy("score")[i] and kept.threshold == result.as_numpy("threshold")[i]
        assert kept.p_value == result.as_numpy("p_value")[i]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_tensors_go_as_json_or_as_bytes(client: Any, binary_in: bool, binary_out: bool) -> None:
    wanted = [http.InferRequestedOutput(name, binary_data=binary_out) for name in ("map", "is_anomalous", "id", "score")]
    result = client.infer("bolt", [pixels(IMAGES, binary=binary_in)], outputs=wanted, model_version="1")
    assert [one["name"] for one in result.get_response()["outputs"]] == ["map", "is_anomalous", "id", "score"]
    np.testing.assert_allclose(result.as_numpy("score"), SCORES)
    np.testing.assert_allclose(result.as_numpy("map").max(axis=(1, 2)), SCORES, rtol=1e-6)
    assert result.as_numpy("is_anomalous").tolist() == [False, True, False]
    assert all(len(id) == 26 for id in result.as_numpy("id"))


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp"])
def test_files_are_decoded_as_files(client: Any, kind: str) -> None:
    files = [as_file(image, kind) for image in IMAGES]
    result = client.infer("bolt", [elements("encoded", files)])
    tolerance = 0.05 if kind == "jpeg" else 1e-7
    np.testing.assert_allclose(result.as_numpy("score"), SCORES, atol=tolerance)


@pytest.mark.parametrize("packed", ["gzip", "deflate"])
def test_bodies_may_be_compressed(client: Any, packed: str) -> None:
    options = {"request_compression_algorithm": packed, "response_compression_algorithm": packed}
    np.testing.assert_allclose(client.infer("bolt", [pixels(IMAGES)], **options).as_numpy("score"), SCORES)


def test_bgr_is_turned(client: Any, running: RunningService) -> None:
    red = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    red[..., 0] = 200
    rgb = client.infer("bolt", [pixels(red[..., ::-1])], parameters={"colour": "BGR"})
    kept = running.store.image(rgb.as_numpy("id")[0].decode())
    assert kept is not None
    plain = client.infer("bolt", [pixels(red)])
    assert running.store.image(plain.as_numpy("id")[0].decode()) == kept


def test_what_cannot_be_is_said_in_the_protocols_form(client: Any) -> None:
    one = IMAGES[:1]
    assert refused(lambda: client.infer("nut", [pixels(one)]))[0] == "404"
    assert refused(lambda: client.infer("bolt", [pixels(one)], model_version="9"))[0] == "404"
    assert refused(lambda: client.infer("bolt", [pixels(one)], model_version="x"))[0] == "404"
    assert refused(lambda: client.get_model_metadata("bolt", "2"))[0] == "404"
    assert not client.is_model_ready("bolt", "2") and not client.is_model_ready("nut")
    status, message = refused(lambda: client.infer("bolt", [elements("encoded", [b"no image"])]))
    assert status == "422" and "image" in message
    wanted = [http.InferRequestedOutput("scores")]
    assert "Choose of: score, id" in refused(lambda: client.infer("bolt", [pixels(one)], outputs=wanted))[1]
    classes = [http.InferRequestedOutput("score", class_count=2)]
    assert "'classification'" in refused(lambda: client.infer("bolt", [pixels(one)], outputs=classes))[1]
    assert "'priority'" in refused(lambda: client.infer("bolt", [pixels(one)], priority=1))[1]
    assert "colour" in refused(lambda: client.infer("bolt", [pixels(one)], parameters={"color": "BGR"}))[1]
    floats = http.InferInput("image", [1, 1, 1, 3], "FP32").set_data_from_numpy(np.zeros((1, 1, 1, 3), dtype=np.float32))
    assert "must be UINT8" in refused(lambda: client.infer("bolt", [floats]))[1]
    assert refused(lambda: client.load_model("bolt"))[0] == "404"
    assert client.infer("bolt", [pixels(one)]).as_numpy("score") == pytest.approx(SCORES[:1])


def test_other_addresses_and_methods_are_answered_in_the_protocols_form_too(running: RunningService) -> None:
    for method, path, status in (
        ("GET", "/v2/models/bolt/infer", 405),
        ("DELETE", "/v2/models/bolt", 405),
        ("PUT", "/v2", 405),
        ("GET", "/v2/models/bolt/config", 404),
        ("POST", "/v2/repository/models/bolt/load", 404),
    ):
        answer = httpx.request(method, running.url + path)
        assert answer.status_code == status and list(answer.json()) == ["error"]
    answer = httpx.post(f"{running.url}/v2/repository/index", content=b"[]")
    assert answer.status_code == 400 and "empty" in answer.json()["error"]
    assert httpx.post(f"{running.url}/v2/repository/index", json={"ready": True}).json()[0]["name"] == "bolt"


def test_the_asynchronous_client_is_answered_too(running: RunningService) -> None:
    aio = pytest.importorskip("tritonclient.http.aio")

    async def scores() -> list[float]:
        async with aio.InferenceServerClient(running.url.removeprefix("http://")) as client:
            assert await client.is_server_ready()
            results = await asyncio.gather(*(client.infer("bolt", [pixels(IMAGES[i : i + 1], binary=False)]) for i in range(3)))
            return [float(result.as_numpy("score")[0]) for result in results]

    assert asyncio.run(scores()) == pytest.approx(SCORES)


def test_a_version_that_was_put_to_use_later_is_asked_for_by_its_number(tmp_path: Path) -> None:
    with running_service(tmp_path) as running, http.InferenceServerClient(running.url.removeprefix("http://")) as client:
        running.service.add_version("bolt", tmp_path / "second", who="test", activate=True)
        for wanted, judged in (("", "2"), ("1", "1"), ("2", "2")):
            response = client.infer("bolt", [pixels(IMAGES[:1])], model_version=wanted).get_response()
            assert response["model_version"] == judged
        assert client.get_model_metadata("bolt")["versions"] == ["1", "2"]
        running.service.activate("bolt", None, "test")
        status, message = refused(lambda: client.infer("bolt", [pixels(IMAGES[:1])]))
        assert status == "409" and "no version that judges" in message and not client.is_model_ready("bolt")
