"""The core's own tests where nothing of ours is installed but the core's wheel."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from wheelhouse import CORE, ROOT, build, install, link_libraries, run

FOREIGN = ("integration", "wheelhouse.py", "seams.py", "__pycache__", "public_api.txt")


@pytest.mark.soak
def test_the_core_passes_its_tests_without_a_plugin(tmp_path: Path) -> None:
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    programs = install(tmp_path / "venv", link_libraries(libraries), build(tmp_path / "wheels", CORE).values())
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(ROOT / "tests", elsewhere / "tests", ignore=shutil.ignore_patterns(*FOREIGN))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, elsewhere / name)
    python = str(programs / "python")
    program = "from anomaly_core import registry; print(*{one.distribution for one in registry.components()})"
    listed = run([python, "-c", program], elsewhere)
    assert listed.stdout.split() == [CORE], listed.stderr
    asked = run([python, "-m", "anomaly_core", "list-plugins"], elsewhere)
    assert asked.returncode == 2 and "`pip install anomaly-doctor`" in asked.stderr
    done = run([python, "-m", "pytest", "-q", "-n", "2", "tests"], elsewhere, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) > 450
