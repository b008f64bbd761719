"""Safe CSV files: no text that a spreadsheet would read as a formula, no line break that splits a row."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Any, TextIO

_DANGEROUS = ("=", "+", "-", "@", "\t", "\r")
_MARK = "'"


class SafeWriter:
    """Writes rows of CSV to a text file, with :func:`guarded` cells."""

    def __init__(self, file: TextIO) -> None:
        self._plain = csv.writer(file, lineterminator="\n")
        self._quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def writerow(self, cells: Iterable[Any]) -> None:
        """Write one row."""
        row = [guarded(cell) for cell in cells]
        # Python's writer does not quote a lone carriage return, which readers treat as the end of the row.
        bare = any(isinstance(cell, str) and "\r" in cell for cell in row)
        (self._quoted if bare else self._plain).writerow(row)


def guarded(value: Any) -> Any:
    """A cell that is safe in a CSV file: text that would start a formula gets a leading apostrophe; numbers do not.

    ``=HYPERLINK(...)`` is a valid file name. Text that starts with apostrophes and then such a character gets one more.
    """
    if not isinstance(value, str) or not value.lstrip(_MARK).startswith(_DANGEROUS):
        return value
    try:
        float(value)
    except ValueError:
        return _MARK + value
    return value


def plain(text: str) -> str:
    """The original text of a :func:`guarded` cell."""
    return text[1:] if text.startswith(_MARK) and text.lstrip(_MARK).startswith(_DANGEROUS) else text
