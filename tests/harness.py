"""Fixtures of all tests: distributions that exist on disk, as an installer would have left them, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from anomaly_core import CORE, main, registry
from anomaly_core.installed import Installed
from anomaly_core.installed import distributions as everything
from glow import package
from tiny.plugin import entry_points

HERE = Path(__file__).parent


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


@pytest.fixture(scope="session")
def companions() -> tuple[str, ...]:
    """The distributions that are found beside the core by a test that asks for it alone; a plugin's tests override it."""
    return ()


@pytest.fixture(scope="module")
def core_alone(companions: tuple[str, ...]) -> Iterator[None]:
    """Of what is installed here, nothing but the core and its companions is found; what a test installs is."""
    hidden = {one.place for one in everything() if one.points and one.name not in (CORE, *companions)}

    def fewer(name: str = "") -> Iterator[Installed]:
        return (one for one in everything(name) if one.place not in hidden)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anomaly_core.installed.distributions", fewer)
        registry.refresh()
        yield
    registry.refresh()


@pytest.fixture(scope="module")
def tiny(core_alone: None, companions: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Distributions]:
    """The core, its companions and ``tests/tiny`` are all that is installed, in this process and in those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        installed = Distributions(tmp_path_factory.mktemp("tiny"), patch)
        installed.install("anomaly-tiny", points=entry_points())
        patch.setenv("PYTHONPATH", os.pathsep.join([str(installed.site), str(HERE)]))
        patch.setenv("ANOMALY_PLUGINS", ",".join(["anomaly-tiny", *companions]))
        registry.refresh()
        yield installed
    registry.refresh()


@dataclass(frozen=True)
class Outcome:
    """Of a command: its exit status and what it printed."""

    code: Any
    out: str
    err: str


@pytest.fixture
def anomaly(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command line in this process."""

    def call(*arguments: Any) -> Outcome:
        with pytest.raises(SystemExit) as stop:
            main([*map(str, arguments)])
        return Outcome(stop.value.code, *capfd.readouterr())

    return call


@pytest.fixture
def process() -> Callable[..., Outcome]:
    """Run a command line in a process of its own, with more environment variables where they are given."""

    def call(*arguments: Any, timeout: float = 120, **variables: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "anomaly_core", *map(str, arguments)],
            capture_output=True,
            check=False,
            timeout=timeout,
            env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        )
        return Outcome(done.returncode, *(stream.decode("utf-8", "surrogateescape") for stream in (done.stdout, done.stderr)))

    return call


@pytest.fixture
def glow(distributions: Distributions) -> Distributions:
    """A sound plugin: the model ``glow`` of anomaly-glow 1.2.3."""
    distributions.install("anomaly-glow", points={"models": {"glow": "fake_glow.plugin:GLOW"}}, files=package("fake_glow"))
    return distributions


@pytest.fixture
def rivals(glow: Distributions) -> Distributions:
    """Two distributions that both offer ``glow``."""
    glow.install("anomaly-shine", "2.0", points={"models": {"glow": "fake_shine.plugin:GLOW"}}, files=package("fake_shine"))
    return glow


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that must not be there afterwards."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "a file that was loaded has executed code"
