"""The public names: flat, lazy, each listed once."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import anomaly_core


def test_every_name_can_be_imported_from_the_package() -> None:
    for name in anomaly_core.__all__:
        assert getattr(anomaly_core, name) is not None
    assert set(anomaly_core.__all__) <= set(dir(anomaly_core))


def test_each_is_listed_once_in_order_and_under_its_own_name() -> None:
    tree = ast.parse(Path(anomaly_core.__file__).with_suffix(".pyi").read_text("utf-8"))
    rows = [(node.module, alias) for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert [alias.name for _, alias in rows if alias.asname != alias.name] == []
    names = [alias.name for _, alias in rows]
    assert len(names) == len(set(names)) and set(names) == set(anomaly_core.__all__)
    modules = [module for module, _ in rows]
    assert modules == sorted(modules, key=str.lower)


def test_the_package_alone_imports_nothing_heavy() -> None:
    program = (
        "import sys, anomaly_core; print([name for name in ('torch', 'numpy', 'click', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
