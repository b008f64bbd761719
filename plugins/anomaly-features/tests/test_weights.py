"""``anomaly backbones``: what is needed and where it is, fetched from a hub on this machine, proved whole or refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from click.testing import CliRunner
from huggingface_hub import constants
from safetensors.torch import load_file, save
from torch import Tensor

from anomaly_core import ConfigError
from anomaly_features import BackboneError, Backbones
from anomaly_features import backbones as module
from anomaly_features.commands import backbones
from anomaly_features.weights import fetch, verify

NAME = "resnet18.tv_in1k"


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return timm.create_model(NAME, pretrained=False).state_dict()


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No internet, an empty hub cache, an empty backbone folder."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("ANOMALY_BACKBONES", str(tmp_path / "weights"))
    return cache


class Hub(BaseHTTPRequestHandler):
    """The one file of one repository, as a hub gives it; everything else is not there."""

    content = b""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        there = self.path == f"/timm/{NAME}/resolve/main/model.safetensors"
        content = self.content if there else b"{}"
        self.send_response(200 if there else 404)
        self.send_header("Content-Length", str(len(content)))
        if there:
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
        else:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Hub, "content", save(state))
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def anomaly(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own, whose hub is what ``variables`` say."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "ANOMALY_"))}
    environment |= {"HF_HOME": str(folder / "hub"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment |= {"NO_PROXY": "127.0.0.1", **variables}
    command = [sys.executable, "-m", "anomaly_core", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_fetched_from_a_hub(tmp_path: Path, hub: str, state: dict[str, Tensor]) -> None:
    """One that the hub has, and one that it lacks: the first is kept, the second is told in words."""
    done = anomaly(tmp_path, "backbones", "fetch", NAME, "resnet34.tv_in1k", "--to", "carried", HF_ENDPOINT=hub)
    path = tmp_path / "carried" / f"{NAME}.safetensors"
    assert path.is_file(), done.stderr
    assert [item.name for item in path.parent.iterdir()] == [path.name], "nothing half-written stays"
    assert hashlib.sha256(path.read_bytes()).hexdigest() in done.stdout
    loaded = load_file(path)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    # what was carried is enough without internet, under the name that a preset asks for
    assert torch.equal(Backbones(path.parent).load(NAME)["conv1.weight"], state["conv1.weight"])
    assert [verdict.problem for verdict in verify(path.parent)] == [""]

    assert done.returncode == 1
    for part in ("'resnet34.tv_in1k' cannot be downloaded", "machine with internet", "resnet34.tv_in1k.safetensors"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_fetch_offline_says_so(no_hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BackboneError, match=r"HF_HUB_OFFLINE is set.*machine with internet"):
        fetch(NAME, tmp_path / "weights")


def test_fetch_keeps_what_is_there(no_hub: Path, tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / f"{NAME}.pth"
    torch.save(state, path)
    assert fetch(NAME, tmp_path).path == path
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BackboneError, match="cannot be read"):
        fetch(NAME, tmp_path)


def test_fetch_of_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean"):
        fetch("resnet18.tv_in2k", tmp_path)


def test_found_in_the_folder_then_in_the_hub_cache(no_hub: Path, tmp_path: Path, state: dict[str, Tensor]) -> None:
    assert Backbones().find(NAME) is None
    snapshot = no_hub / f"models--timm--{NAME}" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(save(state))
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc")
    found = Backbones().find(NAME)
    assert (found.place, found.path) == ("hub cache", snapshot / "model.safetensors")
    # timm itself, the real reader of that cache, agrees that the file is there
    assert torch.equal(Backbones().load(NAME)["conv1.weight"], state["conv1.weight"])
    (tmp_path / "weights").mkdir()
    torch.save(state, tmp_path / "weights" / "resnet18-f37072fd.pth")
    assert Backbones().find(NAME).place == "folder"


def test_digits_of_a_published_name(tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(state, tmp_path / "resnet18-f37072fd.pth")
    (verdict,) = verify(tmp_path)
    assert "does not begin with f37072fd" in verdict.problem
    assert verdict.name == NAME
    true_name = f"resnet18-{verdict.sha256[:8]}.pth"
    (tmp_path / "resnet18-f37072fd.pth").rename(tmp_path / true_name)
    monkeypatch.setitem(module.WELL_KNOWN_FILES, NAME, true_name)
    assert [verdict.problem for verdict in verify(tmp_path)] == [""]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (f"{NAME}.pth", b"PK\x03\x04 cut short", "cannot be read"),
        (f"{NAME}.safetensors", b"", "cannot be read"),
        ("my_own_network.pth", b"x", "timm has no model of this name"),
        ("resnet50.tv_in1k.safetensors", None, "does not fit timm's resnet50.tv_in1k"),
    ],
)
def test_bad_files(tmp_path: Path, state: dict[str, Tensor], name: str, content: bytes | None, problem: str) -> None:
    (tmp_path / name).write_bytes(save(state) if content is None else content)
    (tmp_path / f"good{NAME}").touch()  # no weights file: its suffix says so
    (tmp_path / f"{NAME.replace('18', '34')}.txt").touch()
    done = CliRunner().invoke(backbones, ["verify", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 1
    assert problem in done.output
    assert "0 of 1 files" in done.output


def test_weights_of_a_method_are_read_alone(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "teacher_small.pth")  # EfficientAD's, which timm knows nothing of
    done = CliRunner().invoke(backbones, ["verify", str(tmp_path)], catch_exceptions=False)
    assert (done.exit_code, "1 of 1 files" in done.output) == (0, True)
    assert "no more was checked, as timm has no model of this name" in done.output
    torch.save({"epoch": 3}, tmp_path / "teacher_small.pth")
    (verdict,) = verify(tmp_path)
    assert "holds no state dict of tensors" in verdict.problem


def test_verify_without_files(tmp_path: Path) -> None:
    done = CliRunner().invoke(backbones, ["verify", str(tmp_path)], catch_exceptions=False)
    assert (done.exit_code, "no weights files" in done.output) == (1, True)
    with pytest.raises(BackboneError, match=r"there is no backbone folder .*none"):
        verify(tmp_path / "none")
