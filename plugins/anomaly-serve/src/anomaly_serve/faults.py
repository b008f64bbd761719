"""What the service refuses, each with the status that HTTP has for it."""

from __future__ import annotations

from anomaly_core import AnomalyError
from anomaly_serve.records import Version


class ServiceError(AnomalyError):
    """A request that gets no verdict.

    Attributes:
        status: of HTTP.
        code: one word for programs, which stays the same when the message is reworded.
        retry_after: seconds after which it may succeed; None where repeating it is of no use.
    """

    status = 400
    code = "bad_request"

    def __init__(self, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unauthorised(ServiceError):
    """No token, or one that is not known."""

    status = 401
    code = "unauthorised"


class Forbidden(ServiceError):
    """A request that may come from a web page of somebody else."""

    status = 403
    code = "forbidden"


class NotFound(ServiceError):
    """A product, version or verdict that does not exist."""

    status = 404
    code = "not_found"


class UnknownProduct(NotFound):
    """No such product."""

    code = "unknown_product"


class Conflict(ServiceError):
    """A change that what is in use forbids now."""

    status = 409
    code = "conflict"


class FilesRemoved(ServiceError):
    """A version whose files the service has removed is to judge, to be tried or to be taught on from."""

    status = 410
    code = "files_removed"

    def __init__(self, version: Version) -> None:
        super().__init__(
            f"version {version.number} of {version.product!r} cannot be used any more: {version.removal}. Use another version; "
            f"or bring its run back from a backup, as a new version that judges: anomaly serve {version.product}=RUN."
        )


class TooSlow(ServiceError):
    """A body that did not come in time."""

    status = 408
    code = "too_slow"


class TooLarge(ServiceError):
    """More bytes or pixels than the service takes."""

    status = 413
    code = "too_large"


class WrongMedia(ServiceError):
    """A body of a type that the service does not read."""

    status = 415
    code = "unsupported_media_type"


class Unusable(ServiceError):
    """What came is understood, and cannot be used: no image, a value out of range."""

    status = 422
    code = "unusable"


class Busy(ServiceError):
    """The queue is full."""

    status = 429
    code = "busy"


class NotReady(ServiceError):
    """The service ends, or the version that judges cannot be loaded."""

    status = 503
    code = "not_ready"


class NoVersion(NotReady):
    """The product has no version that judges."""

    status = 409
    code = "no_version"
