"""What ``anomaly serve`` is given, brought into the store: products, and versions that are new."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_core import AnomalyError, ConfigError, RunError, RunFolder, expanded
from anomaly_serve.products import NAME, require_name

if TYPE_CHECKING:
    from anomaly_serve.service import Service

_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


def named(given: str) -> tuple[str, Path]:
    """(product, absolute path) of ``NAME=PATH`` or of a path alone, by the run's category or the file's name.

    Raises:
        ConfigError: the name cannot be a product's.
        RunError: there is nothing at the path.
    """
    name, separator, rest = given.partition("=")
    if separator and not Path(given).exists() and (NAME.fullmatch(name) or expanded(rest).exists()):
        return require_name(name), _found(rest)
    path = _found(given)
    own = _own_name(path)
    if not NAME.fullmatch(own):
        raise ConfigError(f"{own!r}, after {given!r}, cannot be a product's name. Give one: NAME={given}.")
    return require_name(own), path


def bring(service: Service, given: list[tuple[str, Path]], who: str) -> None:
    """Add what the store does not know yet as new versions, and have them judge; what it knows changes nothing."""
    for name, path in given:
        known = service.store.versions(name) if name in service.store.products() else []
        if any(Path(version.path) == path and not version.removal for version in known):
            continue
        service.add_version(name, path, who=who, note="given to anomaly serve", activate=True)


def size_of(text: str) -> int:
    """Bytes, of a number with or without KiB, MiB, GiB or TiB; ConfigError if it is none."""
    match = _BYTES.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is no size. Give a number and KiB, MiB, GiB or TiB, such as 10GiB.")
    return int(float(match[1]) * 1024 ** ("KMGT".index(match[2].upper()) + 1 if match[2] else 0))


def _found(text: str) -> Path:
    path = expanded(text)
    if not path.exists():
        raise RunError(f"there is nothing at {text!r}. Give a run's folder, or a file that `anomaly export` wrote.")
    return path.absolute()  # not resolved: a link to the run of today is that of tomorrow


def _own_name(path: Path) -> str:
    """The category of the run, or of the run that a file lies in; else what the file or the folder is called."""
    try:
        category = RunFolder.open(path.parent if path.is_file() else path).manifest().get("category")
    except AnomalyError:
        category = None  # no run; of one that is damaged, opening it says more
    if isinstance(category, str) and category:
        return category
    return path.stem if path.is_file() else path.name
