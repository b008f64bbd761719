"""What pip brings is enough: detectors are fitted, exported and used while all other installed libraries are hidden."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from anomaly_core import RunConfig, run_experiment
from anomaly_export import export_run
from wheelhouse import META, PROJECTS, closure

pytestmark = pytest.mark.slow

# A finder that does not find what pip would not have installed, as `import` and `importlib.util.find_spec` see it.
HIDING = """
import importlib.machinery, json, sys

HIDDEN = set(json.loads(sys.argv.pop(1)))

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)

sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
"""
COMMAND = HIDING + "from anomaly_core import main\nmain(sys.argv[1:])\n"
FITTING = ("anomaly-patchcore", "anomaly-datasets")


@cache
def brought(*requirements: str) -> frozenset[str]:
    """Canonical names of all distributions that pip installs for requirements of ours."""
    pending = [Requirement(text) for text in requirements]
    seen: set[tuple[str, str]] = set()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            if name in PROJECTS:  # as this checkout declares it, whatever is installed
                declared = PROJECTS[name].metadata
                texts = declared["dependencies"] if not extra else declared["optional-dependencies"][extra]
            else:
                try:
                    texts = importlib.metadata.requires(name) or []
                except importlib.metadata.PackageNotFoundError:
                    texts = []
            needed = [Requirement(text) for text in texts]
            pending += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]
    return frozenset(name for name, _ in seen)


def hidden(*requirements: str) -> set[str]:
    """Top-level modules that are installed here, and would not be where only these requirements are."""
    there = brought(*requirements)
    modules = importlib.metadata.packages_distributions()
    theirs = {name for name, owners in modules.items() if not there & {canonicalize_name(owner) for owner in owners}}
    ours = {project.package.name for name, project in PROJECTS.items() if name != META and name not in there}
    return (theirs | ours) - {project.package.name for name, project in PROJECTS.items() if name in there}


def anomaly(requirements: tuple[str, ...], *arguments: str | Path) -> str:
    """The output of a command where only these requirements are installed."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, json.dumps(sorted(hidden(*requirements))), *map(str, arguments)],
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ANOMALY_PLUGINS": ",".join(sorted(closure(*requirements)))},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, with ``model.onnx`` and ``model.xml`` in it."""
    folder = tmp_path_factory.mktemp("run")
    overrides = {
        "data.root": str(folder / "data"), "data.category": ["fabric"], "data.size": 64, "data.train_count": 8,
        "data.good_count": 3, "data.bad_count": 5, "model.image_size": 64, "base.output": str(folder / "runs"),
        "base.pictures": 0,
    }  # fmt: skip
    config = RunConfig.create(model="patchcore", data="sample", preset="edge", overrides=overrides)
    folder = run_experiment(config).runs[0].folder
    for name in ("onnx", "openvino"):
        export_run(folder, name)
    return folder


def test_the_rest_is_hidden() -> None:
    absent = hidden("anomaly-export[onnx]")
    assert {"torch", "onnx", "openvino", "timm", "anomaly_features", "pytest"} <= absent
    assert not absent & {"onnxruntime", "numpy", "PIL", "pydantic", "anomaly_core", "anomaly_export", "anomaly_predict"}
    assert "onnx" not in hidden("anomaly-export[train]")


@pytest.mark.parametrize(("extra", "file"), [("onnx", "model.onnx"), ("openvino", "model.xml"), ("openvino", "model.onnx")])
def test_an_exported_file_is_used(run: Path, extra: str, file: str) -> None:
    requirements = (f"anomaly-export[{extra}]",)
    image = next((run.parents[4] / "data").rglob("*.png"))
    assert str(image) in anomaly(requirements, "predict", run / file, image, "--engine", extra)
    anomaly(requirements, "export", run / file, "--threshold", "3.5")


@pytest.mark.parametrize(
    ("extras", "format", "suffix"),
    [
        ("openvino,train", "openvino", "xml"),
        pytest.param("onnx,train", "onnx", "onnx", marks=pytest.mark.soak),
        pytest.param("train", "torchscript", "pt", marks=pytest.mark.soak),
    ],
)
def test_a_run_is_exported(run: Path, tmp_path: Path, extras: str, format: str, suffix: str) -> None:
    requirements = (*FITTING, f"anomaly-export[{extras}]")
    said = anomaly(requirements, "export", run, "--format", format, "--output", tmp_path / f"model.{suffix}")
    assert "agrees with the run" in said


@pytest.mark.soak
def test_a_run_is_fitted_with_an_engine(tmp_path: Path) -> None:
    options = ["data.size=64", "data.train_count=6", "data.good_count=2", "data.bad_count=5", "model.image_size=64"]
    options += [f"data.root={tmp_path / 'data'}", "model.engine=openvino", "base.metrics=[]", "base.pictures=0"]
    requirements = (*FITTING, "anomaly-backbones", "anomaly-metrics[train]", "anomaly-export[openvino,train]")
    command = ["run", "--model", "patchcore", "--data", "sample", "--preset", "edge", "--category", "fabric"]
    anomaly(requirements, *command, "--output", tmp_path / "runs", *(part for one in options for part in ("--set", one)))
    assert list(tmp_path.rglob("model.safetensors"))
