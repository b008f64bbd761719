"""docs/plugin-tutorial.md, followed to the letter: its files are written and its commands run, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TUTORIAL = ROOT / "docs" / "plugin-tutorial.md"
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = {"anomaly": "anomaly_core", "pip": "pip", "pytest": "pytest"}


def script() -> str:
    """The tutorial as a shell script: a block with a title is a file, a console block is commands, any other is an excerpt."""
    lines = ["set -eux"]
    for language, title, body in FENCE.findall(TUTORIAL.read_text(encoding="utf-8")):
        if title:
            lines.append(f"cat > {title} <<'END_OF_FILE'\n{body}END_OF_FILE")
        elif language == "console":
            lines.append(body)
    return "\n".join(lines)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The programs of a fresh environment that sees what is installed here; what pip installs into it stays in it."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    show = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()
    # addsitedir, not a plain path: our own distributions are editable, which is to say further .pth files
    (Path(site) / "here.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    for name, module in PROGRAMS.items():
        (python.parent / name).write_text(f'#!/bin/sh\nexec "{python}" -m {module} "$@"\n')
        (python.parent / name).chmod(0o755)
    (python.parent / "ruff").symlink_to(Path(sysconfig.get_path("scripts")) / "ruff")
    return python.parent


@pytest.mark.soak
def test_from_an_empty_folder_to_a_passing_check(programs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANOMALY_", "PYTHON"))}
    # pip must neither fetch nor make an environment for the build: all that the tutorial installs is here
    environment |= {
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    environment |= {"PATH": f"{programs}{os.pathsep}{environment['PATH']}", "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    result = subprocess.run(["bash", "-c", script()], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    print(f"the tutorial took {seconds:.0f} s")
    assert result.returncode == 0, f"{result.stdout[-6000:]}\n{result.stderr[-3000:]}"
    assert "1 component: 16 passed, 1 skipped" in result.stdout or "1 component: 17 passed" in result.stdout
    plugin = folder / "anomaly-patch-pca"
    assert list(plugin.glob("experiments/sample/fabric/patch_pca/*/metrics.json"))
    assert list(plugin.glob("dist/anomaly_patch_pca-0.1.0-py3-none-any.whl"))
    assert seconds < 600


def test_every_block_is_run_or_an_excerpt_of_what_is_written() -> None:
    blocks = FENCE.findall(TUTORIAL.read_text(encoding="utf-8"))
    assert TUTORIAL.read_text().count("```") == 2 * len(blocks)
    assert {language for language, title, _ in blocks if not title} == {"console", "toml"}
    assert script().count("END_OF_FILE") == 2 * sum(bool(title) for _, title, _ in blocks)
