"""What Windows and macOS need, proved here: no module that only Unix has, processes that are spawned, names and consoles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wheelhouse import META, PROJECTS

PACKAGES = sorted(project.package.name for project in PROJECTS.values() if project.name != META)

# A file of its own and not `python -c`: a process that is spawned imports the main module again.
PROGRAM = '''
"""Imports all of ours, fits and tests PatchCore, and exports it, as if this were no Unix."""

import builtins
import importlib
import json
import multiprocessing
import os
import pkgutil
import signal
import sys

UNIX = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline", "curses", "crypt", "_posixshmem")
# These know on which system they are, and ask for it on Unix alone, or do without: each was looked at.
KNOWING = (
    "filelock._native._unix", "getpass", "joblib.externals.loky.backend.", "multiprocessing.resource_tracker", "psutil",
    "shutil", "subprocess", "tarfile",
)
FUNCTIONS = {os: ("fork", "geteuid", "getuid", "mkfifo", "sched_getaffinity", "O_NOCTTY"),
             signal: ("SIGHUP", "SIGKILL")}
REAL = builtins.__import__


def refusing(name, globals=None, locals=None, fromlist=(), level=0):
    """What only Unix has is not there, for us and for the libraries that we call."""
    if level == 0 and name in UNIX and not str((globals or {}).get("__name__")).startswith(KNOWING):
        raise ModuleNotFoundError(f"No module named {name!r}: this is no Unix", name=name)
    return REAL(name, globals, locals, fromlist, level)


builtins.__import__ = refusing


def modules(package):
    yield package
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        yield module.name


def exported(folder):
    """Format -> how far the file is from the run."""
    import pathlib

    from anomaly_export import ExportedDetector, export_run

    differences = {}
    for name, suffix in (("onnx", "onnx"), ("openvino", "xml"), ("torchscript", "pt")):
        report = export_run(folder, name)
        detector = ExportedDetector(report.path, threads=1)
        detector.score([detector.decode(path) for path in sorted(pathlib.Path(folder, "maps").iterdir())[:1]])
        differences[name] = report.score_difference
    return differences


def main():
    multiprocessing.set_start_method("spawn")
    options = json.loads(sys.argv[1])
    for module, names in FUNCTIONS.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    count = 0
    for package in options["packages"]:
        for name in modules(package):
            if not name.endswith("__main__"):
                importlib.import_module(name)
                count += 1
    from anomaly_core import RunConfig, run_experiment

    config = RunConfig.create(model="patchcore", data="sample", preset="edge", overrides=options["overrides"])
    result = run_experiment(config)
    assert multiprocessing.get_start_method() == "spawn"
    scores = [row.score for row in result.predictions]
    differences = exported(result.folder)
    print(json.dumps({"modules": count, "scores": scores, "folder": str(result.folder), "differences": differences}))


if __name__ == "__main__":
    main()
'''


def run(folder: Path, packages: list[str], **more: object) -> dict[str, Any]:
    """The program's answer; a run whose images are read by a process that it spawns."""
    script = folder / "program.py"
    script.write_text(PROGRAM, encoding="utf-8")
    overrides = {
        "data.root": str(folder / "data"), "data.category": ["fabric"], "data.size": 64, "data.train_count": 8,
        "data.good_count": 3, "data.bad_count": 5, "data.num_workers": 1, "model.image_size": 64,
        "base.output": str(folder / "runs"), "base.pictures": 2, **more,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(script), json.dumps({"packages": packages, "overrides": overrides})],
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_the_guard_refuses_what_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("anomaly_unix", "library"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("def late():\n    import resource\n")
    guard = "import sys; sys.path.insert(0, '')\n" + PROGRAM.partition("def modules(package)")[0]
    for line, refused in (
        ("import anomaly_unix", False),
        ("import anomaly_unix; anomaly_unix.late()", True),
        ("import library; library.late()", True),
        ("import psutil, subprocess, tarfile, getpass, filelock", False),
    ):
        done = subprocess.run(
            [sys.executable, "-c", f"{guard}\n{line}"], cwd=tmp_path, capture_output=True, check=False, text=True
        )
        assert ("this is no Unix" in done.stderr) == refused, done.stderr


@pytest.mark.slow
def test_every_module_is_imported_and_patchcore_runs_and_is_exported_without_what_only_unix_has(tmp_path: Path) -> None:
    answer = run(tmp_path, PACKAGES)
    assert answer["modules"] > 150
    folder = Path(str(answer["folder"]))
    assert json.loads((folder / "manifest.json").read_text("utf-8"))["status"] == "complete"
    assert len(answer["scores"]) == 8
    assert answer["differences"].keys() == {"onnx", "openvino", "torchscript"}
    assert all(difference < 1e-3 for difference in answer["differences"].values())
    assert len(list((folder / "maps").iterdir())) == 2 and (folder / "report.html").is_file()
