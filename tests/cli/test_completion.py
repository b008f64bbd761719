"""What a shell completes: commands, options and the names of components, without torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("tiny")


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
        ("anomaly ", {"run"}),
        ("anomaly ru", {"run"}),
        ("anomaly run --pre", {"--preset"}),
        ("anomaly run --model pa", {"palette"}),
        ("anomaly run --data w", {"weave"}),
        ("anomaly run --trainer ", {"one_pass", "descent"}),
        ("anomaly run --metric au", {"auroc"}),
        ("anomaly run --model palette --preset ", {"edge", "paper"}),
        ("anomaly run --model palette --preset p", {"paper"}),
        ("anomaly run --preset p", {""}),
        ("anomaly run --model palette --data tr", {"tree"}),
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
