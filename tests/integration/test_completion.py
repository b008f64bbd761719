"""What a shell completes of the commands and components of every distribution, without torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


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
        ("anomaly ", {"run", "predict", "backbones", "doctor", "completion", "data", "report"}),
        ("anomaly ba", {"backbones"}),
        ("anomaly backbones ", {"list", "fetch", "verify"}),
        ("anomaly run --pre", {"--preset"}),
        ("anomaly run --model pa", {"patchcore", "padim"}),
        ("anomaly run --data s", {"sample"}),
        ("anomaly run --trainer ", {"memory", "gradient"}),
        ("anomaly run --metric image_au", {"image_auroc"}),
        ("anomaly run --model fastflow --preset paper-", {"paper-cait", "paper-deit", "paper-resnet18"}),
        ("anomaly run --model patchcore --preset ", {"accurate", "edge", "paper"}),
        ("anomaly benchmark --model padim --model st", {"stfpm"}),
        ("anomaly evaluate RUN --data vi", {"visa"}),
        ("anomaly predict RUN a --backend ", {"processes", "loky", "dask", "ray"}),
        ("anomaly show dra", {"draem"}),
        ("anomaly completion f", {"fish"}),
    ],
)
def test_offered(line: str, offered: set[str]) -> None:
    words = set(completed(line))
    if line.endswith(" ") and line.count(" ") == 1:
        assert offered <= words
    else:
        assert words == offered
