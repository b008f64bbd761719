"""``--devices N``: runs the same command line in several processes on this machine, with torchrun's library."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anomaly_core import LAUNCHED, ConfigError, Interrupted, RunError, Terminated, printable, thread_count

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

UNEXPECTED = "Error: unexpected "
WORDS = 3  # lines of what a process that died wrote


def launch(devices: int, arguments: list[str]) -> int:
    """Run the command line ``arguments`` in several processes, and return the exit status; only the first process prints.

    Raises:
        ConfigError: there are not enough GPUs.
        RunError: a process died without an error message.
        Interrupted, Terminated: this process was stopped, and so are the others.
    """
    import torch
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    if torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise ConfigError(f"--devices {devices}: this machine has {torch.cuda.device_count()} GPU(s).")
    logger = logging.getLogger("torch.distributed.elastic")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False  # the error message already describes the failure
    os.environ.setdefault("OMP_NUM_THREADS", str(thread_count(devices)))
    os.environ[LAUNCHED] = "1"
    with tempfile.TemporaryDirectory() as logs:
        others = ",".join(f"{rank}:2" for rank in range(1, devices))  # 2: standard error, kept for the last words below
        options = ["--standalone", f"--nproc-per-node={devices}", f"--log-dir={logs}", "--local-ranks-filter=0"]
        options += ["--redirects", others]
        try:
            run(get_args_parser().parse_args([*options, "-m", "anomaly_core", *arguments]))
        except SignalException as stop:
            raise Interrupted if stop.sigval == signal.SIGINT else Terminated(128 + stop.sigval) from stop
        except ChildFailedError as error:
            cause = min(error.failures.values(), key=_rank)
            if "code" not in cause.error_file_data:
                status = f"signal {cause.signal_name()}" if cause.exitcode < 0 else f"exit status {cause.exitcode}"
                raise RunError(
                    f"process {cause.local_rank} of {devices} died ({status}), perhaps because memory ran out. Run "
                    "again with --resume to go on from the last complete epoch, or lower data.batch_size in a new run."
                    f"{_last_words(Path(logs), cause.local_rank)}"
                ) from error
            click.echo(cause.message, err=True)
            return int(cause.error_file_data["code"])
    return 0


def _last_words(logs: Path, rank: int) -> str:
    """What a process that died wrote last, as a sentence; empty if that was nothing."""
    lines = [line for log in logs.glob(f"*/*/{rank}/stderr.log") for line in log.read_text("utf-8", "replace").splitlines()]
    last = [text for line in lines if (text := line.strip())][-WORDS:]
    return f" It wrote last: {printable(' | '.join(last))[-1000:]}" if last else ""


def _rank(failure: ProcessFailure) -> tuple[int, int]:
    """Sort key for failures, the most informative first: an expected error, a process that died, then secondary failures."""
    order = failure.error_file_data.get("order")
    if order is not None:
        return (2 if failure.message.startswith(UNEXPECTED) else 0), order
    return (3 if failure.exitcode in (-signal.SIGTERM, 128 + signal.SIGTERM) else 1), failure.local_rank
