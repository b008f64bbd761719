"""What every door does with an image: ask, wait while the service is busy, and tell whose fault a failure is."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Event
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from anomaly_core import DataError
from anomaly_serve.records import Judgement

BUSY = 0.5  # seconds to wait where the service does not say how long
_IMAGE_FAULTS = {400, 413, 415, 422}  # statuses of what is wrong with an image, not with the service
Fault = Literal["busy", "image", "service"]


class Answer(Protocol):
    """What a door needs of :class:`anomaly_serve.service.Scored`."""

    @property
    def judgement(self) -> Judgement: ...


class Service(Protocol):
    """What a door needs of :class:`anomaly_serve.service.Service`."""

    @property
    def products(self) -> Any: ...

    def score(self, product: str, image: bytes | NDArray[np.uint8], *, name: str = "", source: str = "http") -> Future[Any]: ...


class Door(Protocol):
    """A way for images to come in, or for verdicts to go out."""

    def start(self) -> None:
        """Begin, in a thread of its own."""

    def stop(self) -> None:
        """Take nothing more, and finish what was begun."""


def fault_of(error: BaseException) -> Fault:
    """Whose fault an error is: of an image that will never be judged, of the service, or nobody's, as it is only busy."""
    if getattr(error, "retry_after", None) is not None:
        return "busy"
    if isinstance(error, DataError) or getattr(error, "status", None) in _IMAGE_FAULTS:
        return "image"
    return "service"


def ask(service: Service, product: str, image: bytes | NDArray[np.uint8], name: str, source: str) -> Future[Any]:
    """:meth:`Service.score`, whose errors are all in the future."""
    try:
        return service.score(product, image, name=name, source=source)
    except Exception as error:
        failed: Future[Any] = Future()
        failed.set_exception(error)
        return failed


def pause(error: BaseException, stopping: Event) -> None:
    """Wait for as long as a busy service asks for, at most ten seconds, or until the end."""
    stopping.wait(min(float(getattr(error, "retry_after", None) or BUSY), 10.0))


def not_ready(service: Service, product: str, *, threshold: bool = False) -> str:
    """Why a product cannot judge at present, or nothing."""
    known = service.products.get(product)
    if known is None:
        return f"there is no product {product!r} any more"
    if known.active is None:
        return f"{product!r} has no version that judges. Put one to use on the page, or teach one"
    if threshold and known.active.settings.calibration.threshold is None:
        return f"{product!r} has no threshold, and so no verdict. Set one on the page"
    return ""
