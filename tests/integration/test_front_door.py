"""The front door: what belongs to another distribution is imported flat, from its package, and from nowhere deeper.

That no leaf imports a leaf is proved in test_distributions.py.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from wheelhouse import PROJECTS, ROOT

PACKAGES = {project.package.name: project for project in PROJECTS.values() if project.package.is_dir()}
STATEMENT = re.compile(
    r"^[ \t>]*(?:from (anomaly_\w+[\w.]*) import (\([^)]*\)|[^\n;#]*)|import (anomaly_\w+(?:\.\w+)*))", re.MULTILINE
)
BLOCK = re.compile(r"^[ \t]*```\w*.*?^[ \t]*```", re.MULTILINE | re.DOTALL)

Import = tuple[str, list[str]]  # a module, and the names that are taken from it; none for `import module`


def in_text(text: str) -> Iterator[Import]:
    """Of templates, documentation and sources that stand in a string."""
    for match in STATEMENT.finditer(text):
        module, names, plain = match.groups()
        yield (plain, []) if plain else (module, re.findall(r"\w+", names.replace(" as ", "@")))


def in_source(source: str) -> Iterator[Import]:
    """Of a module, inside functions and strings too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "anomaly_" in node.value:
            yield from in_text(node.value)


def in_file(path: Path) -> list[Import]:
    """Of any file that holds code."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        return list(in_source(text))
    if path.suffix == ".md":
        return [found for block in BLOCK.findall(text) for found in in_text(block)]
    return list(in_text(text))


@cache
def exported(package: str) -> frozenset[str]:
    """The names at a package's front door."""
    return frozenset(getattr(importlib.import_module(package), "__all__", ()))


def offences(imports: list[Import], own: str, strict: bool) -> list[str]:
    """The imports that go past a front door.

    Args:
        own: the package that the file belongs to, whose modules it may import; empty where it belongs to none.
        strict: no deeper import at all; else, for tests and tools, none of a name that the front door has.
    """
    wrong = []
    for module, names in imports:
        package, dot, _ = module.partition(".")
        if not dot or package == own or package not in PACKAGES:
            continue
        past = [name for name in names if strict or name in exported(package)]
        if past or not names:
            wrong.append(f"from {module} import {', '.join(past)}" if names else f"import {module}")
    return wrong


def owner(path: Path) -> str:
    """The package that a file belongs to; of the core's own tests, the core."""
    parts = path.relative_to(ROOT).parts
    if parts[0] == "plugins":
        return PROJECTS[parts[1]].package.name
    return "anomaly_core" if parts[0] in ("anomaly_core", "tests", "conftest.py") and "integration" not in parts else ""


def files(*patterns: str) -> list[Path]:
    paths = {path for pattern in patterns for path in ROOT.glob(pattern)}
    paths.discard(Path(__file__))  # whose examples are to be found
    return sorted(path for path in paths if not {"build", "site", ".venv"} & set(path.relative_to(ROOT).parts))


STRICT = (
    "anomaly_core/**/*.py", "plugins/*/src/**/*.py", "plugins/*/src/**/*.j2", "plugins/*/*.md", "docs/**/*.md",
    "*.md", "examples/**/*.py", "examples/**/*.md", "benchmarks/**/*.py",
)  # fmt: skip
TESTS = ("plugins/*/tests/**/*.py", "tests/**/*.py", "conftest.py", "docs/*.py", "tools/*.py")


@pytest.mark.parametrize("pattern", [*STRICT, *TESTS])
def test_nobody_goes_past_a_front_door(pattern: str) -> None:
    paths = files(pattern)
    assert paths, f"nothing is called {pattern}"
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in paths
        if (found := offences(in_file(path), owner(path), pattern in STRICT))
    }
    assert not wrong, f"import these from the package itself; what it lacks is exported in its __init__.pyi: {wrong}"


def test_the_core_and_its_tests_import_no_plugin() -> None:
    """The tests of the core run where nothing but anomaly-core[train] is installed."""
    paths = [path for path in files("anomaly_core/**/*.py", "tests/**/*.py", "conftest.py") if owner(path) == "anomaly_core"]
    assert len(paths) > 80
    foreign = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in paths
        for module, _ in in_file(path)
        if module.partition(".")[0] in PACKAGES.keys() - {"anomaly_core"}
    }
    assert not foreign


@pytest.mark.parametrize(
    ("line", "strict", "found"),
    [
        ("from anomaly_core.types import Batch", True, True),
        ("from anomaly_core.types import Batch", False, True),
        ("import anomaly_core.run.runner", False, True),
        ("import anomaly_core", True, False),
        ("from anomaly_core import Batch", True, False),
        ("from anomaly_core.run.runner import LIBRARIES", True, True),
        ("from anomaly_core.run.runner import LIBRARIES", False, False),
        ("def later():\n    from anomaly_core.types import (\n        Batch,\n        Sample,\n    )", True, True),
        ("source = '''\n    from anomaly_core.specs import ModelSpec\n'''", True, True),
        ("from anomaly_patchcore.modeler import Anything", True, False),
        ("from anomaly_stranger.x import y", True, False),
    ],
)
def test_the_search_finds_what_it_looks_for(line: str, strict: bool, found: bool) -> None:
    assert bool(offences(list(in_source(line)), "anomaly_patchcore", strict)) == found


def test_the_search_reads_templates_and_pages(tmp_path: Path) -> None:
    template = tmp_path / "modeler.py.j2"
    template.write_text("from {{ package }}.config import X\nfrom anomaly_core.base.modeler import (\n    MemoryModeler,\n)\n")
    assert in_file(template) == [("anomaly_core.base.modeler", ["MemoryModeler"])]
    page = tmp_path / "page.md"
    page.write_text("from anomaly_core.types import Batch, in prose\n\n```python\nfrom anomaly_core.types import Batch\n```\n")
    assert in_file(page) == [("anomaly_core.types", ["Batch"])]
