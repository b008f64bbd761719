"""Each distribution declares what it imports, knows no sibling, and says what it offers without importing torch."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
CORE = "anomaly-core"
# Calls whose first argument is a module's name: an import that has no import statement.
IMPORTING_CALLS = {"import_module", "find_spec", "files"}


@dataclass(frozen=True)
class Project:
    """A folder with a pyproject.toml."""

    folder: Path

    @property
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


PROJECTS = [Project(ROOT), *(Project(path.parent) for path in sorted(ROOT.glob("plugins/*/pyproject.toml")))]
PLUGINS = PROJECTS[1:]
PACKAGES = {project.package.name: project.name for project in PROJECTS}


def imported_modules(source: str) -> Iterator[str]:
    """Absolute names of the modules that a source imports, in functions and for the type checker as well."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in IMPORTING_CALLS and isinstance(node.args[0].value, str):
                yield node.args[0].value


def imported_packages(project: Project) -> dict[str, str]:
    """Top-level package that is neither the standard library's nor the project's own -> a file that imports it."""
    found: dict[str, str] = {}
    for path in sorted(project.package.rglob("*.py")):
        for module in imported_modules(path.read_text("utf-8")):
            found.setdefault(module.partition(".")[0], str(path.relative_to(ROOT)))
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names and name != project.package.name}


@cache
def installed_packages() -> dict[str, list[str]]:
    """Import name -> distributions, of all that is installed; scanned once."""
    return dict(importlib.metadata.packages_distributions())


def distributions_of(package: str) -> set[str]:
    """Canonical names of the distributions that bring an import package; its own name where it is not installed."""
    if package in PACKAGES:
        return {PACKAGES[package]}
    return {canonicalize_name(name) for name in installed_packages().get(package, [package])}


def test_the_walk_sees_every_way_to_import() -> None:
    source = """
import numpy.linalg as la
from PIL import Image
from . import sibling

def later():
    import yaml
    return importlib.import_module("timm.models"), find_spec("click"), str("rich")
"""
    assert set(imported_modules(source)) == {"numpy.linalg", "PIL", "yaml", "timm.models", "click"}
    assert distributions_of("PIL") == {"pillow"}
    assert distributions_of("sklearn") == {"scikit-learn"}


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_declares_what_it_imports(project: Project) -> None:
    declared = {canonicalize_name(requirement.name) for requirement in project.requirements}
    imported = imported_packages(project)
    missing = {package: path for package, path in imported.items() if not distributions_of(package) & declared}
    assert not missing, f"{project.name} imports packages that its pyproject.toml does not declare: {missing}"


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_declares_nothing_else(project: Project) -> None:
    imported = {name for package in imported_packages(project) for name in distributions_of(package)}
    unused = {requirement.name for requirement in project.requirements if canonicalize_name(requirement.name) not in imported}
    assert not unused, f"{project.name} declares distributions that it does not import: {unused}"


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_knows_no_sibling(project: Project) -> None:
    siblings = {plugin.package.name for plugin in PLUGINS} - {project.package.name}
    assert not siblings & imported_packages(project).keys()
    assert not {PACKAGES[name] for name in siblings} & {requirement.name for requirement in project.requirements}


@pytest.mark.parametrize("project", PLUGINS, ids=lambda project: project.name)
def test_plugin_admits_this_core_and_not_the_next(project: Project) -> None:
    (core,) = (requirement for requirement in project.requirements if requirement.name == CORE)
    major, minor, _ = PROJECTS[0].metadata["version"].split(".")
    assert core.specifier.contains(f"{major}.{minor}.0")
    assert not core.specifier.contains(f"{major}.{int(minor) + 1}.0")


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_same_house_rules(project: Project) -> None:
    assert project.metadata["version"] == PROJECTS[0].metadata["version"]
    assert project.metadata["license"] == "Apache-2.0"
    assert project.metadata["requires-python"] == PROJECTS[0].metadata["requires-python"]
    assert (project.package / "py.typed").is_file()


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_specs_and_configs_import_no_torch(project: Project) -> None:
    """The package, the specs and the configs that they name: all that `list-plugins --check` and `show` need."""
    program = """
import importlib, sys

def load(module):
    loaded = importlib.import_module(module)
    heavy = sorted({"accelerate", "sklearn", "timm", "torch", "torchvision"} & sys.modules.keys())
    if heavy:
        sys.exit(f"importing {module} imports {', '.join(heavy)}")
    return loaded

load(sys.argv[1])
for value in sys.argv[2:]:
    module, _, attribute = value.partition(":")
    config = getattr(getattr(load(module), attribute), "config", "")
    if config:
        load(config.partition(":")[0])
"""
    command = [sys.executable, "-c", program, project.package.name, *project.entry_points]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
