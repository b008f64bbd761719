"""Reading a list that somebody wrote: CSV with any separator, JSON, or JSON Lines; UTF-8 or UTF-16."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from anomaly_core import DataError, marked_encoding, read_untrusted

Rows = list[tuple[int, dict[str, str]]]  # each with the number of its line, or of the JSON object


def read_table(path: Path, wanted: str) -> Rows:
    """The rows of a list with the names of its columns in lower case; cells are text without blanks around it.

    Args:
        wanted: a column that there must be; it tells the separator.

    Raises:
        DataError: the file cannot be read, is no such list, or lacks that column.
    """
    try:
        text = _decoded(read_untrusted(path))
        rows = _json_rows(text) if text.lstrip()[:1] in ("[", "{") else _csv_rows(text, wanted)
        for number, row in rows:
            if "\0" in "".join(row.values()):
                raise ValueError(f"row {number} holds a NUL")
    except FileNotFoundError as error:
        raise DataError(f"there is no list {str(path)!r}. Check the path.") from error
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).rstrip(".")
        raise DataError(
            f"cannot read the list {str(path)!r}: {reason}. Correct it, or save it again as CSV (UTF-8)."
        ) from error
    if not rows:
        raise DataError(f"the list {str(path)!r} holds no row. Give it a line for each image below the names of the columns.")
    return rows


def _decoded(content: bytes) -> str:
    try:
        return content.decode(marked_encoding(content) or "utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is neither UTF-8 nor UTF-16") from None


def _csv_rows(text: str, wanted: str) -> Rows:
    first = next((line for line in text.splitlines() if line.strip()), "")
    headers = [_cells(next(csv.reader([first], delimiter=separator, skipinitialspace=True))) for separator in ",;\t|"]
    header = next((names for names in headers if wanted in names), None)
    if not first:
        raise ValueError("it is empty")
    if header is None:
        raise ValueError(f"its first line must name the columns, of which one is {wanted!r}, and is {first[:200]!r}")
    separator = ",;\t|"[headers.index(header)]
    text = re.sub(rf'" +(?={re.escape(separator)}|\r?\n|$)', '"', text)  # blanks behind quotes; those before are known to csv
    rows: Rows = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    for cells in reader:
        if any(cell.strip() for cell in cells):
            if len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
                raise ValueError(f"line {reader.line_num} has {len(cells)} cells for {len(header)} columns")
            values = [*map(str.strip, cells), *[""] * len(header)]
            rows.append((reader.line_num, dict(zip(header, values, strict=False))))
    return rows[1:]


def _cells(names: Sequence[str]) -> list[str]:
    names = [name.strip().lower() for name in names]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice:
        raise ValueError(f"two columns are called {twice!r}")
    return names


def _json_rows(text: str) -> Rows:
    try:
        values = json.loads(text, parse_constant=_refused)
    except json.JSONDecodeError:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        values = [_of_line(number, line) for number, line in lines]
        return [(number, _row(number, value)) for (number, _), value in zip(lines, values, strict=True)]
    items = values if isinstance(values, list) else [values]
    return [(number, _row(number, value)) for number, value in enumerate(items, 1)]


def _of_line(number: int, line: str) -> Any:
    try:
        return json.loads(line, parse_constant=_refused)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} is no JSON object: {error.msg}") from None


def _row(number: int, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"row {number} is no JSON object with the names of the columns")
    row = {str(name).strip().lower(): _text(cell) for name, cell in value.items()}
    odd = next((name for name, cell in row.items() if cell is None), None)
    if odd is not None:
        raise ValueError(f"{odd!r} of row {number} is neither text nor a number")
    return {name: cell for name, cell in row.items() if cell is not None}


def _text(cell: Any) -> str | None:
    if cell is None:
        return ""
    if isinstance(cell, bool):  # is_anomalous
        return str(int(cell))
    return str(cell).strip() if isinstance(cell, str | int | float) else None


def _refused(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no number in JSON")
