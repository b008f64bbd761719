"""The commands and the program of the README, as they stand there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anomaly_serve.service import ServiceOptions
from anomaly_serve.testing import BrightSpots, as_file, grey_image, running_service

OPTIONS = ServiceOptions(opener=lambda path: BrightSpots())
README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_every_curl_gets_what_it_asks_for(tmp_path: Path) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("curl ")]
    assert len(lines) >= 9
    for name in ("image.png", "other.png"):
        (tmp_path / name).write_bytes(as_file(grey_image(spot=True)))
    (tmp_path / "frame.raw").write_bytes(grey_image().tobytes())
    with running_service(tmp_path / "store", {"lid": "a"}, options=OPTIONS) as running:
        for line in lines:
            words = shlex.split(line.replace("http://127.0.0.1:8000", running.url))
            done = subprocess.run(
                ["curl", "-sS", "--fail-with-body", *words[1:]], cwd=tmp_path, capture_output=True, timeout=30
            )
            assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_the_program_runs(tmp_path: Path) -> None:
    (program,) = blocks("python")
    (tmp_path / "image.png").write_bytes(as_file(grey_image(spot=True)))
    stand_in = "import anomaly_predict\nfrom anomaly_serve.testing import BrightSpots\n"
    stand_in += "anomaly_predict.open_detector = lambda *path, **options: BrightSpots()\n"
    done = subprocess.run([sys.executable, "-c", stand_in + program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "True (32, 32)", done.stderr
