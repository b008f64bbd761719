"""``anomaly run`` where modules, functions, signals and flags that only Unix has are not there: trained, resumed, reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_bad_data import tree

# A file of its own and not `python -c`: a process that is spawned imports the main module again.
PROGRAM = '''
"""Command lines, as if this were no Unix."""

import builtins
import json
import multiprocessing
import sys
import types

MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "readline", "curses", "uvloop"}
NAMES = {
    "os": {
        "fork", "forkpty", "sched_getaffinity", "sched_setaffinity", "geteuid", "getuid", "getgid", "uname", "mkfifo",
        "mknod", "killpg", "getpgid", "setsid", "nice", "chown", "fchown", "lchown", "statvfs", "fstatvfs",
        "getloadavg", "sync", "sysconf", "posix_fallocate", "posix_fadvise", "register_at_fork", "O_NONBLOCK",
        "O_NOCTTY", "O_DIRECTORY", "O_CLOEXEC", "O_NOFOLLOW", "O_SYNC", "wait", "WNOHANG", "pread", "pwrite",
        "fchdir", "fchmod", "ttyname", "ctermid", "getgroups",
    },
    "signal": {
        "SIGKILL", "SIGALRM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE", "SIGCONT", "SIGSTOP",
        "alarm", "setitimer", "pthread_kill", "pthread_sigmask", "siginterrupt", "pause",
    },
    "socket": {"AF_UNIX", "socketpair"},
    "time": {"tzset", "clock_gettime"},
    "select": {"poll", "epoll"},
}
REAL = builtins.__import__
asked = set()


class Fewer(types.ModuleType):
    """A module without what Windows lacks."""

    def __init__(self, module):
        super().__init__(module.__name__)
        self.__dict__["_module"] = module

    def __getattr__(self, name):
        module = self.__dict__["_module"]
        if name in NAMES[module.__name__]:
            asked.add(f"{module.__name__}.{name}")
            raise AttributeError(f"no {module.__name__}.{name}: this is no Unix")
        return getattr(module, name)


FEWER = {name: Fewer(REAL(name)) for name in NAMES}


def refusing(name, globals=None, locals=None, fromlist=(), level=0):
    """For us alone; other libraries know on which system they are."""
    if not str((globals or {}).get("__name__")).startswith("anomaly"):
        return REAL(name, globals, locals, fromlist, level)
    if name.partition(".")[0] in MODULES:
        raise ModuleNotFoundError(f"No module named {name!r}: this is no Unix", name=name)
    return FEWER.get(name) or REAL(name, globals, locals, fromlist, level)


builtins.__import__ = refusing


def main():
    multiprocessing.set_start_method("spawn")
    import anomaly_core

    codes = []
    for line in json.loads(sys.argv[1]):
        try:
            anomaly_core.main(line)
        except SystemExit as end:
            codes.append(end.code)
    print(json.dumps({"codes": codes, "asked": sorted(asked)}))


if __name__ == "__main__":
    main()
'''


@pytest.mark.slow
def test_runs_without_what_only_unix_has(tmp_path: Path) -> None:
    tree(tmp_path / "parts")
    script = tmp_path / "program.py"
    script.write_text(PROGRAM, encoding="utf-8")
    options = ["data.root=parts", "data.holdout=0.34", "model.image_size=48", "base.pictures=2"]
    common = ["--data", "folder", "--preset", "edge", "--output", "runs", *(w for o in options for w in ("--set", o))]
    lines = [
        [
            "run",
            "--model",
            "patchcore",
            "--set",
            "model.feature_cache=disk",
            "--set",
            "model.cache_folder=cache",
            "--set",
            "data.num_workers=1",
            *common,
        ],
        ["run", "--model", "vanilla_ae", "--set", "train.epochs=1", *common],
        ["run", "--model", "vanilla_ae", "--set", "train.epochs=1", *common, "--resume"],
        ["run", "--model", "patchcore", *common, "--category", "nope"],
        ["data", "verify", "visa", "--root", "parts"],
    ]
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(lines)],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
    )
    assert "this is no Unix" not in done.stderr, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["codes"] == [0, 0, 0, 2, 1], done.stderr
    assert "os.sched_getaffinity" in answer["asked"]  # the guard was asked
    assert len(list((tmp_path / "runs").rglob("report.html"))) == 2
    assert "failed" not in done.stderr  # no observer
