"""The history as CSV."""

from __future__ import annotations

import csv
from typing import Any

from anomaly_serve.store import Store


def test_every_verdict_is_exported_with_who_set_its_threshold(store: Store, judgement: Any, calibration: Any) -> None:
    store.record(judgement(1, name="=HYPERLINK(1)"), b"x").result()
    store.add_settings("tile", 1, calibration.with_threshold(0.0005), None, "ben", "missed a scratch")
    store.record(judgement(2, settings=2, threshold=0.0005, is_anomalous=True, p_value=None)).result()
    store.record(judgement(3, is_anomalous=None, threshold=None, regions=None)).result()
    store.mark(judgement(2).id, "fine", "carla")
    store.mark(judgement(2).id, "confirmed", "dora")
    rows = list(csv.DictReader("".join(store.export_csv("tile")).splitlines()))
    assert [row["id"] for row in rows] == [judgement(number).id for number in (3, 2, 1)]
    shown = [(row["verdict"], row["threshold"], row["settings"], row["threshold_by"], row["threshold_why"]) for row in rows]
    assert shown == [
        ("", "", "1", "anna", "first"),
        ("anomalous", "0.0005", "2", "ben", "missed a scratch"),
        ("normal", "0.5", "1", "anna", "first"),
    ]
    assert [(row["mark"], row["marked_by"], row["image"]) for row in rows] == [
        ("", "", "none"),
        ("confirmed", "dora", "none"),
        ("", "", "kept"),
    ]
    assert rows[2]["name"] == "'=HYPERLINK(1)"  # a spreadsheet shows it, and opens nothing
    assert rows[2]["time"] == "2026-05-28T20:26:41.000Z"
    assert [row["regions"] for row in rows] == ["", "1", "1"]


def test_filters_and_pieces(store: Store, judgement: Any) -> None:
    futures = store.record_many([(judgement(number), None, ".png") for number in range(1300)])
    futures[-1].result()
    pieces = list(store.export_csv("tile"))
    assert len(pieces) == 4 and sum(piece.count("\n") for piece in pieces) == 1301
    alarms = "".join(store.export_csv("tile", is_anomalous=True, until=judgement(35).time)).splitlines()
    assert [line.split(",")[1] for line in alarms[1:]] == [judgement(number).id for number in (30, 20, 10, 0)]
    assert "".join(store.export_csv("another")).count("\n") == 1
