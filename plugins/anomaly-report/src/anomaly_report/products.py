"""Products of one name whose images lie in different folders: the leaderboard shows them apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PureWindowsPath

from anomaly_report.runs import RunRow


def told_apart(rows: Iterable[RunRow]) -> list[RunRow]:
    """The rows; a category that lies in several places gets the end of its path, as far as it differs."""
    rows = list(rows)
    sources: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        for category in row.by_category:
            sources[row.dataset, category].add(row.source)
    told = []
    for row in rows:
        others = set().union(*(sources[row.dataset, category] for category in row.by_category)) - {""}
        told.append(row if len(others) < 2 or not row.source else replace(row, place=f" ({_ending(row.source, others)})"))
    return told


def _ending(source: str, others: set[str]) -> str:
    """The last folders of a path, as many as no other ends with."""
    parts = {other: PureWindowsPath(other).parts for other in others}  # of both systems' separators
    own = parts[source]
    count = next((n for n in range(1, len(own)) if sum(p[-n:] == own[-n:] for p in parts.values()) == 1), len(own))
    return "/".join(part.strip("\\/") for part in own[-count:])
