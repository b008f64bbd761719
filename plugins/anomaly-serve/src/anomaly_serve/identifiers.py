"""ULIDs: 26 characters that sort by time, and by order within a process."""

from __future__ import annotations

import os
import time
from threading import Lock

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
_LOCK = Lock()
_last = 0


def new_id(at: float | None = None) -> str:
    """A new ULID; ``at``: seconds since 1970. Source: https://github.com/ulid/spec, which is monotonic as this is."""
    global _last
    number = int(1000 * (time.time() if at is None else at)) << 80 | int.from_bytes(os.urandom(10), "big")
    with _LOCK:
        _last = number = max(number, _last + 1)
    return "".join(_LETTERS[number >> shift & 31] for shift in range(125, -1, -5))
