"""Each wheel stands alone: the core and one plugin, installed from files into an environment that has nothing else of ours."""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
CORE = "anomaly-core"
PLUGINS = [path.parent.name for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))]
OURS = {CORE, *PLUGINS}


def check(command: list[str], folder: Path) -> str:
    """Run a command in a folder, without any variable that would lead it back to the checkout; its standard output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANOMALY_", "PYTHON"))}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def is_ours(entry: Path) -> bool:
    """Whether an entry of site-packages belongs to one of our distributions, or may put one on the path as .pth files do."""
    distribution = entry.name.partition("-")[0] if entry.suffix == ".dist-info" else entry.stem
    return canonicalize_name(distribution) in OURS or entry.suffix == ".pth" or entry.name.startswith("__editable__")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Distribution -> its wheel, built as `make wheels` builds it."""
    folder = tmp_path_factory.mktemp("dist")
    for project in (ROOT, *(ROOT / "plugins" / name for name in PLUGINS)):
        check([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(project)], ROOT)
    return {canonicalize_name(path.name.partition("-")[0]): path for path in folder.glob("*.whl")}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to all that is installed here but our own distributions: torch is not installed a second time."""
    folder = tmp_path_factory.mktemp("libraries")
    for site in {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}:
        for entry in site.iterdir():
            if not is_ours(entry) and not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry)
    return folder


def install(venv: Path, libraries: Path, wheels: list[Path]) -> Path:
    """Make a virtual environment that sees the libraries, install the wheels without any index; its folder of programs."""
    check([sys.executable, "-m", "venv", "--without-pip", str(venv)], venv.parent)
    python = venv / "bin" / "python"
    site = check([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], venv.parent).strip()
    (Path(site) / "libraries.pth").write_text(f"{libraries}\n", "utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    if wheels:
        check([*pip, "install", "--quiet", "--no-index", "--no-deps", *map(str, wheels)], venv.parent)
    return python.parent


def test_one_wheel_a_distribution(wheels: dict[str, Path]) -> None:
    assert wheels.keys() == OURS


@pytest.mark.parametrize("name", sorted(OURS))
def test_wheel_holds_the_package_alone(wheels: dict[str, Path], name: str) -> None:
    package = name.replace("-", "_")
    with zipfile.ZipFile(wheels[name]) as wheel:
        names = wheel.namelist()
        metadata = email.message_from_bytes(wheel.read(next(path for path in names if path.endswith(".dist-info/METADATA"))))
    assert {path.partition("/")[0] for path in names if ".dist-info/" not in path} == {package}
    assert f"{package}/py.typed" in names
    assert metadata["License-Expression"] == "Apache-2.0"
    source = ROOT / package if name == CORE else ROOT / "plugins" / name / "src" / package
    presets = {path.relative_to(source.parent).as_posix() for path in source.rglob("presets/*.yaml")}
    assert presets <= set(names)


@pytest.mark.parametrize("plugin", [None, *PLUGINS], ids=lambda plugin: plugin or "core alone")
def test_core_and_one_plugin(wheels: dict[str, Path], libraries: Path, tmp_path: Path, plugin: str | None) -> None:
    expected = {CORE} if plugin is None else {CORE, plugin}
    programs = install(tmp_path / "venv", libraries, [wheels[name] for name in sorted(expected)])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    listed = json.loads(check([str(programs / "anomaly"), "list-plugins", "--check", "--json"], elsewhere))

    assert {component["distribution"] for component in listed} == expected
    assert {component["status"] for component in listed} == {"ok"}
    outside = [component for component in listed if not Path(component["location"]).is_relative_to(tmp_path)]
    assert not outside, "found in the checkout, not in the wheel"
    for component in listed:
        if component["kind"] in {"model", "dataset"}:
            check([str(programs / "anomaly"), "show", component["name"]], elsewhere)
    assert not list(elsewhere.iterdir()), "listing and showing write nothing"


def test_a_machine_without_internet(wheels: dict[str, Path], libraries: Path, tmp_path: Path) -> None:
    """The offline guide: pip resolves what it names from a folder alone, and what was installed says that it is sound."""
    guide = (ROOT / "docs" / "guides" / "offline.md").read_text("utf-8")
    named = re.search(r"^pip install --no-index --find-links wheels \\\n +(.+)$", guide, re.MULTILINE)
    assert named, "the guide shows how to install without an index"
    folder = tmp_path / "wheels"
    folder.mkdir()
    for wheel in wheels.values():
        (folder / wheel.name).symlink_to(wheel)
    programs = install(tmp_path / "venv", libraries, [])
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(programs / "python"),
        "--disable-pip-version-check",
        "install",
        "--quiet",
    ]
    check([*pip, "--no-index", "--find-links", str(folder), *named[1].split()], tmp_path)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    found = json.loads(check([str(programs / "anomaly"), "doctor", "--json"], elsewhere))
    assert found["healthy"]
    assert {owner.partition(" ")[0] for owner in found["sections"]["plugins"]} == set(named[1].split())
    assert not list(elsewhere.iterdir()), "looking writes nothing"
