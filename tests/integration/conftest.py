"""Fixtures of what crosses distributions: commands that can be killed, and runs that nobody watches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from faults import fit, newest
from wheelhouse import link_libraries


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
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    warm = Commands(tmp_path_factory.mktemp("commands"))
    yield warm
    warm.close()


@pytest.fixture(scope="module")
def unobserved() -> Iterator[None]:
    """Runs that no plugin watches: without a report, which takes longer than fitting on a few images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anomaly_core.run.runner.Hooks.call", lambda *_, **__: None)
        yield


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that draw their pictures and no report."""
    monkeypatch.setattr("anomaly_report.report.write_report", lambda folder: None)


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is installed here but our own distributions, for environments that have those from wheels."""
    return link_libraries(tmp_path_factory.mktemp("libraries"))


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated data set."""
    return tmp_path_factory.mktemp("sample")


@pytest.fixture(scope="session")
def whole(commands: Commands, root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A run that nothing disturbed, and how often it flushed."""
    output = tmp_path_factory.mktemp("whole")
    done = commands(*fit(root, output))
    assert done.code == 0, done.err
    return newest(output), done.writes
