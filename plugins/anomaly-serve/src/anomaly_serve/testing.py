"""A real service on a free port, in this process, for tests: with a detector that costs nothing, or one of yours."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import Calibration, ImageReader, InputSpec, Prediction
from anomaly_predict import as_image, judged
from anomaly_serve.service import Service, ServiceOptions
from anomaly_serve.store import Store

Pixels = NDArray[np.uint8]
SIDE = 32


class BrightSpots:
    """A detector of 32 x 32 pixels whose map is how much brighter than mid grey a pixel is, in [0, 1]; the score is its
    greatest value. The threshold is 0.5: white on grey is a defect, and everything darker is normal."""

    def __init__(self, delay: float = 0.0) -> None:
        scores = tuple(np.linspace(0.0, 0.5, 99).tolist())
        self.calibration = Calibration(None, 0.05, 99, "99 normal images", scores=scores, map_maxima=scores).at_rate(0.01)
        self.reader = ImageReader()
        self.input_spec = InputSpec((SIDE, SIDE))
        self.delay = delay

    def decode(self, path: Any) -> Pixels:
        """As any detector's."""
        return self.input_spec.array(self.reader.read(path, grey=True))

    def place(self, image: Any, *, colour: str = "RGB") -> Pixels:
        """As any detector's."""
        return self.input_spec.array(as_image(image, self.reader, colour, grey=True))

    def score(self, images: Any) -> list[Prediction[NDArray[np.float32]]]:
        """As any detector's."""
        time.sleep(self.delay)
        return [self._one(np.asarray(image)) for image in images]

    def predict(self, images: Any, **_: Any) -> Prediction[Any]:
        """Of one image."""
        return self._one(self.place(images))

    def _one(self, image: Pixels) -> Prediction[NDArray[np.float32]]:
        found = np.clip((image.astype(np.float32).mean(axis=-1) - 127.5) / 127.5, 0, 1)[None, None]
        plain: Prediction[NDArray[np.float32]] = Prediction(found.max(axis=(1, 2, 3)), found)
        return judged(plain, self.calibration)


def grey_image(height: int = 48, width: int = 64, *, spot: bool = False, seed: int = 0) -> Pixels:
    """uint8 (height, width, 3): grey with a little noise; with ``spot`` a white one, a defect to :class:`BrightSpots`."""
    draw = np.random.default_rng(seed)
    image = draw.integers(110, 140, (height, width, 3), dtype=np.uint8)
    if spot:
        image[height // 4 : height // 2, width // 4 : width // 2] = 255
    return image


def disc_image(seed: int, *, defect: bool = False, bright: float = 1.0, size: tuple[int, int] = (640, 480)) -> Pixels:
    """uint8 (height, width, 3), of a ``size`` (width, height): a part for real detectors. It is a turned disc on a dark ground,
    not always in the same place nor in quite the same light, ``bright`` times as bright; a defect is a scratch on it."""
    from PIL import Image, ImageDraw

    draw, (width, height) = np.random.default_rng(seed), size
    y, x = np.mgrid[:height, :width]
    centre, radius = np.array(size) / 2 + draw.normal(0, 3, 2), 0.38 * min(size)
    distance = np.hypot(x - centre[0], y - centre[1])
    disc = 150 + 12 * np.sin(distance / 6) + draw.normal(0, 5, (height, width))
    values = bright * draw.normal(1, 0.01) * np.where(distance < radius, disc, draw.normal(60, 4, (height, width)))
    image = Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if defect:
        start = centre + radius * draw.uniform([-0.5, -0.5], [0.0, 0.5])
        end = start + radius * draw.uniform([0.35, -0.2], [0.55, 0.2])
        ImageDraw.Draw(image).line([*start, *end], fill=(245, 245, 240), width=max(3, round(radius / 24)))
    return np.array(image)


def as_file(image: Pixels, kind: str = "png", **options: Any) -> bytes:
    """The bytes of an image file of it; ``options``: those of Pillow's ``save`` for this kind."""
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


@dataclass(frozen=True)
class RunningService:
    """What :func:`running_service` gives."""

    url: str
    service: Service
    store: Store


@contextmanager
def prepared_service(
    folder: Path,
    products: Mapping[str, str | Path] | None = None,
    *,
    options: ServiceOptions | None = None,
    quota: int = 10 << 30,
) -> Iterator[Service]:
    """A started service with a new store in a folder.

    Args:
        products: name -> a run's folder or an exported file; None: ``bolt``, judged by :class:`BrightSpots`.
        quota: bytes that kept images may take.
    """
    options = options or ServiceOptions()
    if products is None:
        products = {"bolt": folder / "bright-spots"}
        if options.opener is None:
            options = replace(options, opener=lambda path: BrightSpots())
    store = Store.open(None, folder, quota)
    try:
        with Service(store, options) as service:
            for name, path in products.items():
                service.add_version(name, path, who="test", activate=True)
            yield service
    finally:
        store.close()


@contextmanager
def running_service(
    folder: Path,
    products: Mapping[str, str | Path] | None = None,
    *,
    options: ServiceOptions | None = None,
    quota: int = 10 << 30,
    **app: Any,
) -> Iterator[RunningService]:
    """The same on a free port of this machine, in a thread; ``app``: arguments of ``create_app``."""
    from anomaly_serve.app import create_app
    from anomaly_serve.server import listening, server_for

    with prepared_service(folder, products, options=options, quota=quota) as service, listening("127.0.0.1", 0) as door:
        server = server_for(create_app(service, **app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise RuntimeError("the server did not start")
                time.sleep(0.005)
            yield RunningService(f"http://127.0.0.1:{door.getsockname()[1]}", service, service.store)
        finally:
            server.should_exit = True
            thread.join(20)
