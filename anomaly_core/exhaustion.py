"""When memory runs out: batches in halves, and words for the failures that a run cannot mend itself."""

from __future__ import annotations

import errno
import gc
import re
import warnings
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from anomaly_core.errors import AnomalyError, DataError, RunError

T = TypeVar("T")
Items = TypeVar("Items", bound="Sliceable")


class Sliceable(Protocol):
    """A batch: it has a length and gives a part of itself."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the GPU or in the machine's own memory."""
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, MemoryError) or (isinstance(error, Exception) and bool(should_reduce_batch_size(error)))


class Portions:
    """Work on a batch in as large parts as memory holds; what did not fit once is not tried again.

    Args:
        what: is done, for the warning.
        differs: what the parts change, for the warning.
    """

    def __init__(self, what: str, differs: str = "The results are the same.") -> None:
        self.size: int | None = None
        self._what = what
        self._differs = differs

    def of(self, count: int) -> list[slice]:
        """A batch of ``count`` images in consecutive parts of the size that fits so far."""
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
            if done < part.stop:  # outside of the handler, whose error still holds what was allocated
                release()
        return results

    def halve(self, size: int, error: BaseException) -> None:
        """Go on with half of a part that did not fit; says so."""
        if size == 1:
            raise RunError(
                f"out of memory while {self._what}, with one image alone ({_first_line(error)}). Lower model.image_size, close "
                "other programs, or choose a device with more memory (base.device)."
            ) from error
        self.size = size // 2
        warnings.warn(
            f"out of memory while {self._what} with {size} images at once: going on with {self.size}. {self._differs} "
            "Lower data.batch_size to start there.",
            stacklevel=3,
        )


def release() -> None:
    """Give back the memory of what failed."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def explained(error: BaseException) -> BaseException:
    """The error as the user should read it; itself, where there is nothing better to say."""
    text = str(error)
    if isinstance(error, AnomalyError):
        # A process that reads images hands its error over with a traceback inside.
        inner = re.search(r"in DataLoader worker process \d+\..*\n[\w.]*Error: (.*)", text, flags=re.DOTALL)
        return type(error)(inner[1].strip()) if inner else error
    if isinstance(error, RuntimeError) and "DataLoader worker" in text:
        return DataError(
            f"a process that reads images died: {_first_line(error)}. It was killed from outside, or by the system because "
            "memory ran out. Lower data.num_workers (0 reads in the main process), then go on with --resume."
        )
    if is_out_of_memory(error):
        return RunError(
            f"out of memory: {_first_line(error)}. Lower data.batch_size or model.image_size, close other programs, or choose "
            "a device with more memory (base.device); then go on with --resume."
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return RunError(f"cannot write: {error}. Free some space or choose another folder with --output.")
    return error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
