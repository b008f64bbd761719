"""Runs commands of `anomaly` in forks of one process that has imported everything, and kills them at a chosen moment.

Not a test: ``conftest.py`` starts it. A line of JSON in, ``{"arguments": [...], "stderr": FILE, "kill": ...}``; a line out,
``{"code": ..., "seconds": ..., "writes": ...}``. ``kill`` is null, ``{"after": SECONDS}`` or ``{"write": N}``, with another
``signal`` than SIGKILL where one is named. The N-th write is the N-th time that a file or folder is flushed to the disk, which
each write of a file does before its rename and after it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

import accelerate  # noqa: F401 - what every command needs is imported once, so that a kill hits the work
import torch

from anomaly_core import main, registry, run_experiment  # noqa: F401 - the last as above


def child(job: dict) -> None:
    os.setsid()  # with its helpers a group of its own, which is killed whole
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(os.open(job.get("stdout") or os.devnull, os.O_RDWR | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(os.open(job["stderr"], os.O_RDWR | os.O_CREAT | os.O_TRUNC), 2)
    sys.path[:0] = job.get("path") or []  # which processes of a grid inherit
    count, flush, kill = 0, os.fsync, job.get("kill") or {}
    if job.get("largest_file"):  # bytes: a disk that is full for whatever is larger
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"],) * 2)

    def counted(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == kill.get("write"):
            os.kill(os.getpid(), kill.get("signal", signal.SIGKILL))
        flush(descriptor)

    os.fsync = counted
    code = 1
    try:
        main(job["arguments"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        Path(job["stderr"] + ".writes").write_text(str(count))
        os._exit(code)


def serve() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for kind in (registry.models, registry.datasets, registry.trainers, registry.metrics):
        for component in kind.values():
            component.load()
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        start = time.monotonic()
        pid = os.fork()
        if not pid:
            child(job)
        kill = job.get("kill") or {}
        signals = [(kill["after"], kill.get("signal", signal.SIGKILL))] if "after" in kill else []
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            if signals and time.monotonic() - start >= signals[0][0]:
                number = signals.pop()[1]
                try:
                    os.killpg(pid, number)
                except ProcessLookupError:  # not yet a group of its own
                    os.kill(pid, number)
            time.sleep(0.002)
        seconds = time.monotonic() - start
        with suppress(ProcessLookupError):  # no helper outlived it
            os.killpg(pid, signal.SIGKILL)
        writes = Path(job["stderr"] + ".writes")
        count = int(writes.read_text()) if writes.exists() else None
        writes.unlink(missing_ok=True)
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps({"code": code, "seconds": seconds, "writes": count}), flush=True)


if __name__ == "__main__":
    serve()
