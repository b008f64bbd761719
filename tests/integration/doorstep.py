"""A service that judges by brightness, for doors to be tested without a detector."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from anomaly_core import Calibration, DataError
from anomaly_serve import Judgement


class FakeService:
    """Of one product, ``bolts``: an image is anomalous from a mean of 128 on."""

    def __init__(self) -> None:
        calibration = Calibration(128.0, 0.01, 2, "test", scores=(0.0, 1.0))
        settings = SimpleNamespace(calibration=calibration)
        self.products: dict[str, Any] = {"bolts": SimpleNamespace(active=SimpleNamespace(settings=settings))}
        self.kept: list[Judgement] = []
        self.images: list[Any] = []
        self.faults: list[Exception] = []  # that the next images get
        self.before: Callable[[], None] = lambda: None

    def score(self, product: str, image: Any, *, name: str = "", source: str = "http") -> Future[Any]:
        if self.faults:
            raise self.faults.pop(0)
        self.before()
        future: Future[Any] = Future()
        if isinstance(image, bytes):
            try:
                with Image.open(io.BytesIO(image)) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
            except Exception:
                future.set_exception(DataError(f"{name!r} is no image. Send another."))
                return future
        else:
            pixels = image
        score = float(pixels.mean())
        self.images.append(pixels)
        number = len(self.kept)
        judgement = Judgement(
            f"{number:026d}", product, 1, time.time(), source, name, score, 0.5, 128.0, score > 128, pixels.shape[:2]
        )
        self.kept.append(judgement)
        future.set_result(SimpleNamespace(judgement=judgement))
        return future


def picture(path: Path, value: int) -> Path:
    """A grey image of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    Image.fromarray(np.full((12, 16, 3), value, dtype=np.uint8)).save(part, "png")
    return part.rename(path)


def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait for a condition; AssertionError if it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
