"""The metrics against scikit-learn, golden vectors and their own rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from anomaly_core import AnomalyError, BaseMetric, Batch, Calibration, Prediction, Sample, UndefinedMetric
from anomaly_metrics import auroc, average_precision, f1_max, precision_recall_curve, roc_curve
from anomaly_metrics.image import ImageAP, ImageAUROC, ImageF1Max
from anomaly_metrics.pixel import AUPRO, AUPRO005, PixelAP, PixelAUROC, PixelF1Max
from anomaly_metrics.threshold import ImageAccuracy, ImageF1, ImagePrecision, ImageRecall

GOLDEN = Path(__file__).parent / "golden" / "metrics.npz"
FUNCTIONS = (auroc, average_precision, f1_max, roc_curve, precision_recall_curve)

# Few distinct values, so that ties abound, and any finite float32, so that scales do not matter.
SCORE = st.one_of(st.integers(-3, 3).map(float), st.floats(width=32, allow_nan=False, allow_infinity=False))
CASES = st.lists(st.tuples(SCORE, st.booleans()), min_size=2, max_size=60).filter(lambda c: len({label for _, label in c}) == 2)


def split(case: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score for score, _ in case], dtype=np.float32), np.array([label for _, label in case])


def calibration(threshold: float | None) -> Calibration:
    return Calibration(threshold, 0.01, 100, "test")


def feed(metric: BaseMetric, scores, labels, maps=None, masks=None, has_mask=None, size: int = 2) -> BaseMetric:
    """Updates in batches of `size`, the last one shorter."""
    for start in range(0, len(scores), size):
        part = slice(start, start + size)
        count = len(scores[part])
        batch = Batch(
            images=torch.zeros(count, 3, 8, 8),
            labels=torch.as_tensor(labels[part]),
            masks=None if masks is None else masks[part],
            has_mask=torch.full((count,), masks is not None) if has_mask is None else has_mask[part],
            samples=[Sample(Path("x.png"))] * count,
        )
        metric.update(batch, Prediction(torch.as_tensor(scores[part]), None if maps is None else maps[part]))
    return metric


@given(CASES)
@settings(deadline=None)
def test_as_scikit_learn(case):
    scores, labels = split(case)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)

    best, threshold = f1_max(scores, labels)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(labels, scores)
    with np.errstate(invalid="ignore"):
        assert best == pytest.approx(np.nanmax(2 * precision * recall / (precision + recall)), abs=1e-12)
    assert threshold in scores
    assert f1_score(labels, scores >= threshold) == pytest.approx(best, abs=1e-12)


@given(CASES)
@settings(deadline=None)
def test_curves_as_scikit_learn(case):
    scores, labels = split(case)
    for ours, theirs in zip(roc_curve(scores, labels), sklearn_metrics.roc_curve(labels, scores), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    theirs = sklearn_metrics.precision_recall_curve(labels, scores)
    for ours, expected in zip(precision_recall_curve(scores, labels), theirs, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12)


@given(CASES)
@settings(deadline=None)
def test_ranks_alone_decide(case):
    scores, labels = split(case)
    ranks = np.unique(scores, return_inverse=True)[1]
    for function in (auroc, average_precision):
        assert function(scores, labels) == function(ranks * 1e30 - 1e32, labels)
    assert f1_max(scores, labels)[0] == f1_max(ranks, labels)[0]


@given(CASES)
@settings(deadline=None)
def test_mirrored_scores_mirror_the_auroc_exactly(case):
    scores, labels = split(case)
    assert auroc(scores, labels) + auroc(-scores, labels) == pytest.approx(1, abs=1e-15)


def test_differences_that_float32_arithmetic_would_lose():
    scores = np.float32(1) + np.arange(64, dtype=np.float32) * np.spacing(np.float32(1))
    assert auroc(scores, np.arange(64) >= 32) == 1.0
    assert auroc(np.array([1.0, 1.0 + 1e-12]), np.array([0, 1])) == 1.0


def test_all_tied():
    labels = [0, 0, 0, 1]
    assert auroc([2.0] * 4, labels) == 0.5
    assert average_precision([2.0] * 4, labels) == 0.25
    assert f1_max([2.0] * 4, labels) == (0.4, 2.0)


def test_worst_ranking_guards_against_zero_by_zero():
    assert f1_max([3.0, 2.0, 1.0], [0, 0, 1]) == (0.5, 1.0)


def test_of_equally_good_thresholds_the_highest():
    assert f1_max([4.0, 3.0, 2.0, 1.0], [1, 0, 0, 1]) == (2 / 3, 4.0)


def test_counts_beyond_float32_are_exact():
    scores, labels = np.zeros(20_000_000, dtype=np.float32), np.zeros(20_000_000, dtype=bool)
    scores[0], labels[:2] = 1, True  # one anomaly above all, one tied with 19 999 998 normal values
    assert auroc(scores, labels) == 0.75


@pytest.mark.parametrize("form", ["list", "array", "tensor", "grad", "bfloat16", "integer labels"])
def test_takes_tensors_and_arrays_of_any_shape(form):
    scores, labels = torch.tensor([[0.5, 1.0], [2.0, 4.0]]), torch.tensor([[0, 0], [1, 1]])
    given = {
        "list": (scores.tolist(), labels.tolist()),
        "array": (scores.numpy(), labels.bool().numpy()),
        "tensor": (scores, labels.bool()),
        "grad": (scores.clone().requires_grad_(), labels),
        "bfloat16": (scores.bfloat16(), labels),
        "integer labels": (scores, (labels * 255).to(torch.uint8)),
    }[form]
    assert auroc(*given) == 1
    assert average_precision(*given) == 1
    assert f1_max(*given) == (1, 2)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite_and_says_which(function, bad):
    with pytest.raises(AnomalyError, match=rf"1 of 3 scores .* {bad} at position 1"):
        function([0.0, bad, 1.0], [0, 1, 1])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_refuses_other_lengths_and_unknown_labels(function):
    with pytest.raises(AnomalyError, match="3 scores and 2 labels"):
        function([0.0, 1.0, 2.0], [0, 1])
    with pytest.raises(AnomalyError, match="label is -1"):
        function([0.0, 1.0, 2.0], [0, 1, -1])


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("labels", "reason"), [([0, 0], "all 2 labels are normal"), ([1, 1], "all 2 labels are anomalous"), ([], "no scores")]
)
def test_one_class_alone_is_undefined(function, labels, reason):
    with pytest.raises(UndefinedMetric, match=reason):
        function(np.zeros(len(labels)), labels)


def test_golden_functions():
    golden = np.load(GOLDEN)
    assert auroc(golden["image_scores"], golden["image_labels"]) == pytest.approx(float(golden["image_auroc"]), rel=1e-4)
    assert average_precision(golden["image_scores"], golden["image_labels"]) == pytest.approx(
        float(golden["image_ap"]), rel=1e-4
    )
    assert auroc(golden["maps"], golden["masks"]) == pytest.approx(float(golden["pixel_auroc"]), rel=1e-4)
    assert average_precision(golden["maps"], golden["masks"]) == pytest.approx(float(golden["pixel_ap"]), rel=1e-4)
    assert f1_max(golden["maps"], golden["masks"])[0] == pytest.approx(float(golden["pixel_f1_max"]), rel=1e-4)


@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize(
    ("metric", "key"),
    [
        (ImageAUROC, "image_auroc"),
        (ImageAP, "image_ap"),
        (PixelAUROC, "pixel_auroc"),
        (PixelAP, "pixel_ap"),
        (PixelF1Max, "pixel_f1_max"),
        (AUPRO, "aupro_030"),
        (AUPRO005, "aupro_005"),
    ],
)
def test_golden_metrics_whatever_the_batch_size(metric, key, size):
    golden = np.load(GOLDEN)
    maps = torch.from_numpy(golden["maps"])[:, None]
    masks = torch.from_numpy(golden["masks"])[:, None] > 0
    value = feed(metric(), golden["image_scores"], golden["image_labels"], maps, masks, size=size).compute()
    assert value == pytest.approx(float(golden[key]), rel=1e-4)


@pytest.mark.parametrize("metric", [ImageAUROC, ImageAP, ImageF1Max])
def test_images_of_unknown_label_are_left_out(metric):
    assert feed(metric(), [0.0, 9.0, 1.0], [0, -1, 1]).compute() == 1
    with pytest.raises(UndefinedMetric, match="known label"):
        feed(metric(), [0.0, 9.0], [-1, -1]).compute()


@pytest.mark.parametrize("metric", [PixelAUROC, PixelAP, PixelF1Max, AUPRO])
def test_images_without_their_mask_are_left_out_and_good_ones_kept(metric):
    masks = torch.zeros(3, 1, 2, 2, dtype=torch.bool)
    masks[0, 0, 0, 0] = True
    maps = masks.float()
    maps[1] = 9  # anomalous, its mask is missing
    maps[2] = 0.5  # good
    has_mask = torch.tensor([True, False, True])
    assert feed(metric(), [0.0] * 3, [1, 1, 0], maps, masks, has_mask, size=3).compute() == 1
    maps[2] = 2  # now the good image is the most anomalous one
    assert feed(metric(), [0.0] * 3, [1, 1, 0], maps, masks, has_mask, size=3).compute() < 1


@pytest.mark.parametrize("metric", [PixelAUROC, PixelAP, PixelF1Max, AUPRO])
def test_pixel_metrics_say_why_they_are_undefined(metric):
    maps, masks = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2, dtype=torch.bool)
    with pytest.raises(UndefinedMetric, match="no anomaly maps"):
        feed(metric(), [0.0, 1.0], [0, 1], None, masks).compute()
    with pytest.raises(UndefinedMetric, match="has no masks"):
        feed(metric(), [0.0, 1.0], [0, 1], maps, None).compute()
    with pytest.raises(UndefinedMetric, match="no mask marks"):
        feed(metric(), [0.0, 1.0], [0, 1], maps, masks, torch.tensor([True, False])).compute()
    with pytest.raises(UndefinedMetric, match="all 8 labels are anomalous"):
        feed(metric(), [0.0, 1.0], [1, 1], maps, ~masks).compute()


def test_maps_of_another_size_are_refused():
    with pytest.raises(AnomalyError, match=r"\(2, 1, 4, 4\) against masks of \(2, 1, 2, 2\)"):
        feed(PixelAUROC(), [0.0, 1.0], [0, 1], torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 2, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("metric", "expected"), [(ImageAccuracy, 4 / 6), (ImagePrecision, 2 / 3), (ImageRecall, 2 / 3), (ImageF1, 2 / 3)]
)
def test_verdicts_at_the_calibrated_threshold(metric, expected):
    # The score that equals the threshold is not called anomalous; the unknown one counts nowhere.
    scores, labels = [0.1, 0.5, 0.9, 0.5, 0.8, 0.7, 9.0], [0, 0, 0, 1, 1, 1, -1]
    assert feed(metric(calibration(0.5)), scores, labels).compute() == pytest.approx(expected)


@pytest.mark.parametrize("metric", [ImageAccuracy, ImagePrecision, ImageRecall, ImageF1])
@pytest.mark.parametrize("given", [None, calibration(None)])
def test_verdicts_need_a_threshold(metric, given):
    with pytest.raises(UndefinedMetric, match="no threshold"):
        feed(metric(given), [0.0, 1.0], [0, 1]).compute()


def test_verdicts_that_are_undefined():
    with pytest.raises(UndefinedMetric, match="no image was called anomalous"):
        feed(ImagePrecision(calibration(5.0)), [0.0, 1.0], [0, 1]).compute()
    with pytest.raises(UndefinedMetric, match="no image is anomalous"):
        feed(ImageRecall(calibration(0.5)), [0.0, 1.0], [0, 0]).compute()
    with pytest.raises(UndefinedMetric, match="none was called so"):
        feed(ImageF1(calibration(5.0)), [0.0, 1.0], [0, 0]).compute()
    assert feed(ImageRecall(calibration(5.0)), [0.0, 1.0], [0, 1]).compute() == 0
    assert feed(ImageF1(calibration(5.0)), [0.0, 1.0], [0, 1]).compute() == 0
