"""Charts as plain numbers for templates to draw in SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anomaly_serve.page.render import whole

_HEIGHT = 60.0
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def days_chart(days: Sequence[Any]) -> dict[str, Any]:
    """Images, and alarms in 1,000 of them, of each day: heights of bars, and the words of each day.

    Args:
        days: with ``day``, ``images``, ``alarms``, oldest first.
    """
    most = max((one.images for one in days), default=0)
    rates = [1000 * one.alarms / one.images if one.images else 0.0 for one in days]
    highest = max(rates, default=0.0)
    bars = []
    for number, (one, rate) in enumerate(zip(days, rates, strict=True)):
        name = f"{one.day.day} {_MONTHS[one.day.month - 1]}"
        facts = {"x": 20 * number + 2, "name": name, "images": one.images, "alarms": one.alarms, "rate": f"{rate:.3g}"}
        facts["words"] = f"{name}: {whole(one.images)} images, {whole(one.alarms)} alarms, {rate:.3g} in 1,000"
        facts["tall"] = _tall(one.images, most)
        facts["high"] = _tall(rate, highest)
        bars.append(facts)
    return {"bars": bars, "most": whole(most), "highest": f"{highest:.3g}", "width": 20 * len(bars), "height": _HEIGHT}


def _tall(value: float, most: float) -> float:
    return round(max(1.5, _HEIGHT * value / most), 2) if value and most else 0.0
