"""Installed distributions as their metadata describes them: one that is damaged says so, and costs the others nothing."""

from __future__ import annotations

import email
import os
import re
from collections.abc import Iterator
from email.message import Message
from functools import cached_property
from importlib import metadata
from pathlib import Path

from anomaly_core.untrusted import read_untrusted

CORE, VERSION = "anomaly-core", "0.1.0"  # the running core's; its metadata may be missing, stale or damaged
PREFIX = "anomaly_core."  # of the groups of entry points
LARGEST = 1 << 24  # bytes of a file of metadata; real ones have a thousandth of that
UNREADABLE = "\ufffd"  # stands for bytes that are not UTF-8, and for control characters


def normalise(name: str) -> str:
    """A distribution's name, normalised as in PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


class Installed:
    """An installed distribution. Nothing here raises an error: what cannot be read is empty, and named in ``faults``."""

    def __init__(self, found: metadata.Distribution) -> None:
        path = getattr(found, "_path", None)  # the standard library has no public name for it
        self._found, self._path = found, path if isinstance(path, Path) else None  # None inside a zip file
        self.faults: list[str] = []
        self.folder = str(Path(str(found.locate_file(""))).resolve())
        self.place = str(path or self.folder)
        names = ("",) if os.path.isfile(self.place) else ("METADATA", "PKG-INFO")  # noqa: PTH113 - raises nothing; an .egg-info may be a file
        self._headers = next((text for name in names if (text := self.text(name))), "")
        # Parsing all of the metadata would take longer than the rest of discovery.
        match = re.search(r"^Name:[ \t]*(\S+)", self._headers, re.MULTILINE)
        self.name = _printable(match[1] if match else Path(self.place).stem.lstrip("~").partition("-")[0].replace("_", "-"))

    @cached_property
    def facts(self) -> Message:
        """The fields of METADATA."""
        return email.message_from_string(self._headers.partition("\n\n")[0])

    @property
    def version(self) -> str:
        return _printable(str(self.facts["Version"] or "unknown").strip())

    @cached_property
    def points(self) -> list[tuple[str, str, str]]:
        """(group, name, value) of its entry points for the core; the value is empty for a line that has none."""
        points, group = [], ""
        for line in map(str.strip, self.text("entry_points.txt").split("\n")):
            if line.startswith("["):
                group = line.strip("[]").strip()
            elif line and line[0] not in "#;":
                name, equals, value = map(str.strip, line.partition("="))
                if group.startswith(PREFIX):
                    points.append((group, _printable(name), _printable(value)))
                elif not equals:
                    self.faults.append(f"its entry_points.txt has the line {_printable(line)!r}, which says nothing")
        return points

    def text(self, name: str) -> str:
        """One of its files; empty if it has none."""
        try:
            if self._path is None:
                return self._found.read_text(name) or ""
            data = read_untrusted(self._path / name, LARGEST)
            return data.decode().replace("\r\n", "\n")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except UnicodeDecodeError as error:
            self.faults.append(f"its {name} is not valid UTF-8 (byte {error.start})")
            return data.decode(errors="replace")
        except Exception as error:  # a zip file, or somebody else's kind of distribution, may fail in any way
            self.faults.append(f"its {name} cannot be read: {error}")
            return ""


def distributions(name: str = "") -> Iterator[Installed]:
    """Every installed distribution, or those of one name, in the order of ``sys.path``."""
    # Not metadata.distributions, from which a command hides what is damaged.
    yield from map(Installed, metadata.Distribution.discover(name=name) if name else metadata.Distribution.discover())


def one_of_each() -> dict[str, Installed]:
    """Normalised name -> the distribution that counts: the first on ``sys.path``, whose modules Python imports.

    If it hides what another provides, that is one of its faults; in one folder, where an update broke off, it gives way.
    """
    kept: dict[str, Installed] = {}
    for one in distributions():
        first = kept.setdefault(normalise(one.name), one)
        if first.place != one.place and (hidden := {name for _, name, _ in one.points} - {name for _, name, _ in first.points}):
            if Path(first.place).parent == Path(one.place).parent:
                kept[normalise(one.name)] = one
                one.faults.append(f"{first.place!r} was left behind beside it")
            else:
                first.faults.append(f"it hides {', '.join(sorted(hidden))} of {one.name} {one.version} in {one.folder!r}")
    return kept


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else UNREADABLE for letter in text)
