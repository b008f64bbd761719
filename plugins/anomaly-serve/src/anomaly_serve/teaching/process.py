"""One job's process: started, listened to, and ended for certain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from anomaly_core import AnomalyError, RunError, core_count

LONGEST_LOG = 1 << 20  # bytes of what a job printed that are kept
MODULE = "anomaly_serve.teaching.worker"


class Cancelled(AnomalyError):
    """The process was ended on request."""


class WorkerProcess:
    """A :mod:`~anomaly_serve.teaching.worker` process.

    It ends when its standard input does, so that none outlives the service, though that be killed; :meth:`end` ends it at once.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._ended = False

    @property
    def was_ended(self) -> bool:
        """Whether :meth:`end` was called."""
        return self._ended

    def run(self, request: dict[str, Any], told: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Do what is requested, and return its result; ``told`` is called with each line of progress.

        Raises:
            RunError: it failed; the message is the process's own.
            Cancelled: :meth:`end` was called.
        """
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            child = self._started(log)
            try:
                assert child.stdin is not None and child.stdout is not None
                with suppress(OSError):  # it has ended already: its status says so below
                    child.stdin.write(json.dumps(request) + "\n")
                    child.stdin.flush()
                last: dict[str, Any] = {}
                for line in child.stdout:
                    try:
                        last = json.loads(line)
                    except ValueError:  # of a process that was killed while it wrote
                        break
                    if "doing" in last:
                        told(last)
                status = child.wait()
            finally:
                self.end(mark=False)
                for stream in (child.stdin, child.stdout):  # here alone: another thread may not close what this one reads
                    with suppress(OSError):
                        stream and stream.close()
        if self._ended:
            raise Cancelled("the job was cancelled.")
        if "result" in last:
            result: dict[str, Any] = last["result"]
            return result
        raise RunError(last.get("error") or _silent(status, self._log))

    def end(self, *, mark: bool = True) -> None:
        """End the process, and those that it started; nothing happens when it has ended."""
        with self._lock:
            self._ended |= mark
            child = self._child
            if child is not None and child.poll() is None:
                _kill_tree(child)
                child.wait()

    def _started(self, log: Any) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}
        environment.setdefault("OMP_NUM_THREADS", str(max(1, core_count() - 1)))  # one core stays for inspection
        with self._lock:
            if self._ended:
                raise Cancelled("the job was cancelled.")
            self._child = subprocess.Popen(
                [sys.executable, "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env=environment,
                **_own_group(),
            )
        return self._child


def tail(log: Path, most: int = 4000) -> str:
    """The end of what a job printed; empty if it printed nothing."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - most))
        return file.read().decode("utf-8", "replace")
    return ""


def _own_group() -> dict[str, Any]:
    """A Ctrl-C at the service's console is the service's, which ends its jobs itself."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    else:
        return {"start_new_session": True}


def _kill_tree(child: subprocess.Popen[str]) -> None:
    import psutil

    with suppress(psutil.Error):
        for one in psutil.Process(child.pid).children(recursive=True):
            with suppress(psutil.Error):
                one.kill()
    child.kill()


def _silent(status: int, log: Path) -> str:
    lines = tail(log).strip().splitlines()
    last = f" Its last words: {lines[-1]}" if lines else ""
    kind = "was killed, perhaps for want of memory" if status in (-9, 137) else f"ended with status {status}"
    return f"the job's process {kind}.{last}"
