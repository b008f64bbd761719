"""Pixels that do not count (``data.roi``, ``data.ignore``) are in no pixel metric: against scikit-learn on the others alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

import anomaly_metrics
from anomaly_core import BaseMetric, Batch, Calibration, Prediction, Sample
from anomaly_metrics import pixel, pixels
from anomaly_metrics.pixel import AUPIMO, AUPRO, AUPRO005, PixelAP, PixelAUROC, PixelF1Max, SegF1

SIDE = 96


@pytest.fixture
def judged() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Maps, masks and the pixels that count; outside of them, maps are high and masks say nothing."""
    rng = np.random.default_rng(0)
    valid = np.hypot(*(np.indices((SIDE, SIDE)) - SIDE / 2)) < 0.4 * SIDE
    valid[40:50, 40:50] = False
    masks = np.zeros((8, 1, SIDE, SIDE), dtype=bool)
    masks[::2, 0, 20:45, 30:45] = masks[::2, 0, 60:64, 60:70] = True
    maps = rng.normal(size=masks.shape) + masks
    maps[:, :, ~valid] += 2
    return (
        torch.tensor(maps, dtype=torch.float32),
        torch.tensor(masks),
        torch.tensor(np.broadcast_to(valid, masks.shape).copy()),
    )


def values(judged: tuple[torch.Tensor, torch.Tensor, torch.Tensor], kinds: tuple[type[BaseMetric], ...]) -> list[float]:
    maps, masks, valid = judged
    metrics: list[BaseMetric] = []
    for kind in kinds:
        metrics.append(kind())
        metrics[-1].share(metrics[:-1])
    for start in range(0, len(maps), 3):
        chosen = slice(start, start + 3)
        truth, samples = masks[chosen], [Sample(Path("x.png"))] * len(masks[chosen])
        labels, known = truth.flatten(1).any(dim=1).long(), torch.ones(len(truth), dtype=torch.bool)
        batch = Batch(torch.zeros(len(truth), 3, 1, 1), labels, truth, known, samples, valid[chosen])
        prediction = Prediction(torch.zeros(len(truth)), maps[chosen])
        for metric in metrics:
            metric.update(batch, prediction)
    return [metric.compute() for metric in metrics]


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "histogram"])
def test_against_scikit_learn_on_what_counts(
    judged: tuple[torch.Tensor, torch.Tensor, torch.Tensor], exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exact:
        monkeypatch.setattr(pixel, "EXACT_PIXELS", 1 << 12)
        monkeypatch.setattr(pixels, "CHUNK", 1 << 14)
    maps, masks, valid = judged
    scores, truth = maps[valid].numpy(), masks[valid].numpy()
    thresholds = np.quantile(scores, np.linspace(0.5, 1, 2000))
    expected = [
        roc_auc_score(truth, scores),
        average_precision_score(truth, scores),
        max(f1_score(truth, scores >= threshold) for threshold in thresholds[::10]),
    ]
    auroc, precision, f1 = values(judged, (PixelAUROC, PixelAP, PixelF1Max))
    assert [auroc, precision] == pytest.approx(expected[:2], abs=1e-9 if exact else 1e-3)
    assert expected[2] - 1e-3 <= f1 < expected[2] + 0.005


def overlap_area(maps: np.ndarray, masks: np.ndarray, valid: np.ndarray, limit: float) -> float:
    """AUPRO from its definition, at 4,000 thresholds."""
    regions = []
    for image, mask, counts in zip(maps[:, 0], masks[:, 0], valid[:, 0], strict=True):
        if mask.any():
            for box in (np.s_[20:45, 30:45], np.s_[60:64, 60:70]):
                regions.append(image[box][counts[box]])
    normal = np.sort(maps[valid & ~masks])
    thresholds = np.quantile(normal, np.linspace(1, 1 - limit, 4000))
    rates = 1 - np.searchsorted(normal, thresholds) / normal.size
    overlaps = np.mean([[(region >= t).mean() for t in thresholds] for region in regions], axis=0)
    return float(np.trapezoid(overlaps, rates) / limit)


def test_a_defect_is_as_large_as_its_part_that_counts(judged: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    arrays = [part.numpy() for part in judged]
    wide, narrow = values(judged, (AUPRO, AUPRO005))
    assert wide == pytest.approx(overlap_area(*arrays, 0.3), abs=2e-3)
    assert narrow == pytest.approx(overlap_area(*arrays, 0.05), abs=2e-3)
    maps, masks, _ = judged
    assert abs(wide - anomaly_metrics.aupro(maps, masks)) > 0.05, "the pixels outside would matter"


def test_segmentation_of_the_pixels_that_count(judged: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    maps, masks, valid = judged
    metric = SegF1(Calibration(0.5, 0.05, 1, "one image", map_low=0.0, map_threshold=1.0, scores=(0.5,)))
    known = torch.ones(len(maps), dtype=torch.bool)
    batch = Batch(torch.zeros(8, 3, 1, 1), known.long(), masks, known, [Sample(Path("x.png"))] * 8, valid)
    metric.update(batch, Prediction(torch.zeros(8), maps))
    assert metric.compute() == pytest.approx(f1_score(masks[valid].numpy(), maps[valid].numpy() > 1))


def test_aupimo_of_the_pixels_that_count(
    judged: tuple[torch.Tensor, torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AUPIMO, "bounds", (1e-3, 1e-1))
    (value,) = values(judged, (AUPIMO,))
    maps, masks, valid = (part.numpy() for part in judged)
    normal = np.sort(maps[1::2][valid[1::2]])
    rates = np.geomspace(1e-3, 1e-1, 4000)
    thresholds = normal[np.maximum(normal.size - 1 - np.floor(rates * normal.size).astype(int), 0)]
    overlaps = [
        np.mean([(image[mask & counts] > t).mean() for t in thresholds])
        for image, mask, counts in zip(maps[::2], masks[::2], valid[::2], strict=True)
    ]
    assert value == pytest.approx(float(np.mean(overlaps)), abs=5e-3)
