"""Tokens, the page's cookie, and what keeps web pages of somebody else out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from anomaly_core import ConfigError
from anomaly_serve.access import COOKIE, LOGIN, Tokens
from anomaly_serve.app import create_app
from anomaly_serve.service import Service
from anomaly_serve.testing import as_file, grey_image, prepared_service

EVA, PLC = "eva-0123456789abcdef", "plc-0123456789abcdef"
SCORE = "/v1/products/bolt/score"
SPOT = as_file(grey_image(spot=True))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with prepared_service(tmp_path_factory.mktemp("store")) as service:
        yield service


@pytest.fixture
def client(service: Service) -> TestClient:
    return TestClient(create_app(service, Tokens([("eva", EVA), ("plc", PLC)])), follow_redirects=False)


def test_a_token_opens_and_names_who_asks(client: TestClient, service: Service) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong-0123456789"}, {"Authorization": f"Basic {EVA}"}, {"Cookie": "a=b"}):
        answer = client.post(SCORE, content=SPOT, headers=headers)
        assert answer.status_code == 401 and answer.json()["error"]["code"] == "unauthorised"
        assert answer.headers["WWW-Authenticate"] == "Bearer" and EVA not in answer.text
    for path in ("/metrics", "/v1/products", "/openapi.json", "/docs", "/nothing"):
        assert client.get(path).status_code == 401
    for path in ("/healthz", "/readyz"):
        assert client.get(path).status_code == 200
    headers = {"Authorization": f"Bearer {PLC}"}
    assert client.post(SCORE, content=SPOT, headers=headers).status_code == 200
    answer = client.post("/v1/products/bolt/settings", json={"threshold": 0.4, "why": "dust"}, headers=headers)
    assert answer.json()["who"] == "plc"


def test_the_page_is_opened_by_a_cookie_that_is_not_the_token(client: TestClient) -> None:
    assert client.get("/", headers={"Accept": "text/html"}).headers["Location"] == LOGIN
    assert client.post(LOGIN, data={"token": "wrong"}).headers["Location"] == f"{LOGIN}?wrong=1"
    answer = client.post(LOGIN, data={"token": f" {EVA} "})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and EVA not in cookie
    assert client.get("/v1/products").status_code == 200
    own = {"Origin": "http://testserver"}
    assert client.post(SCORE, content=SPOT, headers=own).status_code == 200
    for foreign in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {}):
        answer = client.post(SCORE, content=SPOT, headers=foreign)
        assert answer.status_code == 403, foreign
    assert "Max-Age=0" in client.post("/page/logout", headers=own).headers["Set-Cookie"]
    assert client.get("/v1/products").status_code == 401


def test_a_cookie_cannot_be_made_without_the_token_and_ends(client: TestClient) -> None:
    tokens, ago = Tokens([("eva", EVA), ("plc", PLC)]), time.time() - 1
    good = tokens.cookie_for("eva", time.time() + 60)
    assert tokens.name_in(good) == "eva"
    forged = good.replace("eva", "plc")
    old = tokens.cookie_for("eva", ago)
    for bad in (forged, old, old.replace(str(int(ago)), str(int(ago) + 999)), good[:-1], "eva", "eva:9:", "", ":::", "é:1:2"):
        assert tokens.name_in(bad) is None
    assert Tokens([("eva", PLC)]).name_in(good) is None  # the token was changed
    assert client.get("/v1/products", headers={"Cookie": f"{COOKIE}={forged}"}).status_code == 401


def test_without_tokens_only_pages_of_others_are_kept_out(service: Service) -> None:
    client = TestClient(create_app(service, hosts=["127.0.0.1", "[::1]", "testserver"]))
    assert client.post(SCORE, content=SPOT).status_code == 200
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = client.post(SCORE, content=SPOT, headers=headers)
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "forbidden"
    assert client.get("/v1/products", headers={"Origin": "https://evil.example"}).status_code == 200  # cannot be read by it
    for host, status in (("127.0.0.1:8000", 200), ("[::1]:8000", 200), ("TESTSERVER", 200), ("evil.example", 403), ("", 403)):
        assert client.get("/v1/products", headers={"Host": host}).status_code == status, host


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no tokens"),
        ("eva", "line 1"),
        ("# who\n\neva short", "shorter than 16"),
        (f"eva {EVA}\neva {PLC}", "line 2"),
        (f"e va {EVA}", "NAME TOKEN"),
        ("\xff", "cannot read"),
    ],
)
def test_a_token_file_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "tokens.txt"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=words) as caught:
        Tokens.read(file)
    assert EVA not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot read"):
        Tokens.read(tmp_path / "missing")


def test_a_token_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "tokens.txt"
    file.write_text(f"\ufeff# who may\r\neva   {EVA}\r\n\r\nplc {PLC}\r\n", encoding="utf-8")
    tokens = Tokens.read(file)
    assert [tokens.name_of(token) for token in (EVA, PLC, "", "é")] == ["eva", "plc", None, None]
