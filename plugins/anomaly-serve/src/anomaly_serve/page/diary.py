"""What people changed, as sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anomaly_serve.page.render import figure
from anomaly_serve.records import Change

_MARKS = {"confirmed": "confirmed", "fine": "said to be fine", "missed": "said to be missed"}


def entry(change: Change) -> dict[str, Any]:
    """``words`` of a change, ``why`` it was made as far as that is known, and the ``id`` of the verdict that it is about."""
    facts, words = change.facts, _SENTENCES.get(change.action)
    try:
        text = words(facts) if words is not None else _plain(change.action, facts)
    except (KeyError, IndexError, TypeError, ValueError):  # facts of another version of this program
        text = _plain(change.action, facts)
    return {"words": text, "why": str(facts.get("why") or facts.get("note") or ""), "id": facts.get("id")}


def _plain(action: str, facts: dict[str, Any]) -> str:
    told = ", ".join(
        f"{name} {value}" for name, value in facts.items() if name not in ("why", "note", "id") and value is not None
    )
    return f"{action[:1].upper()}{action[1:]}{': ' if told else ''}{told}"


def _activated(facts: dict[str, Any]) -> str:
    before = f" instead of version {facts['from']}" if facts.get("from") is not None else ""
    return f"Version {facts['version']} judges{before}" if facts["version"] is not None else f"No version judges{before}"


def _settings(facts: dict[str, Any]) -> str:
    before, after = facts["threshold"]
    parts = [f"threshold {figure(before)} → {figure(after)}"] if before != after else []
    small, large = facts.get("least_area", (None, None))
    if small != large:
        own = "the detector's own"
        parts.append(f"least area {own if small is None else figure(small)} → {own if large is None else figure(large)}")
    return f"Settings {facts['number']} of version {facts['version']}: {', '.join(parts) or 'another calibration'}"


def _marked(facts: dict[str, Any]) -> str:
    if facts.get("to") is None:
        return f"A verdict is no longer {_MARKS[facts['from']]}"
    return f"A verdict was {_MARKS[facts['to']]}"


def _added(facts: dict[str, Any]) -> str:
    parent = f", taught on from version {facts['parent']}" if facts.get("parent") is not None else ""
    return f"Version {facts['version']} was added{parent}"


_SENTENCES: dict[str, Callable[[dict[str, Any]], str]] = {
    "add product": lambda facts: "The product was added",
    "add version": _added,
    "remove files": lambda facts: f"The files of version {facts['version']} were removed",
    "activate": _activated,
    "settings": _settings,
    "mark": _marked,
    "acknowledge": lambda facts: f"An alarm was acknowledged: {facts.get('text', facts['alarm'])}",
}
