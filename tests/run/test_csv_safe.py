"""Text in CSV files stays text."""

from __future__ import annotations

import csv

import pytest

from anomaly_core import RunFolder
from anomaly_core.run.csv_safe import guarded, plain

pytestmark = pytest.mark.reliability


FORMULAS = ("=1+1", "+cmd|'/C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "'=1", "''=1", '=HYPERLINK("http://x")')


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula_and_none_is_lost(tmp_path, text, record) -> None:
    run = RunFolder(tmp_path)
    row = {"path": text, "category": text, "defect": text, "score": "-0.5", "label": 1}
    run.write_rows("rows.csv", [row])
    with (tmp_path / "rows.csv").open(newline="") as file:
        (cells,) = csv.DictReader(file)
    assert cells["path"].startswith("'") and cells["score"] == "-0.5"
    (again,) = run.read_rows("rows.csv")
    assert again == {**row, "label": "1"}
    record("security", f"a file, category or defect named {text!r} in CSV", 3)


def test_other_text_stays_as_it_is() -> None:
    for text in ("a=b", "/data/=x.png", "'quoted'", "", "-1.5e-3", "nan", "é"):
        assert guarded(text) == text and plain(text) == text
    assert guarded(-3) == -3
