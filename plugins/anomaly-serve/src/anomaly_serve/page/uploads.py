"""Files of a multipart body, one after the other, each written to disk as it comes: none is held in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Literal, Protocol

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request

from anomaly_serve.teaching.members import Refused, Taken

PATIENCE = 60.0  # seconds in which something of the body must come
MOST_FILES = 2_000  # of one request
_PIECE = 1 << 20  # bytes that are written at once
Event = tuple[Literal["begin", "data", "end"], bytes]


class File(Protocol):
    """Where the bytes of one file go."""

    def write(self, chunk: bytes) -> bool: ...
    def finish(self) -> Taken | Refused: ...
    def close(self) -> None: ...


async def received(request: Request, begin: Callable[[str], File]) -> list[Taken | Refused]:
    """What came of each file of a multipart body, in order.

    Args:
        begin: makes the place of a file with this name.

    Raises:
        HTTPException: the body is no multipart body, or does not come.
    """
    results: list[Taken | Refused] = []
    file: File | None = None
    held = bytearray()
    try:
        async for what, value in _events(request):
            if what == "begin":
                if len(results) >= MOST_FILES:
                    raise HTTPException(413, f"One request may bring {MOST_FILES} files. Send the others in another one.")
                file = await run_in_threadpool(begin, value.decode("utf-8", "replace"))
            elif file is not None and what == "data":
                held += value
                if len(held) >= _PIECE:
                    await run_in_threadpool(file.write, bytes(held))
                    held.clear()
            elif file is not None:
                await run_in_threadpool(file.write, bytes(held))
                held.clear()
                results.append(await run_in_threadpool(file.finish))
                file = None
        if file is not None:
            raise HTTPException(400, "The body ended in the middle of a file.")
    finally:
        if file is not None:
            await run_in_threadpool(file.close)
    return results


async def _events(request: Request) -> AsyncIterator[Event]:
    """The beginnings, pieces and ends of the parts that are files; the name comes with the beginning."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise HTTPException(415, "Send files as multipart/form-data.")
    parser = _Parser(options[b"boundary"])
    stream = request.stream()
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream, b""), PATIENCE)
            for event in parser.fed(chunk):
                yield event
        except MultipartParseError as error:
            raise HTTPException(400, "The body is damaged: it is no multipart body.") from error
        except asyncio.TimeoutError as error:
            raise HTTPException(408, f"Nothing came for {PATIENCE:.0f} seconds.") from error
        if not chunk:
            return


class _Parser:
    """Turns the bytes of the body into events."""

    def __init__(self, boundary: bytes) -> None:
        self._events: deque[Event] = deque()
        self._name = self._value = b""
        self._is_file = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_part_data": self._data,
                "on_part_end": self._end,
            },
        )

    def fed(self, chunk: bytes) -> list[Event]:
        """The events of the next bytes; of none, the end."""
        if chunk:
            self._parser.write(chunk)
        else:
            self._parser.finalize()
        events, self._events = list(self._events), deque()
        return events

    def _begin(self) -> None:
        self._is_file, self._name, self._value = False, b"", b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            name = parse_options_header(self._value)[1].get(b"filename")
            if name:  # a form's file input that was left empty has an empty name
                self._is_file = True
                self._events.append(("begin", name))
        self._name, self._value = b"", b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._events.append(("data", data[start:end]))

    def _end(self) -> None:
        if self._is_file:
            self._events.append(("end", b""))
