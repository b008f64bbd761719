"""Fixtures of the core's tests: distributions that exist on disk, as an installer would have left them."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from anomaly_core.registry import registry


class Distributions:
    """Writes ``*.dist-info`` folders and packages into folders that stand on ``sys.path``."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = folder / "site"
        self._monkeypatch = monkeypatch
        self.folder(self.site)

    def folder(self, path: Path) -> Path:
        """Make a further folder and put it first on ``sys.path``."""
        path.mkdir()
        self._monkeypatch.syspath_prepend(str(path))
        return path

    def install(
        self,
        name: str,
        version: str = "1.2.3",
        *,
        points: Mapping[str, Mapping[str, str]] | None = None,
        entry_points: str = "",
        files: Mapping[str, str] | None = None,
        requires: Sequence[str] = ("anomaly-core",),
        into: Path | None = None,
    ) -> Path:
        """Install a distribution.

        Args:
            points: group without its ``anomaly_core.`` -> name -> value.
            entry_points: the text of the file, where ``points`` cannot say it.
            files: path below the folder -> source.

        Returns:
            the ``dist-info`` folder.
        """
        site = into or self.site
        for path, source in (files or {}).items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_text(dedent(source), encoding="utf-8")
        for group, names in (points or {}).items():
            entry_points += f"[anomaly_core.{group}]\n" + "".join(f"{leaf} = {value}\n" for leaf, value in names.items())
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}", encoding="utf-8")
        (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
        return info


@pytest.fixture
def distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distributions]:
    """Fake distributions on ``sys.path``, gone with their modules after the test; the registry's variables are unset."""
    monkeypatch.delenv("ANOMALY_PLUGINS", raising=False)
    monkeypatch.delenv("ANOMALY_BLOCK", raising=False)
    before = set(sys.modules)
    yield Distributions(tmp_path, monkeypatch)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@dataclass(frozen=True)
class Done:
    """A command that ended: exit code (-9 where it was killed), seconds, how often it flushed a file or folder, output."""

    code: int
    seconds: float
    writes: int | None
    out: str
    err: str


class Commands:
    """The command line in forks of one warm process, which can be killed at a chosen moment: see ``killing.py``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        program = [sys.executable, str(Path(__file__).with_name("killing.py"))]
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n"

    def __call__(self, *arguments: Any, kill: Mapping[str, Any] | None = None, **more: Any) -> Done:
        assert self._process.stdin is not None and self._process.stdout is not None
        out, err = self._folder / "out", self._folder / "err"
        job = {"arguments": [*map(str, arguments)], "stdout": str(out), "stderr": str(err), "kill": kill, **more}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Done(**answer, out=out.read_text(), err=err.read_text())

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(120)
        self._process.stdout.close()


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Run ``anomaly`` as a process of its own, without the seconds that its imports take."""
    made = Commands(tmp_path_factory.mktemp("commands"))
    yield made
    made.close()


@pytest.fixture
def without_flow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which anomaly-flow is not installed."""
    everything = importlib.metadata.distributions

    def fewer() -> Iterator[importlib.metadata.Distribution]:
        return (found for found in everything() if found.metadata["Name"] != "anomaly-flow")

    monkeypatch.setattr(importlib.metadata, "distributions", fewer)
    registry.refresh()
    yield
    monkeypatch.undo()
    registry.refresh()


@pytest.fixture(scope="module")
def unobserved() -> Iterator[None]:
    """Runs that no plugin watches: without a report, which takes longer than fitting on a few images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anomaly_core.runner.Hooks.call", lambda *_, **__: None)
        yield
