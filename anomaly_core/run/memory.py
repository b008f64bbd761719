"""Memory: splitting of batches when it runs out, and explanations of failures that a run cannot handle."""

from __future__ import annotations

import errno
import gc
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from anomaly_core.discovery import registry
from anomaly_core.errors import AnomalyError, DataError, RunError, described, is_stop

if TYPE_CHECKING:
    from torch import Tensor

    from anomaly_core.types import Batch

_NO_SPACE = {errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)}  # Windows has no quotas
T = TypeVar("T")
Items = TypeVar("Items", "Batch", "Tensor")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the GPU or in the machine's own memory."""
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, MemoryError) or (isinstance(error, Exception) and bool(should_reduce_batch_size(error)))


class Portions:
    """Processes a batch in parts as large as memory allows; a size that did not fit is not tried again.

    Args:
        what: the work, for the warning.
        differs: how splitting changes the results, for the warning.
    """

    def __init__(self, what: str, differs: str = "The results are the same.") -> None:
        self.size: int | None = None
        self._what = what
        self._differs = differs

    def of(self, count: int) -> list[slice]:
        """Consecutive slices of a batch of ``count`` images, of the size that has fitted so far."""
        size = self.size or count
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]

    def run(self, work: Callable[[Items], T], items: Items) -> list[T]:
        """The results of ``work`` on consecutive parts of a batch, halved until they fit.

        Raises:
            RunError: not even one image fits.
        """
        results: list[T] = []
        done, count = 0, len(items)
        while done < count:
            part = slice(done, min(done + (self.size or count), count))
            try:
                results.append(work(items if len(items) == part.stop - part.start else items[part]))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self.halve(part.stop - part.start, error)
            else:
                done = part.stop
            if done < part.stop:  # outside the handler: its error keeps the allocations alive
                release()
        return results

    def halve(self, size: int, error: BaseException) -> None:
        """Halve the size of a part that did not fit, with a warning."""
        if size == 1:
            alone = f"out of memory while {self._what}, with one image alone ({_first_line(error)})"
            raise RunError(f"{alone}. Close other programs, lower model.image_size, or choose another base.device.") from error
        self.size = size // 2
        warnings.warn(
            f"out of memory while {self._what} with {size} images at once: going on with {self.size}. {self._differs} "
            "Lower data.batch_size to start there.",
            stacklevel=3,
        )


def release() -> None:
    """Free the memory of a failed attempt."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def explained(error: BaseException) -> BaseException:
    """An error with an explanation for the user, such as which plugin raised it; the error itself if there is none."""
    if isinstance(error, AnomalyError):
        text = str(error)
        # An error from a DataLoader worker contains its traceback as text.
        inner = re.search(r"in DataLoader worker process \d+\..*\n[\w.]*Error: (.*)", text, flags=re.DOTALL)
        return type(error)(inner[1].strip()) if inner else error
    if isinstance(error, RuntimeError) and "DataLoader worker" in described(error):
        return DataError(
            f"a process that reads images died: {_first_line(error)}. It was killed from outside, or by the system because "
            "memory, or shared memory (/dev/shm), ran out. Lower data.num_workers in the run's config.yaml (0 reads in the "
            "main process), then go on with `anomaly run --resume RUN`, RUN being its folder."
        )
    if is_out_of_memory(error):
        new = "or start a new run with a smaller data.batch_size or model.image_size, or another base.device"
        return RunError(f"out of memory: {_first_line(error)}. Close other programs and go on with --resume, {new}.")
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        shared = "" if error.filename else " If that is /dev/shm, the shared memory, set data.num_workers=0."
        return RunError(f"cannot write: {error}. Free some space or choose another folder with --output.{shared}")
    if not isinstance(error, Exception) and not is_stop(error) and registry.culprit(error) is None:
        return RunError(f"unexpected {described(error)}. Run again with --debug and report what it shows.")
    return registry.attributed(error)  # a SystemExit would look to a scheduler as if all was well


@contextmanager
def undisturbed() -> Iterator[None]:
    """Undo what a plugin does inside to the working folder and the standard streams, which the whole process shares."""
    folder, streams = Path.cwd(), (sys.stdout, sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        os.chdir(folder)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
