"""Safe text: no formula in a CSV file, no line break that splits a row, no character that commands a terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from anomaly_core.errors import printable

_DANGEROUS = ("=", "+", "-", "@", "\t", "\r")
_MARK = "'"
_CODED, _CODE = re.compile(r"\$'(.*)'", re.DOTALL), re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|(.))")


class SafeWriter:
    """Writes rows of CSV to a text file, with :func:`guarded` cells."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file, lineterminator="\n")

    def writerow(self, cells: Iterable[Any]) -> None:
        """Write one row."""
        self._writer.writerow(map(guarded, cells))


def csv_bytes(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """A CSV file whose columns are the keys of all rows, in the order of their first appearance."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = SafeWriter(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(row.get(column, "") for column in columns)
    return text.getvalue().encode("utf-8", "surrogateescape")


def csv_rows(content: bytes) -> list[dict[str, str]]:
    """The rows of a file of :func:`csv_bytes`, as text; csv.Error if it is damaged."""
    rows = csv.DictReader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline=""))
    return [{key: plain(value) for key, value in row.items() if isinstance(value, str)} for row in rows]


def guarded(value: Any) -> Any:
    """A cell that is safe in a CSV file: text that would start a formula gets a leading apostrophe; numbers do not.

    ``=HYPERLINK(...)`` is a valid file name. Text that starts with apostrophes and then such a character gets one more. Text
    with control characters, line breaks too, is written as shells do: ``$'a\\x1b[2J.png'``.
    """
    if not isinstance(value, str):
        return value
    if printable(value) != value or _CODED.fullmatch(value):
        quoted = printable(value.replace("\\", "\\\\").replace("'", "\\'"))
        return f"$'{quoted}'"
    try:
        float(value)
    except ValueError:
        return _MARK + value if value.lstrip(_MARK).startswith(_DANGEROUS) else value
    return value


def plain(text: str) -> str:
    """The original text of a :func:`guarded` cell."""
    if coded := _CODED.fullmatch(text):
        return _CODE.sub(lambda m: m[3] or chr(int(m[1] or m[2], 16)), coded[1])
    return text[1:] if text.startswith(_MARK) and text.lstrip(_MARK).startswith(_DANGEROUS) else text
