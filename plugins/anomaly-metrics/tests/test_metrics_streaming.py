"""Pixel metrics beyond the exact limit, against the exact ones on the same pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import anomaly_metrics
from anomaly_core import AnomalyError, Batch, Prediction, Sample, UndefinedMetric
from anomaly_metrics import histogram, pixel, pixels
from anomaly_metrics.histogram import ScoreHistogram
from anomaly_metrics.pixel import AUPRO, AUPRO005, PixelAP, PixelAUROC, PixelF1Max, PixelMetric
from anomaly_metrics.pixels import PixelStore

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
METRICS = (PixelAUROC, PixelAP, PixelF1Max, AUPRO, AUPRO005)

# What a raw score may look like, of standard normal values that are about two higher where the pixel is defective.
DISTRIBUTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "normal": lambda z: z,
    "heavy-tailed": lambda z: np.exp(3 * z),
    "very heavy-tailed": lambda z: np.sign(z) * np.exp(np.abs(z) * 12),
    "squeezed below 1": lambda z: 1 - 1e-4 / (1 + np.exp(z)),
    "squeezed above 0": lambda z: 1e-4 / (1 + np.exp(-z)),
    "saturated at both ends": lambda z: 1 / (1 + np.exp(-9 * z)),
    "mostly constant": lambda z: np.maximum(z - 1, 0),
    "few levels": lambda z: np.round(z),
    "256 levels": lambda z: np.clip(np.round(z * 30 + 100), 0, 255) / 255,
    "negative likelihood": lambda z: -np.exp(-0.5 * (2 + z / 4) ** 2),
    "large offset": lambda z: 1000 + 1e-2 * z,
    "negative offset": lambda z: -1e6 + z,
    "subnormal": lambda z: z * 1e-40,
    "both signs around zero": lambda z: z**5,
}


def images(transform: Callable[[np.ndarray], np.ndarray], mixed: bool, count: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """(maps float32, masks bool), (count, 1, 128, 128); one image in three has defects of several sizes."""
    rng = np.random.default_rng(0)
    masks = np.zeros((count, 1, 128, 128), dtype=bool)
    for mask in masks[:: 3 if mixed else 1][-(count // 3) :, 0]:
        for size in (3, 10, 30):
            row, column = rng.integers(0, 128 - size, size=2)
            mask[row : row + size, column : column + size] = True
    noise = rng.normal(size=masks.shape)
    values = transform(noise + masks * rng.uniform(1, 3, size=(count, 1, 1, 1)))
    return torch.from_numpy(values.astype(np.float32)), torch.from_numpy(masks)


def batch_of(maps: torch.Tensor, masks: torch.Tensor) -> tuple[Batch, Prediction]:
    count = len(maps)
    known = torch.ones(count, dtype=torch.bool)
    batch = Batch(torch.zeros(count, 3, 1, 1), torch.zeros(count).long(), masks, known, [Sample(Path("x.png"))] * count)
    return batch, Prediction(torch.zeros(count), maps)


def fed(maps: torch.Tensor, masks: torch.Tensor, size: int = 4) -> list[PixelMetric]:
    """All pixel metrics, working together, fed in batches."""
    metrics: list[PixelMetric] = []
    for kind in METRICS:
        metric = kind()
        metric.share(metrics)
        metrics.append(metric)
    for start in range(0, len(maps), size):
        pair = batch_of(maps[start : start + size], masks[start : start + size])
        for metric in metrics:
            metric.update(*pair)
    return metrics


@pytest.fixture
def small(monkeypatch) -> None:
    """A limit and chunks so small that a few images pass them."""
    monkeypatch.setattr(pixel, "EXACT_PIXELS", 1 << 16)
    monkeypatch.setattr(pixels, "CHUNK", 1 << 17)
    monkeypatch.setattr(histogram, "SAMPLE", 1 << 14)


@pytest.mark.parametrize("mixed", [True, False], ids=["mixed", "good images first"])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_histogram_is_close_to_the_exact_values(name, mixed, small):
    maps, masks = images(DISTRIBUTIONS[name], mixed)
    auroc, ap, f1, aupro, aupro_005 = (metric.compute() for metric in fed(maps, masks))
    assert auroc == pytest.approx(anomaly_metrics.auroc(maps, masks), abs=1e-4)
    assert ap == pytest.approx(anomaly_metrics.average_precision(maps, masks), abs=1e-4)
    assert f1 == pytest.approx(anomaly_metrics.f1_max(maps, masks)[0], abs=1e-4)
    assert aupro == pytest.approx(anomaly_metrics.aupro(maps, masks), abs=1e-3)
    assert aupro_005 == pytest.approx(anomaly_metrics.aupro(maps, masks, 0.05), abs=1e-3)


def test_up_to_the_limit_nothing_is_lost(small):
    maps, masks = images(DISTRIBUTIONS["normal"], mixed=True, count=4)
    metrics = fed(maps, masks)
    expected = (
        anomaly_metrics.auroc(maps, masks),
        anomaly_metrics.average_precision(maps, masks),
        anomaly_metrics.f1_max(maps, masks)[0],
        anomaly_metrics.aupro(maps, masks),
        anomaly_metrics.aupro(maps, masks, 0.05),
    )
    assert metrics[0]._store.is_exact
    assert tuple(metric.compute() for metric in metrics) == pytest.approx(expected, abs=1e-14)
    metrics = fed(*images(DISTRIBUTIONS["normal"], mixed=True, count=5))
    assert not metrics[0]._store.is_exact, "the limit is four images"


@pytest.mark.parametrize("size", [1, 24])
def test_neither_batch_size_nor_asking_early_matters(size, small):
    maps, masks = images(DISTRIBUTIONS["normal"], mixed=True)
    metrics = fed(maps, masks, size)
    early = [metric.compute() for metric in metrics]
    assert early == [metric.compute() for metric in metrics]
    assert early[0] == pytest.approx(anomaly_metrics.auroc(maps, masks), abs=1e-6)
    pairs = [batch_of(maps[start : start + 8], masks[start : start + 8]) for start in range(0, len(maps), 8)]
    for pair in pairs:
        for metric in metrics:
            metric.update(*pair)
    for metric, before in zip(metrics, early, strict=True):
        assert metric.compute() == pytest.approx(before, abs=1e-6), "the same pixels twice give the same values"


def test_metrics_that_share_take_each_batch_in_once(small):
    maps, masks = images(DISTRIBUTIONS["normal"], mixed=True, count=6)
    metrics = fed(maps, masks)
    assert len({id(metric._store) for metric in metrics}) == 1
    assert metrics[0].curve() is metrics[3].curve(), "and sort once"
    curve = metrics[0].curve()
    assert curve.true_positives[0] == masks.sum() and curve.normal == (~masks).sum()


def test_a_metric_alone_counts_a_batch_as_often_as_it_is_fed():
    maps, masks = images(DISTRIBUTIONS["normal"], mixed=True, count=3)
    metric, pair = PixelAUROC(), batch_of(maps, masks)
    metric.update(*pair)
    metric.update(*pair)
    assert metric.curve().true_positives[0] == 2 * masks.sum()


def test_metrics_that_share_must_be_fed_the_same():
    first, second = PixelAUROC(), AUPRO()
    second.share([PixelF1Max, first])
    one, two = (batch_of(*images(DISTRIBUTIONS["normal"], mixed=True, count=3)) for _ in range(2))
    first.update(*one)
    with pytest.raises(AnomalyError, match="were fed different batches"):
        second.compute()
    with pytest.raises(AnomalyError, match="were fed different batches"):
        second.update(*two)
    second.update(*one)
    assert second.compute() > 0.5
    first.update(*two)
    first.update(*one)
    with pytest.raises(AnomalyError, match="were fed different batches"):
        second.update(*two)


def test_memory_stays_constant_however_scores_wander(small, monkeypatch):
    monkeypatch.setattr(histogram, "MAX_BINS", 1 << 20)
    store, rng = PixelStore(1 << 16), np.random.default_rng(0)
    masks = torch.zeros(8, 1, 128, 128, dtype=torch.bool)
    masks[0, 0, 3:50, 3:50] = True
    with pytest.warns(UserWarning, match="pixel metrics become approximate"):
        for turn in range(8):
            scale = 10.0 ** rng.uniform(-30, 30)
            maps = torch.from_numpy(rng.normal(size=masks.shape).astype(np.float32) * np.float32(scale))
            store.take(turn, *batch_of(maps + masks * scale, masks))
            assert sum(part.maps.numel() for part in store._parts) <= 1 << 17
        assert store.curve(8).auroc() > 0.5
    counted = store._histogram
    assert counted is not None and counted.bins <= 1 << 20
    assert sum(value.nbytes for value in vars(counted).values() if isinstance(value, np.ndarray)) < 32e6


def test_what_is_undefined_or_refused_stays_so(small):
    maps, masks = images(DISTRIBUTIONS["normal"], mixed=True, count=10)
    for metric in fed(maps, torch.zeros_like(masks)):
        with pytest.raises(UndefinedMetric, match="no mask marks"):
            metric.compute()
    for metric in fed(maps, torch.ones_like(masks)):
        with pytest.raises(UndefinedMetric, match="labels are anomalous"):
            metric.compute()
    maps[9, 0, 1, 1] = torch.nan
    with pytest.raises(AnomalyError, match=r"1 of .* scores are NaN or infinite"):
        fed(maps, masks)[0].compute()


def test_images_without_their_mask_are_left_out(small):
    maps, masks = images(DISTRIBUTIONS["normal"], mixed=True, count=10)
    batch, prediction = batch_of(torch.cat((maps, maps[:3] + 9)), torch.cat((masks, torch.zeros_like(masks[:3]))))
    batch.has_mask[10:] = False
    metric = PixelAUROC()
    metric.update(batch, prediction)
    assert not metric._store.is_exact
    assert metric.compute() == pytest.approx(anomaly_metrics.auroc(maps, masks), abs=1e-6)


def test_maps_of_other_sizes_and_types(small):
    maps, masks = images(DISTRIBUTIONS["normal"], mixed=True, count=10)
    metric = AUPRO()
    metric.update(*batch_of(maps[:7].half(), masks[:7]))
    metric.update(*batch_of(maps[7:, :, :100, :90].requires_grad_(), masks[7:, :, :100, :90]))
    exact = AUPRO()
    exact._store = PixelStore(1 << 25)
    exact.update(*batch_of(maps[:7].half(), masks[:7]))
    exact.update(*batch_of(maps[7:, :, :100, :90], masks[7:, :, :100, :90]))
    assert exact._store.is_exact and not metric._store.is_exact
    assert metric.compute() == pytest.approx(exact.compute(), abs=1e-5)


@given(st.lists(FINITE, min_size=1, max_size=50))
@settings(deadline=None)
def test_keys_are_in_the_order_of_the_scores(values):
    scores = np.array(values, dtype=np.float32)
    keys = histogram._keys(scores)
    np.testing.assert_array_equal(np.unique(scores, return_inverse=True)[1], np.unique(keys, return_inverse=True)[1])
    np.testing.assert_array_equal(histogram._scores(keys), scores)
    assert histogram.NONE not in keys


@given(st.lists(st.tuples(FINITE, st.booleans()), min_size=2, max_size=60), st.integers(1, 3))
@settings(deadline=None, max_examples=30)
def test_counts_at_the_thresholds_are_exact(case, repeats):
    scores = np.array([score for score, _ in case] * repeats, dtype=np.float32)
    anomalous = np.array([label for _, label in case] * repeats)
    if anomalous.all() or not anomalous.any():
        return
    counted = ScoreHistogram()
    counted.add(scores, anomalous, np.full(anomalous.sum(), 1 / anomalous.sum()), 1)
    curve = counted.curve()
    for threshold, found, false in zip(curve.thresholds, curve.true_positives, curve.false_positives, strict=True):
        assert found == np.sum(scores[anomalous] >= threshold)
        assert false == np.sum(scores[~anomalous] >= threshold)
    np.testing.assert_allclose(curve.overlap, curve.true_positives / anomalous.sum())


def test_a_level_that_many_scores_share_is_never_torn_apart():
    counted, level = ScoreHistogram(), np.float32(0.3)
    rare = np.append(np.full(1, level), np.linspace(5, 9, 40_000)).astype(np.float32)
    counted.add(rare, np.zeros(rare.size, dtype=bool), np.zeros(0), 0)
    bins = counted.bins
    dense = np.full(200_000, level)
    counted.add(dense, np.arange(dense.size) < 10, np.full(10, 0.1), 1)
    assert counted.bins > bins
    curve = counted.curve()
    assert curve.thresholds == level and curve.ties == 200_000 - 10 + 1
