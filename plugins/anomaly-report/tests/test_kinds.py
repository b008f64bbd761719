"""The table of each kind of defect, against scikit-learn."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from anomaly_core import TestedImage
from anomaly_report.finished import FinishedRun
from anomaly_report.kinds import defect_kinds
from anomaly_report.report import write_report

Rows = Callable[..., list[TestedImage]]


def test_each_kind_is_judged_against_all_normal_images(
    make_run: Callable[..., Path], example_rows: Rows, tmp_path: Path
) -> None:
    rows = example_rows()
    make_run(tmp_path, rows=rows)
    kinds = defect_kinds(FinishedRun.read(tmp_path))
    assert {kind.name for kind in kinds} == {"scratch", "dent"}
    assert [kind.auroc for kind in kinds] == sorted(kind.auroc for kind in kinds)
    for kind in kinds:
        own = [row for row in rows if row.defect in ("good", kind.name)]
        assert kind.auroc == pytest.approx(roc_auc_score([row.label for row in own], [row.score for row in own]))
        assert kind.images == sum(row.defect == kind.name for row in rows) == 10
        assert kind.found == sum(row.defect == kind.name and row.score > 5 for row in rows)
    page = re.sub(r"<[^>]*>|\\s+", " ", write_report(tmp_path).read_text("utf-8"))
    assert "Each kind of defect" in page
    assert f"{kinds[0].auroc:.4f}" in page


def test_one_kind_or_several_categories_have_no_table(
    make_run: Callable[..., Path], example_rows: Rows, tmp_path: Path
) -> None:
    rows = [row for row in example_rows() if row.defect != "dent"]
    assert not defect_kinds(FinishedRun.read(make_run(tmp_path / "one", rows=rows)))
    mixed = [replace(row, category="m8" if number % 3 else "m6") for number, row in enumerate(example_rows())]
    assert not defect_kinds(FinishedRun.read(make_run(tmp_path / "several", rows=mixed)))
    bad = [row for row in example_rows() if row.label]
    assert not defect_kinds(FinishedRun.read(make_run(tmp_path / "bad", rows=bad)))
