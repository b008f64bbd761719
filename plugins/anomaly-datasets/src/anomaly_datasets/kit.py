"""The category ``kit`` of the data set ``sample``: a tray of parts in which each part may be sound and the whole still wrong.

The rules of a whole kit: three long and two short screws in any order over six slots, all of brass under a red label or all of
steel under a blue one; three nuts and four washers anywhere in their own bays. Every piece of a kit with a logical fault occurs
in whole kits as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from anomaly_datasets.scenes import Floats, Scene, edge, floats, light, mix, placed, smooth_noise

# Left, right, top and bottom of the bays, in units of half a picture.
BAYS = {
    "label": (-0.83, 0.0, -0.74, -0.28),
    "nut": (0.07, 0.83, -0.74, -0.28),
    "screws": (-0.83, 0.25, -0.21, 0.74),
    "washer": (0.32, 0.83, -0.21, 0.74),
}
WHOLE = {"long": 3, "short": 2, "nut": 3, "washer": 4}
LENGTHS = {"long": 0.72, "short": 0.44}
RADIUS = 0.10  # of a nut and a washer
SLOTS = 6
FINISHES = {"brass": (0.80, 0.62, 0.30), "steel": (0.66, 0.68, 0.70)}
LABELS = {"brass": (0.72, 0.16, 0.14), "steel": (0.14, 0.26, 0.62)}  # which finish each colour announces

LOGICAL_FAULTS = ("missing", "extra", "swapped", "misplaced", "combination")
STRUCTURAL = 255  # in a mask: a scratch or a stain, as in the other categories
MISSING = {"long": 254, "short": 253, "nut": 252, "washer": 251}  # the bay in which one of these is missing
EXTRA = {"long": 250, "short": 249, "nut": 248, "washer": 247}  # all of these, of which there is one too many
FOREIGN = 246  # a part that belongs elsewhere
COMBINATION = 245  # the label and the screws, which do not belong together

Bytes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


@dataclass(frozen=True)
class Part:
    """A screw (``long``, ``short``), ``nut`` or ``washer``: its centre and its turn, and the bay in which it lies."""

    kind: str
    x: float
    y: float
    turn: float
    bay: str


@dataclass(frozen=True)
class Kit:
    """What lies in a tray: the parts, the finish of the screws, and the one that the label announces."""

    parts: tuple[Part, ...]
    finish: str
    announced: str


@dataclass(frozen=True)
class Tray:
    """An empty tray as it lies under the camera: coordinates (S, S), its picture (S, S, 3), and the light."""

    x: Floats
    y: Floats
    picture: Floats
    gain: Floats

    def box(self, bay: str, margin: float = 0.0) -> Floats:
        """Distance from a bay's border in pixels, negative inside."""
        left, right, top, bottom = BAYS[bay]
        across = np.abs(self.x - (left + right) / 2) - (right - left) / 2
        down = np.abs(self.y - (top + bottom) / 2) - (bottom - top) / 2
        return floats((np.maximum(across, down) + margin) * len(self.x) / 2)


def kit(rng: np.random.Generator, size: int) -> Scene:
    """A whole kit in its tray, which is turned a little and shifted."""
    tray, whole = _tray(rng, size), _whole(rng)
    picture = _filled(tray, whole)
    body = (np.abs(tray.x) < 0.86) & (np.abs(tray.y) < 0.78)
    return Scene(picture, tray.picture, body, None, tray.gain)


def wrong_kit(rng: np.random.Generator, size: int, kind: str) -> tuple[Floats, Floats, Bytes]:
    """(picture (S, S, 3), light, mask (S, S) of the values above) of a kit with one of the faults of :data:`LOGICAL_FAULTS`."""
    tray, whole = _tray(rng, size), _whole(rng)
    wrong, marks = WRONG[kind](rng, whole)
    mask = np.zeros((size, size), dtype=np.uint8)
    for value, place in marks:
        amount = tray.box(place, 0.01) < 0 if isinstance(place, str) else _silhouette(tray, place) < 0
        mask[amount] = value
    return _filled(tray, wrong), tray.gain, mask


def defects_config(size: int) -> list[dict[str, str | int | float | bool]]:
    """How much of each defect is enough, as MVTec LOCO AD's ``defects_config.json``: the pixels of a part, or of the label."""
    unit = (size / 2) ** 2
    areas = {"long": 0.050 * unit, "short": 0.032 * unit, "nut": 0.021 * unit, "washer": 0.025 * unit}
    entries = [("structural", STRUCTURAL, 1.0, True), ("foreign_part", FOREIGN, 1.0, True)]
    entries += [(f"missing_{kind}", value, round(areas[kind], 1), False) for kind, value in MISSING.items()]
    entries += [(f"extra_{kind}", value, round(areas[kind], 1), False) for kind, value in EXTRA.items()]
    entries += [("combination", COMBINATION, round(0.20 * unit, 1), False)]
    names = ("defect_name", "pixel_value", "saturation_threshold", "relative_saturation")
    return [dict(zip(names, entry, strict=True)) for entry in entries]


Mark = tuple[int, "str | Part"]  # a value of the mask, and the bay or the part that it covers
Fault = Callable[[np.random.Generator, Kit], tuple[Kit, list[Mark]]]


def _missing(rng: np.random.Generator, whole: Kit) -> tuple[Kit, list[Mark]]:
    gone = _any(rng, whole.parts)
    return _without(whole, gone), [(MISSING[gone.kind], gone.bay)]


def _extra(rng: np.random.Generator, whole: Kit) -> tuple[Kit, list[Mark]]:
    kind = str(rng.choice(list(WHOLE)))
    wrong, _ = _added(rng, whole, kind, "screws" if kind in LENGTHS else kind)
    return wrong, [(EXTRA[kind], part) for part in wrong.parts if part.kind == kind]


def _swapped(rng: np.random.Generator, whole: Kit) -> tuple[Kit, list[Mark]]:
    """A nut and a washer have changed places, or a screw is of the other length."""
    if rng.random() < 0.5:
        nut, washer = (_any(rng, [part for part in whole.parts if part.kind == kind]) for kind in ("nut", "washer"))
        changed = replace(nut, kind="washer"), replace(washer, kind="nut")
        marks: list[Mark] = [(MISSING["nut"], "nut"), (MISSING["washer"], "washer"), *((FOREIGN, part) for part in changed)]
        return _with(_without(whole, nut, washer), *changed), marks
    screw = _any(rng, [part for part in whole.parts if part.bay == "screws"])
    kind = "short" if screw.kind == "long" else "long"
    other = replace(screw, kind=kind, y=_height(rng, kind))
    return _with(_without(whole, screw), other), [(MISSING[screw.kind], "screws"), (FOREIGN, other)]


def _misplaced(rng: np.random.Generator, whole: Kit) -> tuple[Kit, list[Mark]]:
    """A nut or a washer lies in another bay."""
    lost = _any(rng, [part for part in whole.parts if part.bay != "screws"])
    bays = [bay for bay in ("nut", "washer", "screws") if bay != lost.bay]
    wrong, found = _added(rng, _without(whole, lost), lost.kind, str(rng.choice(bays)))
    return wrong, [(MISSING[lost.kind], lost.bay), (FOREIGN, found)]


def _combination(rng: np.random.Generator, whole: Kit) -> tuple[Kit, list[Mark]]:
    """The label announces the other finish."""
    wrong = replace(whole, announced="steel" if whole.finish == "brass" else "brass")
    return wrong, [(COMBINATION, "label"), *((COMBINATION, part) for part in whole.parts if part.bay == "screws")]


WRONG: dict[str, Fault] = {
    "missing": _missing,
    "extra": _extra,
    "swapped": _swapped,
    "misplaced": _misplaced,
    "combination": _combination,
}


def _whole(rng: np.random.Generator) -> Kit:
    finish = str(rng.choice(list(FINISHES)))
    slots = rng.permutation(SLOTS)[: WHOLE["long"] + WHOLE["short"]]
    kinds = ["long"] * WHOLE["long"] + ["short"] * WHOLE["short"]
    parts = [_screw(rng, kind, int(slot)) for kind, slot in zip(kinds, slots, strict=True)]
    for kind in ("nut", "washer"):
        parts += [Part(kind, x, y, rng.uniform(0, np.pi), kind) for x, y in _scattered(rng, kind, WHOLE[kind])]
    return Kit(tuple(parts), finish, finish)


def _screw(rng: np.random.Generator, kind: str, slot: int) -> Part:
    return Part(kind, _slot_centre(slot) + rng.uniform(-0.012, 0.012), _height(rng, kind), rng.uniform(-0.06, 0.06), "screws")


def _slot_centre(slot: int) -> float:
    left, right, *_ = BAYS["screws"]
    return left + (right - left) * (slot + 0.5) / SLOTS


def _height(rng: np.random.Generator, kind: str) -> float:
    *_, top, bottom = BAYS["screws"]
    room = (bottom - top - LENGTHS[kind]) / 2 - 0.04
    return (top + bottom) / 2 + rng.uniform(-room, room)


def _scattered(rng: np.random.Generator, bay: str, count: int) -> list[tuple[float, float]]:
    """Places in a bay for round parts that do not touch each other."""
    left, right, top, bottom = BAYS[bay]
    margin, apart = RADIUS + 0.02, 2 * RADIUS + 0.015
    places: list[tuple[float, float]] = []
    while len(places) < count:
        x, y = rng.uniform(left + margin, right - margin), rng.uniform(top + margin, bottom - margin)
        touches = any((x - other) ** 2 + (y - below) ** 2 < apart**2 for other, below in places)
        places = [] if touches else [*places, (x, y)]
    return places


def _added(rng: np.random.Generator, whole: Kit, kind: str, bay: str) -> tuple[Kit, Part]:
    """The kit with one more part of a kind in a bay, and that part."""
    there = [part for part in whole.parts if part.bay == bay]
    if bay != "screws":  # those in the bay are scattered anew, for there may be no room left between them
        *places, (x, y) = _scattered(rng, bay, len(there) + 1)
        added = Part(kind, x, y, rng.uniform(0, np.pi), bay)
        moved = [replace(part, x=x, y=y) for part, (x, y) in zip(there, places, strict=True)]
        return _with(_without(whole, *there), *moved, added), added
    free = max(range(SLOTS), key=lambda slot: min(abs(_slot_centre(slot) - part.x) for part in there))
    round_part = Part(kind, _slot_centre(free), rng.uniform(-0.05, 0.55), rng.uniform(0, np.pi), bay)
    added = _screw(rng, kind, free) if kind in LENGTHS else round_part
    return _with(whole, added), added


def _any(rng: np.random.Generator, parts: Sequence[Part]) -> Part:
    return parts[int(rng.integers(len(parts)))]


def _without(whole: Kit, *gone: Part) -> Kit:
    return replace(whole, parts=tuple(part for part in whole.parts if part not in gone))


def _with(whole: Kit, *more: Part) -> Kit:
    return replace(whole, parts=(*whole.parts, *more))


def _tray(rng: np.random.Generator, size: int) -> Tray:
    x, y = placed(rng, size, 0.05, 0.05)
    half = size / 2
    bench = floats([0.46, 0.42, 0.37]) * (1 + 0.05 * smooth_noise(rng, size, size // 3))[..., None]
    plastic = floats([0.30, 0.33, 0.36]) * (1 + 0.03 * smooth_noise(rng, size, size // 2))[..., None]
    floor = floats([0.19, 0.21, 0.23]) * (1 + 0.05 * smooth_noise(rng, size, size // 2))[..., None]
    outline = floats(np.maximum(np.abs(x) - 0.90, np.abs(y) - 0.81) * half)
    picture = mix(floats(bench), floats(plastic), edge(outline, 1.5))
    tray = Tray(x, y, picture, light(rng, size, 0.18))
    for bay in BAYS:
        inside = tray.box(bay)
        sunk = floats(floor * (0.72 + 0.28 * np.clip(-inside / (0.05 * size), 0, 1))[..., None])  # the walls' shadow
        picture = mix(picture, sunk, edge(inside, 1.5))
    return replace(tray, picture=picture)


def _filled(tray: Tray, content: Kit) -> Floats:
    picture = _label(tray, LABELS[content.announced])
    for part in content.parts:
        picture = _laid(tray, picture, part, content.finish)
    return picture


def _label(tray: Tray, colour: tuple[float, float, float]) -> Floats:
    """A white card with a coloured field and lines of print."""
    half = len(tray.x) / 2
    card = tray.box("label", 0.05)
    picture = mix(tray.picture, (0.88, 0.87, 0.84), edge(card, 1.5))
    field = np.maximum(card, (tray.x + 0.50) * half)
    picture = mix(picture, colour, edge(floats(field + 0.02 * half), 1.5))
    lines = np.maximum(np.abs((tray.y + 0.51 + 0.045) % 0.09 - 0.045) - 0.016, np.maximum(-0.42 - tray.x, tray.x + 0.12))
    return mix(picture, (0.20, 0.20, 0.21), edge(floats(np.maximum(lines * half, card + 0.05 * half)), 1.5))


def _local(tray: Tray, part: Part) -> tuple[Floats, Floats]:
    """Coordinates (across, along) around a part's centre."""
    cos, sin = floats(np.cos(part.turn)), floats(np.sin(part.turn))
    dx, dy = tray.x - floats(part.x), tray.y - floats(part.y)
    return floats(cos * dx + sin * dy), floats(cos * dy - sin * dx)


def _silhouette(tray: Tray, part: Part) -> Floats:
    """Distance from a part's outline in pixels, negative inside."""
    across, along = _local(tray, part)
    radius = np.hypot(across, along)
    if part.kind == "washer":
        distance = np.abs(radius - 0.073) - 0.027
    elif part.kind == "nut":
        sector = (np.arctan2(along, across) + np.pi / 6) % (np.pi / 3) - np.pi / 6
        distance = np.maximum(radius * np.cos(sector) - 0.087, 0.042 - radius)
    else:
        half = LENGTHS[part.kind] / 2
        head = np.maximum(np.abs(across) - 0.066, np.abs(along + half - 0.035) - 0.035)
        width = 0.034 * np.clip((half - along) / 0.07, 0, 1)  # the tip
        distance = np.minimum(head, np.maximum(np.abs(across) - width, np.abs(along) - half))
    return floats(distance * len(tray.x) / 2)


def _laid(tray: Tray, picture: Floats, part: Part, finish: str) -> Floats:
    """The picture with one part on it, and its shadow."""
    half = len(tray.x) / 2
    shadow = _silhouette(tray, replace(part, x=part.x + 0.014, y=part.y + 0.018))
    picture = mix(picture, picture * floats(0.45), edge(shadow, 5) * floats(0.8))
    across, along = _local(tray, part)
    inside = _silhouette(tray, part)
    if part.kind in LENGTHS:
        tone = 1.12 - 0.55 * np.minimum(np.abs(across) / 0.06, 1)  # round
        body = along > 0.07 - LENGTHS[part.kind] / 2
        tone = np.where(body, tone * (1 + 0.20 * np.sin(along * 2 * np.pi / 0.036)), tone)
        metal = floats(FINISHES[finish]) * tone[..., None]
    else:
        bevel = 0.80 + 0.30 * np.clip(-inside / (0.022 * half), 0, 1)
        sheen = 0.06 * np.cos(2 * (np.arctan2(along, across) + part.turn))
        metal = floats([0.60, 0.63, 0.66]) * (bevel + sheen)[..., None]
    return mix(picture, floats(metal), edge(inside, 1.5))
