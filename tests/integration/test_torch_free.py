"""The line PC: the core and anomaly-export in an empty environment, an ordinary install in which torch is not missed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly_core import RunConfig, run_experiment
from anomaly_export import ExportedDetector, export_run
from wheelhouse import build, check, closure, make_venv, pip_install, run

pytestmark = pytest.mark.soak  # it makes an environment of its own from the index, which takes minutes

NAMED = ["anomaly-core", "anomaly-export[onnx]"]
HEAVY = {"torch", "torchvision", "timm", "accelerate", "safetensors", "scipy", "scikit-learn", "huggingface-hub"}
LARGEST = 300  # MB


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of our wheels; what they need comes from the index."""
    folder = tmp_path_factory.mktemp("dist")
    reachable = make_venv(tmp_path_factory.mktemp("probe") / "venv")
    if (probe := pip_install(reachable, "--no-deps", "--dry-run", "onnxruntime")).returncode:
        pytest.skip(f"pip reaches no package index: {probe.stderr.strip().splitlines()[-1]}")
    build(folder, *closure("anomaly-export", "anomaly-report"))
    return folder


@pytest.fixture(scope="module")
def programs(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment in which nothing is but what pip brings."""
    folder = make_venv(tmp_path_factory.mktemp("line") / "venv")
    done = pip_install(folder, "--find-links", str(dist), *NAMED)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and bad images."""
    root = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for name, count in (("good", 10), ("bad", 4)):
        (root / name).mkdir()
        for i in range(count):
            pixels = draw.integers(90, 170, (80, 96, 3), dtype=np.uint8)
            if name == "bad":
                pixels[20:50, 30:60] = 255
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def fitted(images: Path, unobserved: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was fitted where torch is, with ``model.onnx`` in it."""
    overrides: dict[str, Any] = {
        "data.normal": str(images / "good"),
        "data.abnormal": str(images / "bad"),
        "data.holdout": 0.2,
        "model.image_size": 64,
        "model.center_crop": None,
        "base.output": str(tmp_path_factory.mktemp("runs")),
    }
    config = RunConfig.create(model="patchcore", data="folder", preset="edge", overrides=overrides)
    folder = run_experiment(config).runs[0].folder
    export_run(folder, "onnx")
    return folder


@pytest.fixture(scope="module")
def expected(fitted: Path, images: Path) -> list[float]:
    """The scores of the bad images, computed here."""
    return ExportedDetector(fitted / "model.onnx")(sorted((images / "bad").iterdir()))[0].tolist()


def installed(programs: Path) -> set[str]:
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "--disable-pip-version-check"]
    check([*pip, "check"], programs)
    return {one["name"].lower().replace("_", "-") for one in json.loads(check([*pip, "list", "--format", "json"], programs))}


def anomaly(programs: Path, *arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return run([str(programs / "python"), "-m", "anomaly_core", *map(str, arguments)], folder, OMP_NUM_THREADS="1")


def test_the_install_is_small_and_has_no_torch(programs: Path) -> None:
    names = installed(programs)
    assert {"anomaly-core", "anomaly-export", "onnxruntime"} <= names
    assert not names & HEAVY
    size = sum(path.lstat().st_size for path in programs.parent.rglob("*") if path.is_file()) / 1e6
    assert 100 < size < LARGEST, f"{size:.0f} MB"


def test_help_and_list_plugins(programs: Path, tmp_path: Path) -> None:
    helped = run([str(programs / "anomaly"), "--help"], tmp_path)
    assert helped.returncode == 0 and "(broken" not in helped.stdout and "predict" in helped.stdout
    listed = anomaly(programs, "list-plugins", folder=tmp_path)
    assert listed.returncode == 0 and "unavailable" not in listed.stdout
    checked = anomaly(programs, "list-plugins", "--check", "--json", folder=tmp_path)
    assert checked.returncode == 0
    reasons = {(row["kind"], row["name"]): row["reason"] for row in json.loads(checked.stdout) if row["status"] != "ok"}
    engines = {"onnx", "openvino", "openvino_bf16", "openvino_int8", "torchscript"}
    assert reasons.keys() == {("engine", name) for name in engines}, "commands and executors are sound"
    assert "opens exported detectors; to compute the networks of a run it needs torch" in reasons["engine", "onnx"]
    assert 'pip install "anomaly-export[train]"' in reasons["engine", "onnx"]
    assert 'pip install "anomaly-export[openvino]"' in reasons["engine", "openvino"]


def test_doctor_calls_it_healthy(programs: Path, tmp_path: Path) -> None:
    done = anomaly(programs, "doctor", "--json", folder=tmp_path)
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert (report["healthy"], report["problems"]) == (True, [])
    assert any(note.startswith("torch is not installed: exported detectors can be used") for note in report["notes"])
    assert [
        note
        for note in report["notes"]
        if ": engine openvino, engine openvino_bf16, engine openvino_int8: needs openvino" in note
    ], "one a library"
    assert report["sections"]["extras"]["torch"] == "not installed"
    assert anomaly(programs, "doctor", folder=tmp_path).stdout.rstrip().endswith("healthy")


@pytest.mark.parametrize("jobs", [1, 2])
def test_images_are_scored_as_where_torch_is(
    programs: Path, fitted: Path, images: Path, expected: list[float], jobs: int, tmp_path: Path
) -> None:
    command = ["predict", fitted / "model.onnx", images / "bad", "--jobs", str(jobs)]
    as_lines = anomaly(programs, *command, "--jsonl", folder=tmp_path)
    assert as_lines.returncode == 0, as_lines.stderr
    rows = [json.loads(line) for line in as_lines.stdout.splitlines()]
    np.testing.assert_allclose([row["score"] for row in rows], expected, rtol=1e-5)
    assert all(row["is_anomalous"] for row in rows)
    as_table = anomaly(programs, *command, folder=tmp_path)
    header, *lines = as_table.stdout.splitlines()
    assert header == "path,score,is_anomalous,p_value,regions"
    assert [float(line.split(",")[1]) for line in lines] == [row["score"] for row in rows]


def test_a_folder_is_watched(programs: Path, fitted: Path, images: Path, expected: list[float], tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    command = [str(programs / "anomaly"), "predict", str(fitted / "model.onnx"), str(watched), "--watch", "--jsonl"]
    # a shell's background jobs ignore Ctrl-C, and so would their children
    obedient = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    options = {"stdout": subprocess.PIPE, "cwd": tmp_path, "text": True, "preexec_fn": obedient}
    with subprocess.Popen([*command, "--interval", "0.1"], **options) as process, ExitStack() as killed:
        killed.callback(process.kill)
        time.sleep(0.5)
        (watched / "0.png").write_bytes((images / "bad" / "0.png").read_bytes())
        assert process.stdout is not None
        row = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert row["score"] == pytest.approx(expected[0], rel=1e-5)


def test_what_needs_torch_says_what_to_install(programs: Path, fitted: Path, images: Path, tmp_path: Path) -> None:
    train = 'torch, which is not installed: pip install "anomaly-core[train]"'
    for command, message in (
        (["run", "--model", "patchcore", "--data", "folder"], f"`anomaly run` needs {train}"),
        (["evaluate", fitted], f"`anomaly evaluate` needs {train}"),
        (["predict", fitted, images / "bad"], f"unlike a file that `anomaly export` wrote, needs {train}"),
        (["predict", fitted, images / "bad", "--jobs", "2"], f"needs {train}"),
        (["export", fitted, "--format", "onnx"], 'needs torch, which is not installed: pip install "anomaly-export[train]"'),
    ):
        done = anomaly(programs, *command, folder=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert "unexpected" not in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_another_threshold_is_set_on_the_line(programs: Path, fitted: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes((fitted / "model.onnx").read_bytes())
    assert anomaly(programs, "export", "model.onnx", "--threshold", "1e9", folder=tmp_path).returncode == 0
    done = anomaly(programs, "predict", "model.onnx", images / "bad", "--jsonl", folder=tmp_path)
    assert [json.loads(line)["is_anomalous"] for line in done.stdout.splitlines()] == [False] * 4


def test_pictures_take_anomaly_report_and_still_no_torch(
    programs: Path, dist: Path, fitted: Path, images: Path, tmp_path: Path
) -> None:
    command = ["predict", fitted / "model.onnx", images / "bad", "--maps", "pictures"]
    refused = anomaly(programs, *command, folder=tmp_path)
    assert refused.returncode == 2
    assert "--maps" in refused.stderr and "`pip install anomaly-report`" in refused.stderr
    assert not list(tmp_path.iterdir())

    site = check([str(programs / "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path).strip()
    more = make_venv(tmp_path / "venv", Path(site))
    done = pip_install(more, "--find-links", str(dist), *NAMED, "anomaly-report")
    assert done.returncode == 0, done.stderr
    names = installed(more)
    assert "anomaly-report" in names
    assert not names & {"torch", "torchvision", "timm", "accelerate", "safetensors"}
    drawn = anomaly(more, *command, folder=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 4
    doctor = anomaly(more, "doctor", "--json", folder=tmp_path)
    assert doctor.returncode == 0 and json.loads(doctor.stdout)["problems"] == []
