"""The tutorials, followed to the letter: their files are written and their commands run, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = {"anomaly": "anomaly_core", "pip": "pip", "pytest": "pytest"}


@dataclass(frozen=True)
class Tutorial:
    """A page, the plugin that it ends in, and the languages of its excerpts."""

    page: str
    plugin: str
    excerpts: Sequence[str] = ()

    @property
    def text(self) -> str:
        return (DOCS / self.page).read_text(encoding="utf-8")

    def script(self) -> str:
        """The page as a shell script: a block with a title is a file, a console block is commands, any other is an excerpt."""
        lines = ["set -eux"]
        for language, title, body in FENCE.findall(self.text):
            if title:
                lines.append(f"cat > {title} <<'END_OF_FILE'\n{body}END_OF_FILE")
            elif language == "console":
                lines.append(body)
        return "\n".join(lines)


TUTORIALS = [
    Tutorial("plugin-tutorial.md", "patch_pca", ["toml"]),
    Tutorial("gradient-tutorial.md", "blind_spot"),
]
EACH = pytest.mark.parametrize("tutorial", TUTORIALS, ids=[tutorial.plugin for tutorial in TUTORIALS])


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
@EACH
def test_from_an_empty_folder_to_a_passing_check(programs: Path, tmp_path: Path, tutorial: Tutorial) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANOMALY_", "PYTHON"))}
    # pip must neither fetch nor make an environment for the build: all that a tutorial installs is here
    environment |= {
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    environment |= {"PATH": f"{programs}{os.pathsep}{environment['PATH']}", "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    command = ["bash", "-c", tutorial.script()]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    print(f"the tutorial took {seconds:.0f} s")
    assert result.returncode == 0, f"{result.stdout[-6000:]}\n{result.stderr[-3000:]}"
    assert "1 component: 17 passed, 1 skipped" in result.stdout or "1 component: 18 passed" in result.stdout
    distribution = f"anomaly-{tutorial.plugin.replace('_', '-')}"
    plugin = folder / distribution
    assert len(list(plugin.glob(f"experiments/sample/fabric/{tutorial.plugin}/*/metrics.json"))) == 1
    assert list(plugin.glob(f"dist/{distribution.replace('-', '_')}-0.1.0-py3-none-any.whl"))
    assert seconds < 600


@EACH
def test_every_block_is_run_or_an_excerpt_of_what_is_written(tutorial: Tutorial) -> None:
    blocks = FENCE.findall(tutorial.text)
    assert tutorial.text.count("```") == 2 * len(blocks)
    assert {language for language, title, _ in blocks if not title} == {"console", *tutorial.excerpts}
    assert tutorial.script().count("END_OF_FILE") == 2 * sum(bool(title) for _, title, _ in blocks)


@EACH
def test_plugins_import_front_doors_alone(tutorial: Tutorial) -> None:
    own = f"anomaly_{tutorial.plugin}"
    modules = re.findall(r"^from (anomaly_[\w.]+) import", tutorial.text, re.MULTILINE)
    assert modules
    assert not [module for module in modules if "." in module and module.partition(".")[0] != own]
