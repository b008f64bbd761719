"""Safe text: no formula in a CSV file, no line break that splits a row, no character that commands a terminal."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from typing import Any, TextIO

_DANGEROUS = ("=", "+", "-", "@", "\t", "\r")
_MARK = "'"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CODED, _CODE = re.compile(r"\$'(.*)'", re.DOTALL), re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|(.))")


class SafeWriter:
    """Writes rows of CSV to a text file, with :func:`guarded` cells."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file, lineterminator="\n")

    def writerow(self, cells: Iterable[Any]) -> None:
        """Write one row."""
        self._writer.writerow([guarded(cell) for cell in cells])


def printable(text: str) -> str:
    """Text without control characters, such as escape sequences of a terminal: shown as ``\\x1b``; line breaks stay."""
    return "\n".join(_CONTROL.sub(_code, line) for line in text.split("\n"))


def _code(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}" if match[0] < "\x80" else f"\\u{ord(match[0]):04x}"


def guarded(value: Any) -> Any:
    """A cell that is safe in a CSV file: text that would start a formula gets a leading apostrophe; numbers do not.

    ``=HYPERLINK(...)`` is a valid file name. Text that starts with apostrophes and then such a character gets one more. Text
    with control characters, line breaks too, is written as shells do: ``$'a\\x1b[2J.png'``.
    """
    if not isinstance(value, str):
        return value
    if _CONTROL.search(value) or _CODED.fullmatch(value):
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"$'{_CONTROL.sub(_code, quoted)}'"
    if not value.lstrip(_MARK).startswith(_DANGEROUS):
        return value
    try:
        float(value)
    except ValueError:
        return _MARK + value
    return value


def plain(text: str) -> str:
    """The original text of a :func:`guarded` cell."""
    if coded := _CODED.fullmatch(text):
        return _CODE.sub(lambda m: m[3] or chr(int(m[1] or m[2], 16)), coded[1])
    return text[1:] if text.startswith(_MARK) and text.lstrip(_MARK).startswith(_DANGEROUS) else text
