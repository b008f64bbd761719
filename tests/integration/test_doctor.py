"""``anomaly doctor`` with every distribution: healthy here, and what their own examinations find."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from anomaly_core import registry
from anomaly_doctor.doctor import doctor


@pytest.fixture(autouse=True)
def fresh() -> None:
    registry.refresh()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(doctor, list(arguments), catch_exceptions=False)


def test_healthy(tmp_path: Path) -> None:
    output = tmp_path / "runs"
    done = run("--output", str(output))
    assert done.exit_code == 0, done.output
    assert done.output.rstrip().endswith("healthy")
    for part in (
        "python",
        "torch",
        "timm",
        "anomaly-patchcore 0.1.0",
        "tf_efficientnet_lite0.in1k",
        "writable",
        "faiss",
        "openvino",
    ):
        assert part in done.output
    assert not output.exists(), "looking writes nothing"


def test_json(tmp_path: Path) -> None:
    report = json.loads(run("--json", "--output", str(tmp_path)).stdout)
    assert report["healthy"] is True
    assert report["problems"] == []
    assert {"system", "libraries", "extras", "plugins", "devices", "backbones", "folders", "variables"} <= set(
        report["sections"]
    )
    remarks = [part for line in report["sections"]["plugins"].values() for part in line.split("; ")]
    assert {remark.rpartition(": ")[2] for remark in remarks} <= {"ok", "unavailable"}  # a library need not be installed


def test_blocked_is_not_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALY_BLOCK", "anomaly-flow")
    registry.refresh()
    done = run("--output", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "model fastflow: blocked by ANOMALY_BLOCK" in done.output


def test_no_secret_and_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALY_API_KEY", "hunter2")
    monkeypatch.setenv("ANOMALY_PROXY", "http://alice:hunter2@proxy.example:8080/x")
    monkeypatch.setenv("ANOMALY_BACKBONES", str(Path.home() / "weights"))
    monkeypatch.setenv("UNRELATED_TOKEN", "hunter2")
    output = run("--output", str(tmp_path)).output
    assert "hunter2" not in output
    assert "UNRELATED" not in output
    assert "http://proxy.example:8080/x" in output
    assert "~/weights" in output.replace("\\", "/")


def test_builds_that_do_not_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchvision fails that was built for another torch: with a RuntimeError, when timm imports it."""
    from anomaly_features import weights

    def torn(backbones: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(weights, "needed", torn)
    done = run("--output", str(tmp_path))
    assert done.exit_code == 1
    assert "cannot be listed: RuntimeError: operator torchvision::nms does not exist" in done.output
