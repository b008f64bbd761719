"""A third party's plugin from its wheel, beside the core's: listed, shown, run, applied to an image, checked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from anomaly_testing import write_folder
from wheelhouse import CORE, ROOT, build, check, closure, install

TEMPLATE = ROOT / "examples" / "anomaly-plugin-template"
OURS = closure(CORE, "anomaly-backbones", "anomaly-datasets", "anomaly-metrics", "anomaly-testing")


@pytest.fixture(scope="module")
def anomaly(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program of an environment that has the core, the example and what it needs, all from wheels."""
    folder = tmp_path_factory.mktemp("third")
    build(folder / "dist", *OURS)
    check([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist"), str(TEMPLATE)], ROOT)
    return str(install(folder / "venv", libraries, sorted((folder / "dist").glob("*.whl"))) / "anomaly")


@pytest.mark.soak
def test_installed_from_its_wheel_it_is_a_method_like_any(anomaly: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        return check([anomaly, *arguments], tmp_path)

    listed = json.loads(run("list-plugins", "--check", "--json", "--kind", "model"))
    assert [(row["name"], row["distribution"], row["status"]) for row in listed] == [("global_knn", "anomaly-global-knn", "ok")]
    assert "model.neighbours" in run("show", "global_knn")
    pictures = write_folder(tmp_path / "weave")
    small = ["--preset", "edge", "--set", "model.image_size=96", "--set", f"data.root={pictures}"]
    run("run", "--model", "global_knn", "--data", "folder", *small)
    (folder,) = tmp_path.glob("experiments/folder/weave/global_knn/*")
    assert json.loads((folder / "metrics.json").read_text())["metrics"]["image_auroc"]["value"] == 1
    scored = run("predict", str(folder), str(pictures / "test" / "blot" / "00.png"))
    assert "00.png" in scored
    checked = run("check", "global_knn")
    assert "0 failed" not in checked and " failed" not in checked
    assert "1 component: 17 passed" in checked
