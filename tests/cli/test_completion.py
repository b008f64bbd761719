"""What a shell completes: commands, options and the names of components, by the real program and without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("tiny")
PROGRAM = Path(sys.executable).with_name("anomaly")


def completed(line: str) -> list[str]:
    """The words that bash would offer at the end of the line."""
    words = line.split(" ")
    environment = {
        **os.environ,
        "_ANOMALY_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    code = "import sys; sys.argv[0] = 'anomaly'\nfrom anomaly_core import main\n"
    code += "try:\n    main()\nfinally:\n    print('torch' in sys.modules, 'timm' in sys.modules, file=sys.stderr)\n"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stderr.split() == ["False", "False"], f"something heavy was imported, or a message was printed: {done.stderr}"
    return [text.partition(",")[2] for text in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("anomaly ", {"run", "completion", "show", "list-plugins"}),
        ("anomaly sh", {"show"}),
        ("anomaly run --pre", {"--preset"}),
        ("anomaly run --model pa", {"palette"}),
        ("anomaly run --data w", {"weave"}),
        ("anomaly run --trainer ", {"one_pass", "descent"}),
        ("anomaly run --metric au", {"auroc"}),
        ("anomaly run --model palette --preset ", {"edge", "paper"}),
        ("anomaly run --model palette --preset p", {"paper"}),
        ("anomaly run --preset p", {""}),
        ("anomaly run --model palette --data tr", {"tree"}),
        ("anomaly show des", {"descent"}),
        ("anomaly completion f", {"fish"}),
    ],
)
def test_offered(line: str, offered: set[str]) -> None:
    words = set(completed(line))
    if line.endswith(" ") and line.count(" ") == 1:
        assert offered <= words
    else:
        assert words == offered


def test_a_line_that_makes_no_sense_offers_nothing_of_it() -> None:
    assert "palette" not in completed("anomaly nonsense --model pa")


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
