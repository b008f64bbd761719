"""Bodies of requests: counted as they come, and not waited for for ever."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from anomaly_serve.faults import TooLarge, TooSlow

PATIENCE = 30.0  # seconds that a body may take


async def body_of(request: Request, most: int, patience: float = PATIENCE) -> bytes:
    """All of a body.

    Raises:
        TooLarge: more bytes than ``most`` are announced, or come.
        TooSlow: it takes longer than ``patience``, in seconds.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > most:
        raise _too_large(most)
    try:
        return await asyncio.wait_for(_read(request, most), patience)
    except (asyncio.TimeoutError, ClientDisconnect):
        raise TooSlow(f"the body did not come whole within {patience:g} s. Send it again, or look at the network.") from None


async def _read(request: Request, most: int) -> bytes:
    parts, count = [], 0
    async for part in request.stream():
        count += len(part)
        if count > most:
            raise _too_large(most)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(most: int) -> TooLarge:
    return TooLarge(
        f"the body has more than the {most:,} bytes that this service takes. Send a smaller image, or start the service with a "
        "greater --max-bytes."
    )
