"""``anomaly completion``: a script that the shell itself reads, by the real program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("tiny")
PROGRAM = Path(sys.executable).with_name("anomaly")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script(shell: str, tmp_path: Path) -> None:
    done = subprocess.run([PROGRAM, "completion", shell], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "_ANOMALY_COMPLETE" in done.stdout
    if interpreter := shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(done.stdout, "utf-8")
        assert subprocess.run([interpreter, "-n", str(script)]).returncode == 0, "the shell reads it"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_itself_completes(tmp_path: Path) -> None:
    """The script, sourced by a real bash, fills COMPREPLY."""
    script = f"""
        source <({PROGRAM} completion bash)
        COMP_WORDS=(anomaly run --model pal); COMP_CWORD=3
        _anomaly_completion {PROGRAM}
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["palette"], done.stderr


def test_unknown_shell() -> None:
    done = subprocess.run([PROGRAM, "completion", "tcsh"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "bash" in done.stderr
