"""Refused: a request that the protocol's form of an error answers, and the limits that it names."""

from __future__ import annotations

from anomaly_serve.faults import ServiceError

MOST_JSON = 16 << 20  # bytes of JSON; as bytes a tensor takes a quarter of the room and a hundredth of the time


class Refused(ServiceError):
    """A request that cannot be answered, with the status of HTTP."""

    code = "refused"

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
