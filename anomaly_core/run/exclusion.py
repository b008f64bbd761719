"""``data.exclude``: a list of images that are neither learnt nor tested."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from anomaly_core.base.data import BaseDataModule
from anomaly_core.errors import DataError
from anomaly_core.types import Sample
from anomaly_core.untrusted import expanded, marked_encoding, read_untrusted


def excluded(data: BaseDataModule, strict: bool = True) -> dict[str, str]:
    """The files that ``data.exclude`` names, and the line that names each; empty without it.

    The list holds a path a line, in UTF-8 or UTF-16; blank lines and those that begin with ``#`` name nothing. A relative path
    begins in the list's own folder, else in the data set's, else in the working folder: the first where it leads to a file.

    Args:
        strict: whether a line that leads to no file is an error.

    Raises:
        DataError: the list cannot be read, or such a line.
    """
    if not data.config.exclude:
        return {}
    path = expanded(data.config.exclude)
    files: dict[str, str] = {}
    try:
        content = read_untrusted(path)
        text = content.decode(marked_encoding(content) or "utf-8", "surrogateescape")
        for number, line in enumerate(text.split("\n"), 1):
            line, name = line.rstrip("\r"), line.strip()
            if not name or name.startswith("#"):
                continue
            names = (line, name, name.strip('"'))  # blanks may belong to the name; Windows copies a path with quotes
            places = [folder / one for one in names for folder in (path.parent, data.root, Path())]
            place = next((place for place in places if os.path.lexists(place)), None)
            if place is not None:
                files[_key(place)] = name
            elif strict:
                raise DataError(
                    f"line {number} of the list {str(path)!r} (data.exclude) names no file: {name!r}. Correct the path, or "
                    f"remove the line. A relative path begins in the list's folder, in {str(data.root)!r}, or where you are."
                )
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read the list {str(path)!r} of data.exclude: {error}. Give a text file with a path a line, or set "
            "data.exclude=null."
        ) from error
    return files


def without(samples: Iterable[Sample], files: Collection[str]) -> list[Sample]:
    """The samples whose images are not among the ``files``."""
    return [sample for sample in samples if not files or _key(sample.path) not in files]


def unused(samples: Iterable[Sample], files: dict[str, str]) -> list[str]:
    """The lines that name none of the samples' images."""
    used = {_key(sample.path) for sample in samples} if files else set()
    return [line for key, line in files.items() if key not in used]


def _key(path: Path) -> str:
    """One text for all names of a file."""
    return os.path.normcase(os.path.realpath(path))
