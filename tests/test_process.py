"""The program's own process: what it keeps, and that it loses nothing when it ends."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from anomaly_core import process

LINUX = sys.platform == "linux"


def python(code: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if "MALLOC" not in name and name != "WORLD_SIZE"}
    return subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, env=kept | environment, check=False
    )


FAULTS = """
import resource, numpy
from anomaly_core.process import keep_memory
kept = keep_memory()
for _ in range(3):
    numpy.ones(1 << 23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    numpy.ones(1 << 23)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not LINUX, reason="resource, and glibc")
def test_memory_is_used_again():
    """Five arrays of 64 MiB are 80,000 pages of 4 KiB, which the kernel would clear each time (160 with huge pages)."""
    kept, faults = python(FAULTS).stdout.split()
    if kept == "False":
        pytest.skip("no glibc")
    assert int(faults) < 100


def test_what_the_user_chose_stays(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.mmap_max=65536")
    assert process.keep_memory() is False


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_without_glibc_nothing_changes(monkeypatch, system):
    monkeypatch.setattr(process.platform, "system", lambda: system)
    assert process.keep_memory() is False


def test_musl_is_left_alone(monkeypatch):
    monkeypatch.setattr(process.platform, "system", lambda: "Linux")
    monkeypatch.setattr(process.ctypes, "CDLL", lambda name: object())
    assert process.keep_memory() is False


ENDS = """
import atexit, sys, threading, time
left = open(sys.argv[1], "w")
left.write("left open")
atexit.register(print, "handler ran")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread ended"))).start()
class Slow:
    def __del__(self): print("torn down", file=sys.__stderr__)
import builtins
builtins.slow = Slow()
from anomaly_core.cli import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize(("arguments", "status"), [(["--version"], 0), (["show", "nothing-of-that-name"], 2)])
def test_the_end_loses_nothing(tmp_path, arguments, status):
    program, left = tmp_path / "anomaly", tmp_path / "left.txt"
    program.write_text(ENDS)
    environment = {name: value for name, value in os.environ.items() if name != "WORLD_SIZE"}
    command = [sys.executable, program, left, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == status
    assert left.read_text() == "left open"
    assert {"thread ended", "handler ran"} <= set(done.stdout.splitlines())
    assert ("version" in done.stdout) == (status == 0)
    assert ("torn down" in done.stderr) == (os.name != "posix")


def test_a_callers_process_goes_on():
    """Called by another program, main() only raises SystemExit."""
    done = python("from anomaly_core.cli import main\ntry: main(['--version'])\nexcept SystemExit: print('goes on')")
    assert done.stdout.splitlines()[-1] == "goes on", done.stderr


def test_output_that_cannot_be_written_is_an_error():
    if not os.path.exists("/dev/full"):  # noqa: PTH110 - a device
        pytest.skip("no /dev/full")
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        command = [sys.executable, "-m", "anomaly_core", "--version"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "No space left" in done.stderr


@pytest.mark.parametrize("looks", [True, False])
def test_garbage_is_looked_for_again_after_an_import(looks):
    before = gc.isenabled()
    (gc.enable if looks else gc.disable)()
    try:
        with pytest.raises(ImportError), process.importing():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() is looks
    finally:
        (gc.enable if before else gc.disable)()
