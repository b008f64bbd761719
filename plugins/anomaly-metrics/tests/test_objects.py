"""Object AUROC: an object is as anomalous as its worst view."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sklearn.metrics import roc_auc_score

from anomaly_core import Batch, Prediction, Sample, UndefinedMetric
from anomaly_metrics.image import ObjectAUROC


def fed(rows: list[tuple[object, float, int | None]]) -> ObjectAUROC:
    metric = ObjectAUROC()
    for start in range(0, len(rows), 3):  # an object's views come in several batches
        part = rows[start : start + 3]
        samples = [Sample(Path("x"), label, extra={} if shown is None else {"object": shown}) for shown, _, label in part]
        labels = torch.tensor([-1 if label is None else label for _, _, label in part])
        batch = Batch(torch.zeros(len(part), 3, 1, 1), labels, None, torch.zeros(len(part), dtype=torch.bool), samples)
        metric.update(batch, Prediction(torch.tensor([score for _, score, _ in part])))
    return metric


def test_an_object_scores_as_its_worst_view_and_is_anomalous_if_any_view_is() -> None:
    generator = torch.Generator().manual_seed(3)
    rows: list[tuple[object, float, int | None]] = []
    worst, truth = [], []
    for number in range(12):
        scores = torch.rand(5, generator=generator).tolist()
        labels = [int(number % 2 and view == 4) for view in range(5)]  # the defect shows in one view
        rows += [(f"S{number}", score, label) for score, label in zip(scores, labels, strict=True)]
        worst.append(max(scores))
        truth.append(max(labels))
    rows.append(("S0", 9.0, None))  # without a label: not judged
    shuffled = [rows[index] for index in torch.randperm(len(rows), generator=generator)]
    assert fed(shuffled).compute() == pytest.approx(roc_auc_score(truth, worst))


def test_where_it_has_no_value_it_says_why() -> None:
    with pytest.raises(UndefinedMetric, match="1 of 2 images do not say which object"):
        fed([("a", 1.0, 0), (None, 2.0, 1)]).compute()
    with pytest.raises(UndefinedMetric, match="all 1 labels are normal"):
        fed([("a", 1.0, 0), ("a", 2.0, 0)]).compute()
    with pytest.raises(UndefinedMetric, match="no image has a known label"):
        fed([("a", 1.0, None)]).compute()
