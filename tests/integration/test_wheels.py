"""Each wheel stands alone: the core and one plugin, installed from files into an environment that has nothing else of ours."""

from __future__ import annotations

import email
import json
import os
import re
import shlex
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from wheelhouse import CORE, META, PLUGINS, PROJECTS, ROOT, build, check, closure, make_venv, pip_install, with_extras

LARGEST = 2**20  # bytes: a wheel holds code, and whatever lay about in a package's folder does not belong into it


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("dist"))


def elsewhere(folder: Path) -> Path:
    """A folder to run in that is not the checkout."""
    (folder / "elsewhere").mkdir()
    return folder / "elsewhere"


def is_excused(reason: str) -> bool:
    """Whether a component lacks a library that is not installed here either, such as a cluster's; not one of ours."""
    library = re.search(r"needs (\w+), which is not installed", reason)
    return library is not None and find_spec(library[1]) is None


def test_one_wheel_a_distribution(wheels: dict[str, Path]) -> None:
    assert wheels.keys() == PROJECTS.keys()


@pytest.mark.parametrize("name", [CORE, *PLUGINS])
def test_wheel_holds_the_package_alone(wheels: dict[str, Path], name: str) -> None:
    project = PROJECTS[name]
    package = project.package.name
    with zipfile.ZipFile(wheels[name]) as wheel:
        names = wheel.namelist()
        metadata = email.message_from_bytes(wheel.read(next(path for path in names if path.endswith(".dist-info/METADATA"))))
    assert {path.partition("/")[0] for path in names if ".dist-info/" not in path} == {package}
    assert f"{package}/py.typed" in names
    assert metadata["License-Expression"] == "Apache-2.0"
    assert wheels[name].stat().st_size < LARGEST
    data = {
        path.relative_to(project.package.parent).as_posix()
        for pattern in ("presets/*.yaml", "*.pyi", "known_distributions.yaml")
        for path in project.package.rglob(pattern)
    }
    assert data <= set(names)


def test_the_usual_set_is_one_wheel_without_code(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels[META]) as wheel:
        names = wheel.namelist()
        metadata = email.message_from_bytes(wheel.read(next(path for path in names if path.endswith(".dist-info/METADATA"))))
    assert all(".dist-info/" in path for path in names)
    required = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    # a logger for those who want it, and what plugins are tested with, are asked for by name
    assert {requirement.name for requirement in required} == PROJECTS.keys() - {META, "anomaly-tensorboard", "anomaly-testing"}
    extras = {requirement.name: requirement.extras for requirement in required if requirement.extras}
    assert extras == {CORE: {"train"}, "anomaly-export": {"onnx", "train"}, "anomaly-teach": {"train"}}


# Imports what others wrote and nothing of ours, and forks for each line: torch alone would take seconds, for each plugin.
LISTING = """
import json, os, sys
from contextlib import redirect_stdout, suppress
from io import StringIO

for library in "torch timm torchvision accelerate scipy.ndimage sklearn.metrics matplotlib.pyplot pydantic".split():
    with suppress(ImportError):
        __import__(library)
assert not [name for name in sys.modules if name.startswith("anomaly")]


def told(*words):
    from anomaly_core import main

    output = StringIO()
    with redirect_stdout(output):
        try:
            main([*words])
        except SystemExit as end:
            assert not end.code, (words, end.code)
    return output.getvalue()


for line in sys.stdin:
    plugin, folders, answer = json.loads(line)
    if os.fork() == 0:
        sys.path[:0] = folders
        listed = json.loads(told("list-plugins", "--check", "--json"))
        for component in listed:
            if component["distribution"] == plugin and component["kind"] in {"model", "dataset"}:
                told("show", component["name"])
        with open(answer, "w") as file:
            json.dump(listed, file)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@pytest.fixture(scope="module")
def unpacked(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What an installer leaves of each wheel, which holds nothing but files to copy: each in a folder of its own."""
    root = tmp_path_factory.mktemp("unpacked")
    for name, path in wheels.items():
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(root / name)
    return {name: root / name for name in wheels}


@pytest.fixture(scope="module")
def listing(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, list[Path]], list[Any]]]:
    """Lists and shows what distributions offer, in an environment that has them and no other of ours."""
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    folder = elsewhere(tmp_path_factory.mktemp("listing"))
    programs = make_venv(folder.parent / "venv", libraries)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANOMALY_", "PYTHON"))}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    python = subprocess.Popen([programs / "python", "-c", LISTING], cwd=folder, env=environment, **streams)

    def ask(plugin: str, folders: list[Path]) -> list[Any]:
        assert python.stdin is not None and python.stdout is not None
        answer = folder.parent / f"{plugin}.json"
        print(json.dumps([plugin, [str(path) for path in folders], str(answer)]), file=python.stdin, flush=True)
        assert python.stdout.readline() == "0\n"
        assert not list(folder.iterdir()), "listing and showing write nothing"
        return list(json.loads(answer.read_text("utf-8")))

    with python:
        yield ask


@pytest.mark.parametrize("plugin", [CORE, *PLUGINS])
def test_core_and_one_plugin(
    unpacked: dict[str, Path], listing: Callable[[str, list[Path]], list[Any]], tmp_path: Path, plugin: str
) -> None:
    """A plugin with what it requires of ours: all that it offers can be imported, and nothing comes from the checkout."""
    expected = closure(with_extras(plugin), "anomaly-doctor")  # which tells what there is
    listed = listing(plugin, [unpacked[name] for name in sorted(expected)])
    assert {component["distribution"] for component in listed} == {name for name in expected if PROJECTS[name].entry_points}
    faults = [component["reason"] for component in listed if component["status"] != "ok"]
    assert not [reason for reason in faults if not is_excused(reason)]
    root = next(iter(unpacked.values())).parent
    outside = [component for component in listed if not Path(component["location"]).is_relative_to(root)]
    assert not outside, "found in the checkout, not in the wheel"


@pytest.mark.slow
def test_one_method_and_one_data_set_alone(wheels: dict[str, Path], libraries: Path, tmp_path: Path) -> None:
    """pip brings what they require, and nothing else of ours; a run of them ends with its results."""
    named = [
        f"{CORE}[train]",
        "anomaly-patchcore",
        "anomaly-datasets",
        "anomaly-metrics",
        "anomaly-backbones",
        "anomaly-doctor",
    ]
    programs = make_venv(tmp_path / "venv", libraries)
    done = pip_install(programs, "--no-index", "--find-links", str(wheels[CORE].parent), *named)
    assert done.returncode == 0, done.stderr
    folder = elsewhere(tmp_path)
    anomaly = str(programs / "anomaly")

    listed = json.loads(check([anomaly, "list-plugins", "--check", "--json"], folder))
    brought = {component["distribution"] for component in listed}
    assert brought == closure(*named), "those named, and the foundations that they require"
    assert {component["status"] for component in listed} == {"ok"}

    few = {"data.train_count": 12, "data.good_count": 3, "data.bad_count": 5, "data.size": 64, "data.category": "nut"}
    assignments = [part for option, value in few.items() for part in ("--set", f"{option}={value}")]
    check([anomaly, "run", "--model", "patchcore", "--data", "sample", "--preset", "edge", *assignments], folder)
    (run,) = (folder / "experiments" / "sample" / "nut" / "patchcore").iterdir()
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    assert {"image_auroc", "pixel_auroc", "aupro"} <= metrics["metrics"].keys()
    assert metrics["images"] == 8
    assert not (run / "report.html").exists(), "anomaly-report is not there"


OFFLINE = re.findall(
    r"^pip install --no-index --find-links wheels (.+)$",
    (ROOT / "docs" / "guides" / "offline.md").read_text("utf-8"),
    re.MULTILINE,
)


def test_the_offline_guide_shows_how_to_install() -> None:
    assert {"anomaly", 'anomaly-core "anomaly-export[onnx]"'} <= set(OFFLINE), (
        "where detectors are fitted, and where they are used"
    )


@pytest.mark.parametrize("line", OFFLINE)
def test_a_machine_without_internet(wheels: dict[str, Path], libraries: Path, line: str, tmp_path: Path) -> None:
    """The offline guide: pip resolves what it names from a folder alone, and what was installed says that it is sound."""
    named = shlex.split(line)
    folder = tmp_path / "wheels"
    folder.mkdir()
    for wheel in wheels.values():
        (folder / wheel.name).symlink_to(wheel)
    programs = make_venv(tmp_path / "venv", libraries)
    done = pip_install(programs, "--no-index", "--find-links", str(folder), *named)
    assert done.returncode == 0, done.stderr

    away = elsewhere(tmp_path)
    report = json.loads(check([str(programs / "anomaly"), "doctor", "--json"], away))
    assert report["healthy"], report["problems"]
    expected = {name for name in closure(*named) if PROJECTS[name].entry_points}
    assert {owner.partition(" ")[0] for owner in report["sections"]["plugins"]} == expected
    assert not list(away.iterdir()), "looking writes nothing"
