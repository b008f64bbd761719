"""What *Teach* answers to requests: files of a multipart body, and what is not as it should be."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from anomaly_serve.testing import RunningService, running_service

HALF = b'--x\r\nContent-Disposition: form-data; filename="a.png"\r\n\r\nhal'
API = "/page/api/products/bolt/teach"


def png(seed: int, size: tuple[int, int] = (40, 30)) -> bytes:
    file = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def client(served: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=30) as client:
        yield client
    draft = served.service.teaching.draft("bolt")  # type: ignore[union-attr]
    for member in draft.members():
        draft.remove(member.digest)


def brought(client: httpx.Client, *files: tuple[str, bytes], kind: str = "normal") -> list[dict[str, Any]]:
    answer = client.post(f"{API}/images?kind={kind}", files=[("file", file) for file in files])
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["files"]
    return found


def parts_of(served: RunningService) -> list[Path]:
    return list((Path(served.store.folder) / "teach").rglob("*.part"))


def test_each_file_gets_an_answer(client: httpx.Client, served: RunningService) -> None:
    answers = brought(client, ("a.png", png(1)), ("notes.png", b"hello"), ("b.png", png(1)), ("../c:d.png", png(2)), ("e", b""))
    assert [(one["name"], one["taken"]) for one in answers] == [
        ("a", True),
        ("notes", False),
        ("a", True),  # the same content, by the name that it has
        ("c-d", True),
        ("e", False),
    ]
    assert answers[2]["again"] and "no image" in answers[1]["reason"] and answers[4]["reason"] == "it is empty"
    listed = client.get(f"{API}/images?kind=normal").json()
    assert listed["count"] == 2 and [one["name"] for one in listed["images"]] == ["a", "c-d"]
    assert parts_of(served) == []


def test_a_large_file_comes_in_pieces(client: httpx.Client) -> None:
    content = png(3, (900, 900))
    assert len(content) > 2 << 20
    (answer,) = brought(client, ("large.png", content))
    assert answer["taken"]
    digest = client.get(f"{API}/images?kind=normal").json()["images"][0]["digest"]
    large = client.get(f"{API}/images/{digest}/image")
    with Image.open(BytesIO(large.content)) as picture:
        assert picture.size == (900, 900)
    with Image.open(BytesIO(client.get(f"{API}/images/{digest}/thumbnail").content)) as picture:
        assert max(picture.size) == 160


def test_move_remove_and_what_is_not_there(client: httpx.Client) -> None:
    brought(client, ("a.png", png(1)))
    digest = client.get(f"{API}/images").json()["images"][0]["digest"]
    assert client.post(f"{API}/images/{digest}", json={"kind": "abnormal"}).status_code == 200
    state = client.get(f"{API}/state").json()
    assert (state["normal"], state["abnormal"]) == (0, 1)
    assert client.post(f"{API}/images/{digest}", json={"kind": "odd"}).status_code == 422
    assert client.post(f"{API}/images/{digest}", json={"kind": None}).status_code == 200
    gone = client.post(f"{API}/images/{digest}", json={"kind": None})
    assert gone.status_code == 422 and "not in the set any more" in gone.json()["error"]["message"]
    assert client.get(f"{API}/images/{digest}/thumbnail").status_code == 404
    assert client.get(f"{API}/images/..%2F..%2Fservice.db/image").status_code == 404


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "application/json"}, b"{}", 415),
        ({"content-type": "multipart/form-data"}, b"", 415),
        ({"content-type": "multipart/form-data; boundary=x"}, b"no boundary here", 400),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; filename="a"\r\n\r\nhal',
            400,
        ),
        ({"content-type": "multipart/form-data; boundary=x", "origin": "http://elsewhere.example"}, b"--x--\r\n", 403),
    ],
)
def test_a_body_that_is_none(
    client: httpx.Client, served: RunningService, headers: dict[str, str], body: bytes, status: int
) -> None:
    assert client.post(f"{API}/images", headers=headers, content=body).status_code == status
    assert client.get(f"{API}/state").json()["normal"] == 0
    assert parts_of(served) == []


def test_what_cannot_be_is_refused_in_words(client: httpx.Client) -> None:
    few = client.post(f"{API}/fit", json={})
    assert few.status_code == 422 and "0 normal images are too few" in few.json()["error"]["message"]
    assert client.post(f"{API}/fit", json={"input": "12;rm"}).status_code == 422
    unknown = client.post(f"{API}/extend", json={"version": 1})
    assert unknown.status_code == 422 and "not taught here" in unknown.json()["error"]["message"]
    folder = client.post(f"{API}/watch", json={"root": 0, "below": "/etc"})
    assert folder.status_code == 422 and "--teach-from" in folder.json()["error"]["message"]
    assert client.post(f"{API}/back", json={}).status_code == 422
    assert client.get("/page/products/nut/teach").status_code == 404
    assert client.get("/page/products/bolt/teach/versions/9").status_code == 404
    assert client.get(f"{API}/jobs/0/log").status_code == 404
    assert (
        client.post("/page/api/products", json={"name": "bolt"}).json()["error"]["message"]
        == "There is a product bolt already."
    )
    assert client.post("/page/api/products", data={"name": "a/b"}).status_code == 422
    page = client.get("/page/products/bolt/teach/versions/1")  # that was brought, and not taught
    assert page.status_code == 200 and "It was not taught here." in page.text
