"""The streams of a command: closed, cut, of another encoding; and messages with names that would command a terminal."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import RunResults, print_summary, run_experiment
from tiny.runs import config

pytestmark = pytest.mark.usefixtures("tiny")
COMMAND = [sys.executable, "-m", "anomaly_core"]


def run(*arguments: str, redirected: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """A command with redirections as of a shell."""
    line = ["sh", "-c", f'exec "$@" {redirected}', "sh", *COMMAND, *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(line, capture_output=True, check=False, text=True, timeout=60, env=environment)


@pytest.mark.skipif(sys.platform == "win32", reason="its shell closes no streams")
@pytest.mark.parametrize("redirected", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("arguments", [["list-plugins"], ["list-plugins", "--json"], ["show", "palette"], ["--help"]])
def test_a_command_does_without_its_streams(arguments: list[str], redirected: str) -> None:
    done = run(*arguments, redirected=redirected)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (">&-" not in redirected.replace("2>&-", ""))


@pytest.mark.skipif(sys.platform == "win32", reason="there, a pipe that closes is another error")
@pytest.mark.parametrize("arguments", [["list-plugins"], ["list-plugins", "--json"], ["show", "palette"], ["--help"]])
def test_a_reader_that_goes_ends_a_command_quietly(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, *arguments], stdout=write, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_below_standard_output_is_said() -> None:
    done = run("list-plugins", redirected="> /dev/full")
    assert done.returncode == 1 and done.stderr.startswith("Error: [Errno 28] No space left on device")
    assert "ignored" not in done.stderr


def test_no_message_commands_a_terminal(anomaly: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def warn(cls: type) -> None:
        logging.getLogger("anomaly_core").warning("a file called \x1b[2J\r%s", "\x9b2J\nand more")
        raise OSError(5, "cannot read \x1b[2J")

    monkeypatch.setattr("anomaly_doctor.show.describe_options", warn)
    done = anomaly("show", "base")
    assert "warning: a file called \\x1b[2J\\x0d\\u009b2J\nand more" in done.err
    assert "Error: [Errno 5] cannot read \\x1b[2J" in done.err and "\x1b" not in done.err


def test_no_category_commands_a_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    results = run_experiment(config(tmp_path))
    (result,) = results.runs
    result.category = "li\x1b[2Jnen\n"
    for measure in result.measures.values():
        measure.categories["wo\x9bol"] = 0.5
    print_summary(RunResults([result]))
    shown = capfd.readouterr().out
    assert "li\\x1b[2Jnen\\x0a" in shown and "wo\\u009bol" in shown
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in shown if letter != "\n")
