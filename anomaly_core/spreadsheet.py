"""Text in CSV files that a spreadsheet would take for a formula, made harmless, and back again."""

from __future__ import annotations

from typing import Any

_DANGEROUS = ("=", "+", "-", "@", "\t", "\r")
_MARK = "'"


def guarded(value: Any) -> Any:
    """A cell as it may stand in a CSV file: text that would start a formula gets an apostrophe before it.

    File, category and defect names are a stranger's: ``=HYPERLINK(...)`` is a file name too. Numbers stay as they are. Text
    that starts with apostrophes and then such a character gets one more, so that :func:`plain` loses nothing.
    """
    if not isinstance(value, str) or not value.lstrip(_MARK).startswith(_DANGEROUS):
        return value
    try:
        float(value)
    except ValueError:
        return _MARK + value
    return value


def plain(text: str) -> str:
    """The text that :func:`guarded` was given."""
    return text[1:] if text.startswith(_MARK) and text.lstrip(_MARK).startswith(_DANGEROUS) else text
