"""Wheels of this checkout, and environments that hold nothing of ours but what is installed from them."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
CORE = "anomaly-core"
META = "anomaly"  # it holds no code: what it requires is the usual set


class Project:
    """A folder with a pyproject.toml."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def metadata(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "pyproject.toml").read_text("utf-8"))["project"]

    @property
    def name(self) -> str:
        return str(self.metadata["name"])

    @property
    def package(self) -> Path:
        """The folder of the import package, which bears the distribution's name."""
        module = self.name.replace("-", "_")
        return self.folder / module if self.name == CORE else self.folder / "src" / module

    @property
    def requirements(self) -> list[Requirement]:
        """The dependencies and those of the extras."""
        extras = self.metadata.get("optional-dependencies", {}).values()
        return [Requirement(text) for text in [*self.metadata["dependencies"], *(text for extra in extras for text in extra)]]

    @property
    def entry_points(self) -> list[str]:
        return [value for group in self.metadata.get("entry-points", {}).values() for value in group.values()]


PROJECTS = {
    project.name: project
    for project in (Project(ROOT), *(Project(path.parent) for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))))
}
PLUGINS = [name for name in PROJECTS if name not in (CORE, META)]


def closure(*requirements: str) -> set[str]:
    """The distributions of ours that pip brings for requirements such as ``anomaly-export[onnx]``."""
    seen: set[tuple[str, str]] = set()
    pending = [Requirement(text) for text in requirements]
    while pending:
        requirement = pending.pop()
        declared = PROJECTS[requirement.name].metadata
        for extra in {"", *requirement.extras} - {extra for name, extra in seen if name == requirement.name}:
            seen.add((requirement.name, extra))
            texts = declared["optional-dependencies"][extra] if extra else declared["dependencies"]
            pending += [found for found in map(Requirement, texts) if found.name in PROJECTS]
    return {name for name, _ in seen}


def with_extras(name: str) -> str:
    """The requirement of a distribution of ours with all its extras."""
    return f"{name}[{','.join(PROJECTS[name].metadata.get('optional-dependencies', {}))}]"


def run(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, without any variable that would lead it back to the checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANOMALY_", "PYTHON"))}
    return subprocess.run(command, cwd=folder, env={**environment, **variables}, capture_output=True, text=True, check=False)


def check(command: list[str], folder: Path, **variables: str) -> str:
    """The standard output of a command that must succeed."""
    done = run(command, folder, **variables)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# What `python -m build --wheel --no-isolation` calls in a process of its own for each project; here one process builds all.
BUILDING = """
import os, sys
from hatchling.build import build_wheel

for project in sys.argv[2:]:
    os.chdir(project)
    build_wheel(sys.argv[1])
"""


def build(folder: Path, *names: str) -> dict[str, Path]:
    """Distribution -> its wheel, built by the backend of `make wheels`; the named ones, or all."""
    folder.mkdir(parents=True, exist_ok=True)
    check([sys.executable, "-c", BUILDING, str(folder), *(str(PROJECTS[name].folder) for name in names or PROJECTS)], ROOT)
    return {canonicalize_name(path.name.partition("-")[0]): path for path in folder.glob("*.whl")}


def link_libraries(folder: Path) -> Path:
    """A folder of links to all that is installed here but our own distributions: torch is not installed a second time."""
    for site in {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}:
        for entry in site.iterdir():
            if not _is_ours(entry) and not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry)
    return folder


def make_venv(folder: Path, libraries: Path | None = None) -> Path:
    """A virtual environment, which sees the libraries where they are given; its folder of programs."""
    check([sys.executable, "-m", "venv", "--without-pip", str(folder)], folder.parent)
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    if libraries is not None:
        where = [str(programs / "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        site = Path(check(where, folder.parent).strip())
        (site / "libraries.pth").write_text(f"{libraries}\n", "utf-8")
    return programs


def pip_install(programs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Install into an environment, with the pip that runs these tests."""
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "--disable-pip-version-check"]
    return run([*pip, "install", "--quiet", *arguments], programs)


def install(folder: Path, libraries: Path, wheels: Iterable[Path]) -> Path:
    """An environment that sees the libraries and has the wheels, installed without any index; its folder of programs."""
    programs = make_venv(folder, libraries)
    done = pip_install(programs, "--no-index", "--no-deps", *map(str, wheels))
    assert done.returncode == 0, done.stderr
    return programs


def _is_ours(entry: Path) -> bool:
    """Whether an entry of site-packages belongs to one of our distributions, or may put one on the path as .pth files do."""
    distribution = entry.name.partition("-")[0] if entry.suffix == ".dist-info" else entry.stem
    return canonicalize_name(distribution) in PROJECTS or entry.suffix == ".pth" or entry.name.startswith("__editable__")
