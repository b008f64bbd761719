"""How ``anomaly predict`` ends: soon, though a file hangs on a drive that is gone; and with which status."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import RunResults, run_experiment
from tiny.data import draw, write_image
from tiny.runs import config

pytestmark = [
    pytest.mark.usefixtures("tiny"),
    pytest.mark.skipif(sys.platform == "win32", reason="it sends no signals"),
]
# decoding a file called dead.png never ends, as on a network drive that is gone; --jobs import this as their main module
DEAD = """
import time
from pathlib import Path
from anomaly_predict import RunDetector, verdicts
sound = RunDetector.decode
def decode(self, path):
    if Path(path).name == "dead.png":
        Path(path).with_suffix(".begun").touch()
        time.sleep(600)
    return sound(self, path)
RunDetector.decode = decode
if __name__ == "__main__":
    from anomaly_core import main
    main()
"""


@pytest.fixture(scope="module")
def finished(tiny: object, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return run_experiment(config(tmp_path_factory.mktemp("finished")))


@contextmanager
def running(*command: Any) -> Iterator[subprocess.Popen[str]]:
    """A command that listens to Ctrl-C, which a shell's background jobs do not; killed in the end."""
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": listening}
    with subprocess.Popen([sys.executable, *map(str, command)], **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def until(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("options", "number", "status"),
    [([], signal.SIGINT, 130), (["--watch", "--interval", "0.1"], signal.SIGTERM, 143), (["--jobs", "2"], signal.SIGTERM, 143)],
)
@pytest.mark.reliability("fault")
def test_a_file_that_hangs_keeps_no_command_from_ending(
    options: list[str], number: signal.Signals, status: int, finished: RunResults, tmp_path: Path
) -> None:
    (tmp_path / "dead.py").write_text(DEAD)
    write_image(tmp_path / "shots" / "dead.png", draw(1)[0])
    with running(tmp_path / "dead.py", "predict", finished.folder, tmp_path / "shots", *options) as process:
        until(tmp_path / "shots" / "dead.begun", process)
        began = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 15  # a second or two; the machine may be busy
    assert process.returncode == status
    assert "Traceback" not in err and "terminate called" not in err


def test_a_program_that_waits_for_each_row_gets_it(finished: RunResults, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "anomaly_core", "predict", str(finished.folder), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            for number in range(3):
                image = write_image(tmp_path / f"{number}.png", draw(number)[0])
                print(image, file=process.stdin, flush=True)
                if not number:
                    assert process.stdout.readline().startswith("path,")
                assert process.stdout.readline().startswith(f"{image},")
            process.stdin.close()
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.mark.reliability("input")
def test_the_status_of_a_watcher_says_whether_each_image_was_read(finished: RunResults, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", draw(1)[0])
    (tmp_path / "b.png").symlink_to("b.png")  # no regular file: nobody waits for it to become one
    command = ["-m", "anomaly_core", "predict", finished.folder, tmp_path, "--watch", "--interval", "0.1", "--jsonl"]
    with running(*command) as process:
        assert process.stdout is not None
        rows = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert sorted(Path(row["path"]).name for row in rows) == ["a.png", "b.png"]
    assert process.returncode == 1 and "Traceback" not in err and "2 images in" in err and "1 could not be read" in err
