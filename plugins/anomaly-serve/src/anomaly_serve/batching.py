"""How images reach a detector: in a thread of its own, in batches of those that came meanwhile, or several at once, each in the
thread that decoded it. Neither waits for more images to come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Semaphore, Thread
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
        if len(images) == 1:
            return [_scored_alone(self._detector, images[0])]
        try:
            return list(self._detector.score(images))
        except Exception:  # whatever a method or an engine raises costs one image, not the service
            return [_scored_alone(self._detector, image) for image in images]


class Lanes:
    """Scores each image in the thread that brings it, as many at once as the detector has callers
    (``ExportedDetector.for_callers``).

    Each core then has an image of its own from its file to its verdict: nobody waits for the others to end their part of a
    layer, and what is computed stays in the core's cache.

    Args:
        divided: the detector for ``callers`` callers.
        whole: the same for one caller, which has all threads: for an image that is alone.
        batched: as for :class:`Batcher`.
    """

    def __init__(
        self,
        divided: Detector,
        callers: int,
        whole: Detector,
        batched: Callable[[int, float], Any] | None = None,
    ) -> None:
        self._divided, self._whole, self._batched = divided, whole, batched
        self._room = Semaphore(callers)

    def __len__(self) -> int:
        """Images that wait here: those that have no thread yet wait elsewhere."""
        return 0

    def put(self, image: Pixels, done: Callable[[Answer], Any], *, is_alone: bool = False) -> None:
        """Score an image, and give ``done`` the answer before returning; ``is_alone``: no other is on its way."""
        since = time.perf_counter()
        with self._room:
            start = time.perf_counter()
            prediction = _scored_alone(self._whole if is_alone else self._divided, image)
            took = 1000 * (time.perf_counter() - start)
        if self._batched is not None:
            self._batched(1, took)
        done(Answer(prediction, 1000 * (start - since), took))

    def close(self, wait: bool = True) -> None:
        """Nothing: there is no thread to end."""


def _scored_alone(detector: Detector, image: Pixels) -> Scored | AnomalyError:
    """A prediction, or what a method or an engine raised."""
    try:
        return detector.score([image])[0]
    except AnomalyError as error:
        return error
    except Exception as error:
        return RunError(f"the detector failed: {described(error)}. `anomaly doctor RUN` compares its files.")
