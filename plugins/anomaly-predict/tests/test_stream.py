"""Image files to verdicts: in order, in bounded memory, and whatever one of them is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from anomaly_core import Calibration, DataError, Prediction, read_image
from anomaly_predict import verdicts
from anomaly_predict.pool import Pool, ahead
from tiny.data import write_image


def write(path: Path, value: int = 0) -> Path:
    return write_image(path, np.full((8, 8, 3), value, dtype=np.uint8))


class Brightness:
    """A detector whose score is the mean of an image; it counts what it holds."""

    calibration = Calibration(100.0, 0.1, 3, "test", scores=(10.0, 20.0, 30.0))

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.decoded = self.scored = self.most = 0
        self.batches: list[int] = []
        self.lock = threading.Lock()

    def decode(self, path: str | Path) -> np.ndarray:
        time.sleep(self.delay * (hash(str(path)) % 3))
        image = np.asarray(read_image(path))
        with self.lock:
            self.decoded += 1
            self.most = max(self.most, self.decoded - self.scored)
        return image

    def score(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        self.batches.append(len(images))
        with self.lock:
            self.scored += len(images)
        return [Prediction(np.float32([image.mean()])) for image in images]


def test_order_verdicts_and_p_values_are_those_of_the_files(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i:03}.png", i * 5) for i in range(40)]
    answers = list(verdicts(Brightness(delay=0.002), paths, batch_size=7, decoders=4))
    assert [v.path for v in answers] == list(map(str, paths))
    assert [v.score for v in answers] == [i * 5.0 for i in range(40)]
    assert [v.is_anomalous for v in answers] == [i * 5 > 100 for i in range(40)]
    assert [answers[0].p_value, answers[3].p_value, answers[39].p_value] == [1.0, 0.75, 0.25]


def test_memory_is_bound_by_the_batch_and_not_by_the_number_of_files(tmp_path: Path) -> None:
    path = write(tmp_path / "one.png", 7)
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield path

    detector = Brightness()
    stream = verdicts(detector, endless(), batch_size=4, decoders=3)
    for number, _ in enumerate(stream):
        if number == 400:
            break
    assert detector.most <= 4 * 4 + 1
    assert taken <= 400 + 5 * 4
    assert set(detector.batches) == {4}
    stream.close()


def test_one_bad_image_does_not_stop_the_others(tmp_path: Path) -> None:
    good = [write(tmp_path / name) for name in ("a.png", "c.png")]
    bad = tmp_path / "b.png"
    bad.write_bytes(b"no image")
    answers = list(verdicts(Brightness(), [good[0], bad, good[1], tmp_path / "gone.png"], batch_size=2))
    assert [v.score for v in answers] == [0.0, None, 0.0, None]
    assert "cannot read the image" in answers[1].error
    assert answers[0].error == answers[2].error == ""


def test_a_fault_in_the_network_reaches_the_caller(tmp_path: Path) -> None:
    class Broken(Brightness):
        def score(self, images: Sequence[np.ndarray]) -> list[Prediction]:
            raise DataError("broken network")

    with pytest.raises(DataError, match="broken network"):
        list(verdicts(Broken(), [write(tmp_path / "a.png")]))


def test_ahead_keeps_order_and_takes_no_more_than_it_may() -> None:
    with ThreadPoolExecutor(4) as pool:
        assert list(ahead(pool, lambda x: x * x, range(100), 5)) == [x * x for x in range(100)]


def test_a_verdict_waits_for_no_further_name(tmp_path: Path) -> None:
    """A program that writes a name and then waits for the verdict gets it, and the names that are there share a batch."""
    sizes: list[int] = []

    class Counting(Brightness):
        def score(self, images: Sequence[np.ndarray]) -> list[Prediction]:
            sizes.append(len(images))
            return super().score(images)

    names: SimpleQueue[Path | None] = SimpleQueue()
    stream = verdicts(Counting(), iter(names.get, None), batch_size=4)
    for number in range(3):
        path = write(tmp_path / f"{number}.png")
        names.put(path)
        assert next(stream).path == str(path)
    assert sizes == [1, 1, 1]
    more = [write(tmp_path / f"more{number}.png") for number in range(9)]
    for path in [*more, None]:
        names.put(path)
    assert [verdict.path for verdict in stream] == [str(path) for path in more]
    assert max(sizes) == 4 and sum(sizes) == 12


@pytest.mark.reliability("input")
def test_what_is_wrong_with_a_name_loses_no_image_before_it(tmp_path: Path) -> None:
    def paths() -> Iterator[Path]:
        yield from (write(tmp_path / f"{i}.png") for i in range(5))
        raise DataError("the folder holds no image")

    seen = []
    with pytest.raises(DataError, match="holds no image"):
        seen += [v.path for v in verdicts(Brightness(), paths(), batch_size=3)]
    for verdict in (stream := verdicts(Brightness(), paths(), batch_size=3)):
        seen.append(verdict.path)
        if len(seen) == 5:
            break
    with pytest.raises(DataError, match="holds no image"):
        next(stream)
    assert seen == [str(tmp_path / f"{i}.png") for i in range(5)]


def test_what_may_still_be_written_is_left_out_and_not_counted(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.png"), tmp_path / "half.png", tmp_path / "bad.png", write(tmp_path / "c.png")]
    answers = list(verdicts(Brightness(), paths, postponed=lambda path: path.stem == "half"))
    assert [(Path(v.path).stem, v.score) for v in answers] == [("a", 0.0), ("bad", None), ("c", 0.0)]


@pytest.mark.reliability("fault")
def test_nobody_waits_for_a_decoder_that_hangs(tmp_path: Path) -> None:
    hanging, released = threading.Event(), threading.Event()

    class Hanging(Brightness):
        def decode(self, path: str | Path) -> np.ndarray:
            if Path(path).stem == "dead":
                hanging.set()
                released.wait(60)
            return super().decode(path)

    paths = [write(tmp_path / f"{name}.png") for name in (*"abcdefgh", "dead", *"ijklm")]
    stream = verdicts(Hanging(), paths, batch_size=1, decoders=2)
    assert [next(stream).path for _ in range(4)] == [str(path) for path in paths[:4]]
    while not hanging.wait(0.01):
        next(stream)
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 5
    assert [thread.daemon for thread in threading.enumerate() if thread.name.startswith("decode")] == [True]
    released.set()


def test_a_pool_hands_over_what_its_work_raises() -> None:
    def fail(_: int) -> int:
        raise TimeoutError("the drive does not answer")

    with Pool(2, "work") as pool, pytest.raises(TimeoutError, match="does not answer"):
        list(ahead(pool, fail, range(3), 1))
    for thread in threading.enumerate():
        assert not thread.name.startswith("work") or not thread.join(5)
