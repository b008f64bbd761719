"""What `anomaly new-plugin` writes installs, passes its own tests, lint and types; bad names are refused."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from anomaly_core import ConfigError
from anomaly_testing.commands.new_plugin import KINDS, LICENSES, TRAINERS, new_plugin
from anomaly_testing.writer import names, render, write_plugin

# what is written -> its kind and, of a model, its trainer
VARIANTS = {f"{trainer}-model": ("model", trainer) for trainer in TRAINERS}
VARIANTS |= {kind: (kind, "memory") for kind in KINDS if kind != "model"}
NAMES = dict.fromkeys(VARIANTS, "house-made") | {"backbone": "mobilenetv3_small_050.lamb_in1k"}
TRAINING = ("model", "dataset", "metric", "trainer")  # kinds whose interface is built on torch
IMPORTED = {"PIL": "pillow", "click": "click", "numpy": "numpy", "pydantic": "pydantic"}
IMPORTED |= {name: name for name in ("safetensors", "timm", "torch")}
# The normal suite tests the methods without their export, which takes longest, and of the other kinds all but the environment
# of their own.
QUICK = [pytest.param("memory-model", "not exports", id="memory-model")]
WHOLE = [pytest.param(name, "", id=f"{name}-whole", marks=pytest.mark.soak) for name in VARIANTS]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Variant -> the folder that was written."""
    root = tmp_path_factory.mktemp("written")
    return {
        variant: write_plugin(NAMES[variant], kind, root / variant, "MIT", "Ada", trainer)[0]
        for variant, (kind, trainer) in VARIANTS.items()
    }


def run(command: list[str], folder: Path, **more: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANOMALY_")}
    result = subprocess.run(command, cwd=folder, env={**environment, **more}, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_complete_and_clean(written: dict[str, Path], variant: str) -> None:
    folder = written[variant]
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        ".gitignore",
        ".github/workflows/ci.yml",
        "tests/test_conformance.py",
    ):
        assert name in files
    assert sum(name.startswith("tests/") for name in files) == 2
    for name in files:
        text = (folder / name).read_text("utf-8")
        assert not re.search(r"<<|>>|\{%|TODO|FIXME|PACKAGE", text), f"{name} has a placeholder"
        assert not text or text.endswith("\n")
    assert "Copyright (c)" in (folder / "LICENSE").read_text() and "Ada" in (folder / "LICENSE").read_text()
    run([sys.executable, "-m", "ruff", "check", "."], folder)
    run([sys.executable, "-m", "ruff", "format", "--check", "."], folder)


@pytest.mark.parametrize("name", ["x", "a-name-that-is-as-long-as-a-name-may-be"])
def test_it_is_clean_whatever_the_length_of_its_name(name: str, tmp_path: Path) -> None:
    for variant, (kind, trainer) in VARIANTS.items():
        write_plugin(name, kind, tmp_path / variant, "MIT", "Ada", trainer)
    run([sys.executable, "-m", "ruff", "check", "."], tmp_path)
    run([sys.executable, "-m", "ruff", "format", "--check", "."], tmp_path)


@pytest.mark.parametrize(("variant", "chosen"), [*QUICK, *WHOLE])
def test_it_installs_and_passes_its_own_tests(written: dict[str, Path], variant: str, chosen: str, tmp_path: Path) -> None:
    folder = written[variant]
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    run([*pip, "--no-build-isolation", "--target", str(site), str(folder)], tmp_path)
    installed = {item.metadata["Name"] for item in importlib.metadata.distributions(path=[str(site)])}
    assert installed == {folder.name}
    more = {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    out = run([sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-k", chosen], folder, **more)
    assert "passed" in out


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_imports_front_doors_alone_and_requires_what_it_imports(written: dict[str, Path], variant: str) -> None:
    folder = written[variant]
    dependencies = (folder / "pyproject.toml").read_text("utf-8").partition("dependencies = [")[2].partition("\n]")[0]
    required = set(re.findall(r'"([\w-]+)', dependencies))
    assert ('"anomaly-core[train]>=0.1,<0.2"' in dependencies) == (VARIANTS[variant][0] in TRAINING)
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                top = module.partition(".")[0]
                ours = top.startswith("anomaly_") and top != folder.name.replace("-", "_")
                assert not (ours and "." in module), f"{path.name} imports {module}"
                if "src" in path.parts and (ours or top in IMPORTED):
                    assert IMPORTED.get(top, top.replace("_", "-")) in required, f"{path.name} imports {module}"


@pytest.mark.soak  # mypy reads all of torch once
def test_types(written: dict[str, Path], tmp_path: Path) -> None:
    for folder in written.values():
        run([sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path)], folder)


@pytest.mark.parametrize(
    ("name", "kind", "word"),
    [
        ("My Method", "model", "lower-case"),
        ("2fast", "model", "lower-case"),
        ("a--b", "model", "lower-case"),
        ("../evil", "model", "lower-case"),
        ("", "model", "lower-case"),
        ("x" * 41, "model", "40 are allowed"),
        ("class", "model", "a word of Python"),
        ("json", "model", "a word of Python"),
        ("core", "model", "a word of Python"),
        ("patchcore", "model", "is taken by anomaly-patchcore"),
        ("report", "command", "is taken by anomaly-report"),
        ("datasets", "model", "installed already"),
    ],
)
def test_a_bad_name_is_refused(tmp_path: Path, name: str, kind: str, word: str) -> None:
    result = CliRunner().invoke(new_plugin, [name, "--kind", kind, "--output", str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
    assert word in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_a_trainer_belongs_to_a_model(tmp_path: Path) -> None:
    result = CliRunner().invoke(new_plugin, ["mine", "--kind", "metric", "--trainer", "gradient", "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert "--trainer says how a model is fitted, and the plugin is a metric" in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("options", "trainer"), [([], "memory"), (["--trainer", "gradient"], "gradient")])
def test_the_trainer_is_the_one_that_was_asked_for(tmp_path: Path, options: list[str], trainer: str) -> None:
    result = CliRunner().invoke(new_plugin, ["mine", *options, "--output", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert f'trainer="{trainer}"' in (tmp_path / "anomaly-mine/src/anomaly_mine/plugin.py").read_text("utf-8")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "anomaly-mine").mkdir()
    result = CliRunner().invoke(new_plugin, ["anomaly-mine", "--output", str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
    assert "nothing is overwritten" in str(result.exception)
    assert not list((tmp_path / "anomaly-mine").iterdir())


def test_it_says_what_it_wrote_and_what_comes_next(tmp_path: Path) -> None:
    result = CliRunner().invoke(new_plugin, ["my-method", "--output", str(tmp_path)])
    assert result.exit_code == 0, result.output
    for word in ("src/anomaly_my_method/modeler.py", 'pip install -e ".[dev]"', "anomaly check my_method"):
        assert word in result.output


@pytest.mark.parametrize("licence", LICENSES)
def test_every_licence(licence: str) -> None:
    text = render("model", names("mine", "model", licence, "Ada"))
    assert text["LICENSE"].strip()
    spdx = "LicenseRef-Proprietary" if licence == "Proprietary" else licence
    assert f'license = "{spdx}"' in text["pyproject.toml"]
