"""One thread a detector: what is scored together, in which order, and what one bad image costs the others."""

from __future__ import annotations

from threading import Barrier, Event, Thread
from typing import Any

import numpy as np
import pytest

from anomaly_core import DataError
from anomaly_serve import batching
from anomaly_serve.batching import Answer, Batcher, Lanes
from anomaly_serve.faults import Busy
from anomaly_serve.testing import BrightSpots

SHAPE = (4, 4, 3)


class Gated(BrightSpots):
    """Scores when it is let, and notes the sizes of its batches; an image whose first pixel is 13 breaks it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.batches = Event(), []  # type: ignore[var-annotated]

    def score(self, images: Any) -> Any:
        self.gate.wait(10)
        self.batches.append(len(images))
        if any(image[0, 0, 0] == 13 for image in images):
            raise DataError("thirteen") if len(images) == 1 else ValueError("a batch")
        return super().score(images)


def image(value: int, shape: tuple[int, ...] = SHAPE) -> Any:
    return np.full(shape, value, np.uint8)


def test_what_waits_is_scored_together_by_size_and_one_bad_image_is_alone() -> None:
    detector, answers = Gated(), {}
    batcher = Batcher(detector, "test", most=4)
    values = [200, 201, 202, 13, 203, 204]
    shapes = [SHAPE] * 4 + [(8, 8, 3), SHAPE]
    for value, shape in zip(values, shapes, strict=True):
        batcher.put(image(value, shape), lambda answer, value=value: answers.__setitem__(value, answer))
    detector.gate.set()
    batcher.close()
    assert list(answers) == values  # in order
    assert isinstance(answers[13].prediction, DataError)
    for value in set(values) - {13}:
        answer: Answer = answers[value]
        assert not isinstance(answer.prediction, Exception) and answer.prediction.score == pytest.approx(
            (value - 127.5) / 127.5
        )
        assert answer.waited >= 0 and answer.scored >= 0
    assert max(detector.batches) <= 4
    with pytest.raises(RuntimeError):
        batcher.put(image(1), print)


def test_decoded_images_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MOST_BYTES", 3 * image(0).nbytes)
    detector, done = Gated(), []
    batcher = Batcher(detector, "test", most=1)
    with pytest.raises(Busy):
        for value in range(6):
            batcher.put(image(value), done.append)
    detector.gate.set()
    batcher.close()
    assert 3 <= len(done) <= 4


class Together(BrightSpots):
    """Scores when so many others do."""

    def __init__(self, callers: int) -> None:
        super().__init__()
        self.barrier, self.most, self.inside = Barrier(callers, timeout=10), 0, 0

    def score(self, images: Any) -> Any:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.barrier.wait()
        self.inside -= 1
        if images[0][0, 0, 0] == 13:
            raise ValueError("thirteen")
        return super().score(images)


def test_in_lanes_images_are_scored_at_once_each_in_the_thread_that_brings_it() -> None:
    divided, sizes, answers = Together(2), [], {}  # type: ignore[var-annotated]
    lanes = Lanes(divided, 2, BrightSpots(), lambda size, milliseconds: sizes.append(size))

    def bring(value: int) -> None:
        lanes.put(image(value), lambda answer: answers.__setitem__(value, answer))
        assert value in answers  # before it returns

    threads = [Thread(target=bring, args=(value,)) for value in (200, 201, 202, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert divided.most == 2 and sizes == [1] * 4
    assert "thirteen" in str(answers[13].prediction)
    assert {value for value, answer in answers.items() if not isinstance(answer.prediction, Exception)} == {200, 201, 202}
    lanes.put(image(203), lambda answer: answers.__setitem__(203, answer), is_alone=True)  # by the whole: nobody is waited for
    assert answers[203].prediction.score == pytest.approx((203 - 127.5) / 127.5)
