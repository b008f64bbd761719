"""`anomaly check`: a line for each check as soon as it is done, a summary, a table in Markdown, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from anomaly_core import KINDS
from anomaly_testing.commands.check import check

WAITING = """
import pathlib, time

GO = pathlib.Path({go!r})
end = time.monotonic() + 60
while not GO.exists():
    if time.monotonic() > end:
        raise RuntimeError("nobody read the line of the check before")
    time.sleep(0.05)

def target():
    pass
"""


def test_the_command_shows_a_line_a_check_and_fails_with_one(tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    result = CliRunner().invoke(check, ["image_auroc", "--markdown", str(table)])
    assert result.exit_code == 0, result.output
    assert "tells_good_from_bad" in result.output
    assert "1 component: 10 passed" in result.output
    assert "| metric | `image_auroc` | anomaly-metrics | 10 | 0 | 0 | 0 |" in table.read_text()
    result = CliRunner().invoke(check, ["image_auroc", "--only", "importable", "--expect-failure", "importable=not so"])
    assert result.exit_code == 1
    assert "Take the expectation away" in " ".join(result.output.split())


def test_in_a_pipe_each_line_comes_when_its_check_is_done(tmp_path: Path) -> None:
    """The second check waits for a file that is written when the first one's line has been read."""
    go = tmp_path / "go"
    info = tmp_path / "anomaly_slow-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: anomaly-slow\nVersion: 1.0\nRequires-Dist: anomaly-core\n")
    (info / "entry_points.txt").write_text("[anomaly_core.hooks]\nslow = slow_plugin:SLOW\n")
    (tmp_path / "slow_plugin.py").write_text(
        'from anomaly_core import HookSpec\nSLOW = HookSpec(target="slow_target:target", summary="waits")\n'
    )
    (tmp_path / "slow_target.py").write_text(WAITING.format(go=str(go)))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "anomaly_core", "check", "slow", "--only", "torch_free", "--only", "importable"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        first: list[str] = []
        while not first or "torch_free" not in first[-1]:
            line = process.stdout.readline()
            assert line, "".join(first)
            first.append(line)
        assert "hook slow (anomaly-slow 1.0)" in first[0]
        assert "importable" not in "".join(first)
        go.touch()
        rest = process.stdout.read()
        assert process.wait(60) == 0, rest
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
    assert rest.split()[:2] == ["importable", "passed"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "no installed component is called 'nothing'"),
        (["image_auroc", "--only", "no_check"], "no check is called 'no_check'"),
        (["image_auroc", "--expect-failure", "exports"], "expected CHECK=REASON"),
        (["image_auroc", "--kind", "model"], "no installed component is image_auroc and of kind model"),
    ],
)
def test_the_command_says_what_it_cannot_do(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(check, arguments)
    assert result.exit_code != 0
    assert words in str(result.exception)


def test_the_checks_are_listed() -> None:
    result = CliRunner().invoke(check, ["--list"])
    for kind in KINDS:
        assert f"{kind}\n" in result.output
    assert "higher_is_more_anomalous" in result.output
    one = CliRunner().invoke(check, ["--list", "--kind", "executor"])
    assert "maps_in_order" in one.output and "higher_is_more_anomalous" not in one.output
