"""From image files to verdicts in a stream: decoding runs ahead of the network, and memory stays flat."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from anomaly_core import cores
from anomaly_core.errors import DataError
from anomaly_core.pictures import safe_name, save_panel
from anomaly_core.types import Scored, Scorer

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Verdict:
    """What is said of an image file.

    Attributes:
        path: the file.
        score: raw, or None where it could not be read.
        is_anomalous: score above the threshold; None without a threshold.
        p_value: share of normal images that look at least this odd.
        error: why it could not be read, or empty.
    """

    path: str
    score: float | None = None
    is_anomalous: bool | None = None
    p_value: float | None = None
    error: str = ""


def verdicts(
    scorer: Scorer,
    paths: Iterable[Path],
    *,
    batch_size: int = 32,
    decoders: int | None = None,
    pictures: Path | None = None,
    first: int = 0,
) -> Iterator[Verdict]:
    """Score image files, in their order; one that cannot be read gets a verdict with its error, and the rest goes on.

    Threads decode up to two batches ahead while another one runs network and search on the batch before, so that at most four
    batches are in memory, whatever the number of files.

    Args:
        scorer: a run's detector or an exported one.
        paths: read as they are needed.
        batch_size: images a batch.
        decoders: threads that decode; None: one a core, at most eight.
        pictures: a folder for image | map | overlay of each, or None.
        first: number of the first picture.
    """
    with ThreadPoolExecutor(decoders or cores.decoders(), "decode") as decoding, ThreadPoolExecutor(1, "score") as scoring:
        decoded = ahead(decoding, lambda path: _decoded(scorer, path), paths, 2 * batch_size)
        scored = ahead(scoring, lambda batch: _scored(scorer, batch), _batches(decoded, batch_size), 1)
        number = first
        for batch in scored:
            for path, said in batch:
                if pictures is not None and isinstance(said, Scored):
                    _save(pictures / f"{number:05d}-{safe_name(path.stem)}.png", path.name, said, scorer)
                number += 1
                yield _verdict(scorer, path, said)


def ahead(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], limit: int) -> Iterator[R]:
    """``map`` in a pool, in order, with at most ``limit`` items under way beyond the one that is asked for."""
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > limit:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


def _decoded(scorer: Scorer, path: Path) -> tuple[Path, Any]:
    try:
        return path, scorer.decode(path)
    except DataError as error:
        return path, error


def _scored(scorer: Scorer, batch: list[tuple[Path, Any]]) -> list[tuple[Path, Scored | DataError]]:
    readable = [image for _, image in batch if not isinstance(image, DataError)]
    said = iter(scorer.score(readable) if readable else [])
    return [(path, image if isinstance(image, DataError) else next(said)) for path, image in batch]


def _verdict(scorer: Scorer, path: Path, said: Scored | DataError) -> Verdict:
    if isinstance(said, DataError):
        return Verdict(str(path), error=str(said))
    calibration = scorer.calibration
    return Verdict(str(path), said.score, calibration.is_anomalous(said.score), calibration.p_value(said.score))


def _save(target: Path, name: str, said: Scored, scorer: Scorer) -> None:
    image = said.image.transpose(2, 0, 1).astype(np.float32) / 255
    title = f"{name}  score {said.score:.4g}"
    save_panel(target, image, said.map, None, scorer.calibration, title, with_mask=False, reconstruction=said.reconstruction)
