"""A third party's plugin from its wheel, beside the core's: listed, shown, run, applied to an image, checked."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from anomaly_core.testing.pictures import write_folder

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "examples" / "anomaly-plugin-template"


def _wheel_tests():
    """The fixtures of test_wheels.py; test files are no package, so that it is loaded by its path."""
    spec = importlib.util.spec_from_file_location("_wheel_tests", Path(__file__).with_name("test_wheels.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WHEELS = _wheel_tests()
libraries = WHEELS.libraries


@pytest.fixture(scope="module")
def anomaly(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program of an environment that has the core, the example and what it needs, all from wheels."""
    folder = tmp_path_factory.mktemp("third")
    for project in (ROOT, TEMPLATE, ROOT / "plugins/anomaly-datasets", ROOT / "plugins/anomaly-backbones"):
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist"), str(project)]
        WHEELS.check(build, ROOT)
    return str(WHEELS.install(folder / "venv", libraries, sorted((folder / "dist").glob("*.whl"))) / "anomaly")


@pytest.mark.soak
def test_installed_from_its_wheel_it_is_a_method_like_any(anomaly: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        return WHEELS.check([anomaly, *arguments], tmp_path)

    listed = json.loads(run("list-plugins", "--check", "--json", "--kind", "model"))
    assert [(row["name"], row["distribution"], row["status"]) for row in listed] == [("global_knn", "anomaly-global-knn", "ok")]
    assert "model.neighbours" in run("show", "global_knn")
    pictures = write_folder(tmp_path / "weave")
    small = ["--preset", "edge", "--set", "model.image_size=96", "--set", f"data.root={pictures}"]
    run("run", "--model", "global_knn", "--data", "folder", *small)
    (folder,) = tmp_path.glob("experiments/folder/weave/global_knn/*")
    assert json.loads((folder / "metrics.json").read_text())["image_auroc"] == 1
    scored = run("predict", str(folder), str(pictures / "test" / "blot" / "00.png"))
    assert "00.png" in scored
    checked = run("check", "global_knn")
    assert "0 failed" not in checked and " failed" not in checked
    assert "1 component: 16 passed" in checked
