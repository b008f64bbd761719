"""The interface over HTTP."""

from __future__ import annotations

from pathlib import Path

import httpx

from anomaly_serve.testing import as_file, grey_image, running_service


def test_a_real_server_answers(tmp_path: Path) -> None:
    with running_service(tmp_path) as running:
        answer = httpx.post(f"{running.url}/v1/products/bolt/score?name=a", content=as_file(grey_image(spot=True)))
        assert answer.status_code == 200
        verdict = answer.json()
        assert verdict["is_anomalous"] and verdict["name"] == "a" and (verdict["width"], verdict["height"]) == (64, 48)
        answer = httpx.post(f"{running.url}/v1/products/nut/score", content=b"")
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "unknown_product"
