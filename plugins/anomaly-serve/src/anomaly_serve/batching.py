"""A thread for each detector: images are scored together that came while those before them were scored, without any delay."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_core import AnomalyError, Detector, Prediction, RunError, described
from anomaly_serve.faults import Busy

Pixels = NDArray[np.uint8]
Scored = Prediction[NDArray[np.float32]]
MOST_BYTES = 1 << 30  # of decoded images that wait for a detector
MOST = 8  # images of a batch: more need more memory and gain nothing on a CPU


class Answer(NamedTuple):
    """What became of an image: a prediction of it alone, or why there is none; milliseconds that it waited and was scored."""

    prediction: Scored | AnomalyError
    waited: float
    scored: float


class _Item(NamedTuple):
    image: Pixels
    done: Callable[[Answer], Any]
    since: float


class Batcher:
    """Scores images in one thread, at most ``most`` of one size at once.

    Args:
        done: of :meth:`put`, is called in that thread: it must be short, and must not raise.
        batched: is told of the size of each batch, or None.
    """

    def __init__(
        self, detector: Detector, name: str, *, most: int = MOST, batched: Callable[[int, float], Any] | None = None
    ) -> None:
        self._detector = detector
        self._most = most
        self._batched = batched
        self._waiting: deque[_Item] = deque()
        self._bytes = 0  # of the images that wait
        self._changed = Condition()
        self._ends = False
        self._thread = Thread(target=self._serve, name=f"score-{name}", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, image: Pixels, done: Callable[[Answer], Any]) -> None:
        """Have an image scored, uint8 (h, w, 3) as the detector decodes it; ``done`` gets the answer.

        Raises:
            Busy: those that wait fill the memory for them, as large ones of a run with ``data.tile`` may.
        """
        with self._changed:
            if self._ends:
                raise RuntimeError("a batcher that was closed takes no image")
            if self._waiting and self._bytes + image.nbytes > MOST_BYTES:
                raise Busy(
                    "the images that wait for this detector fill the memory for them. Send it again later.", retry_after=2
                )
            self._bytes += image.nbytes
            self._waiting.append(_Item(image, done, time.perf_counter()))
            self._changed.notify()

    def close(self, wait: bool = True) -> None:
        """Score what waits, then end the thread."""
        with self._changed:
            self._ends = True
            self._changed.notify()
        if wait:
            self._thread.join()

    def _serve(self) -> None:
        while self._next():  # a function of its own, so that an idle thread keeps no image
            pass

    def _next(self) -> bool:
        with self._changed:
            while not self._waiting:
                if self._ends:
                    return False
                self._changed.wait()
            batch = [self._waiting.popleft()]
            shape = batch[0].image.shape
            while self._waiting and len(batch) < self._most and self._waiting[0].image.shape == shape:
                batch.append(self._waiting.popleft())
            self._bytes -= sum(item.image.nbytes for item in batch)
        start = time.perf_counter()
        answers = self._scored([item.image for item in batch])
        took = 1000 * (time.perf_counter() - start)
        if self._batched is not None:
            self._batched(len(batch), took)
        for item, prediction in zip(batch, answers, strict=True):
            item.done(Answer(prediction, 1000 * (start - item.since), took))
        return True

    def _scored(self, images: list[Pixels]) -> list[Scored | AnomalyError]:
        try:
            return list(self._detector.score(images))
        except Exception as error:  # whatever a method or an engine raises costs one image, not the service
            if len(images) > 1:
                return [self._scored([image])[0] for image in images]
            if isinstance(error, AnomalyError):
                return [error]
            return [RunError(f"the detector failed: {described(error)}. `anomaly doctor RUN` compares its files.")]
