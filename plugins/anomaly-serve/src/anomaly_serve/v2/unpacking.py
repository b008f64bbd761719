"""Bodies that were compressed, unpacked no further than is allowed."""

from __future__ import annotations

import zlib

from anomaly_serve.v2.refused import Refused

_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """A body that was compressed as its ``Content-Encoding`` says.

    Raises:
        Refused: it is damaged, or is longer than ``most``, which is found when it is; or the encoding is another.
    """
    if encoding.strip().lower() in ("", "identity"):
        return body
    window = _WINDOWS.get(encoding.strip().lower())
    if window is None:
        raise Refused(f"Content-Encoding is {encoding[:40]!r}: gzip and deflate are read, or send the body as it is.", 415)
    stream = zlib.decompressobj(window)
    try:
        content = stream.decompress(body, most + 1)
    except zlib.error:
        raise Refused(f"the body is no {encoding.strip().lower()}.") from None
    if len(content) > most:
        raise _too_long(most)
    if not stream.eof or stream.unused_data:
        raise Refused(f"the body is cut off, or goes on behind the end of its {encoding.strip().lower()}.")
    return content


def _too_long(most: int) -> Refused:
    return Refused(f"the request has more than {most:,} bytes, and this service takes no more: send fewer images in each.", 413)
