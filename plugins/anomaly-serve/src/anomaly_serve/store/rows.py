"""A judgement as a row of its table, and back."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from sqlalchemy import Row

from anomaly_core import AnomalyError, DataError, RunError, printable
from anomaly_serve.records import Judgement

_ID = re.compile(r"[0-9A-Za-z]{26}")  # it becomes part of a path
_SUFFIX = re.compile(r"\.[a-z0-9]{1,7}")
_LONGEST = 500  # letters of what a sender calls an image


def to_row(judgement: Judgement, suffix: str | None) -> dict[str, Any]:
    """The row of a judgement whose image, if it has one, is not kept yet; DataError if the judgement cannot be kept."""
    numbers = (judgement.time, judgement.score, judgement.p_value, judgement.threshold)
    if not all(value is None or math.isfinite(value) for value in numbers):
        raise DataError(f"the verdict {judgement.id} holds a number that is NaN or infinite, and is not kept: {numbers}.")
    if not _ID.fullmatch(judgement.id):
        raise DataError(f"the verdict's id {judgement.id!r} is not 26 letters and digits.")
    if suffix is not None and not _SUFFIX.fullmatch(suffix):
        raise DataError(f"the suffix {suffix!r} of an image: expected one such as '.png'.")
    return {
        "id": judgement.id,
        "product": judgement.product,
        "version": judgement.version,
        "settings": judgement.settings,
        "time": judgement.time,
        "source": judgement.source,
        "name": plain_text(judgement.name)[:_LONGEST],
        "score": judgement.score,
        "p_value": judgement.p_value,
        "threshold": judgement.threshold,
        "is_anomalous": judgement.is_anomalous,
        "height": judgement.size[0],
        "width": judgement.size[1],
        "mark": judgement.mark,
        "regions": None if judgement.regions is None else to_json(judgement.regions),
        "times": to_json(judgement.times),
        "facts": to_json(judgement.facts),
        "suffix": suffix,
        "image_size": 0,
        "image_crc": None,
        "image_gone": None,
        "rank": rank(judgement.is_anomalous, judgement.mark),
        "place": "",
    }


def to_judgement(row: Row[Any]) -> Judgement:
    """The judgement in a row of its table."""
    return Judgement(
        id=row.id,
        product=row.product,
        version=row.version,
        time=row.time,
        source=row.source,
        name=row.name,
        score=row.score,
        p_value=row.p_value,
        threshold=row.threshold,
        is_anomalous=row.is_anomalous,
        size=(row.height, row.width),
        regions=None if row.regions is None else tuple(from_json(row.regions)),
        settings=row.settings,
        times=from_json(row.times),
        facts=from_json(row.facts),
        mark=row.mark,
    )


def rank(is_anomalous: bool | None, mark: str | None) -> int:
    """How long an image is kept: 0 goes first, unmarked normals; then 1, normals that a person looked at; 2, alarms that a
    person has confirmed or called false; last 3, alarms that nobody has looked at, and missed defects."""
    if mark == "missed":
        return 3
    if is_anomalous:
        return 3 if mark is None else 2
    return 0 if mark is None else 1


def plain_text(text: str) -> str:
    """Text that every database takes: control characters and a file name's odd bytes are written out."""
    return text if text.isprintable() else printable(text.encode("utf-8", "backslashreplace").decode())


def to_json(value: Any) -> str:
    """Compact JSON; DataError for what JSON cannot hold, NaN included."""
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError, AnomalyError) as error:
        raise DataError(f"what is to be kept is no JSON: {error}.") from error


_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False)


def from_json(text: str) -> Any:
    """What :func:`to_json` wrote; RunError if the database was changed by other means."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise RunError(
            f"the history holds text that is no JSON: {error}. Restore a backup: `anomaly history restore`."
        ) from error
