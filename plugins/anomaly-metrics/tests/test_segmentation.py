"""SegF1 against scikit-learn, at a threshold that the judged images did not choose."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score

from anomaly_core import AnomalyError, Batch, Calibration, Prediction, Sample, UndefinedMetric
from anomaly_metrics import seg_f1
from anomaly_metrics.pixel import SegF1

SHAPE = (3, 4, 5)
MAPS = hnp.arrays(np.float32, SHAPE, elements=st.integers(0, 4).map(float))
MASKS = hnp.arrays(bool, SHAPE)


def fed(maps, masks, threshold=1.0, has_mask=None) -> SegF1:
    """In two batches, as (N, 1, H, W)."""
    metric = SegF1(None if threshold is None else Calibration(0.0, 0.01, 1, "test", map_threshold=threshold))
    has = np.ones(len(maps), dtype=bool) if has_mask is None else has_mask
    for part in (slice(0, 2), slice(2, None)):
        count = len(maps[part])
        batch = Batch(
            images=torch.zeros(count, 3, 1, 1),
            labels=torch.ones(count, dtype=torch.int64),
            masks=None if masks is None else torch.from_numpy(masks[part])[:, None],
            has_mask=torch.from_numpy(has[part]),
            samples=[Sample(path="x")] * count,
        )
        metric.update(batch, Prediction(torch.zeros(count), torch.from_numpy(maps[part])[:, None]))
    return metric


@settings(deadline=None)
@given(MAPS, MASKS)
def test_the_f1_of_all_pixels_together(maps: np.ndarray, masks: np.ndarray) -> None:
    threshold = 1.0
    if not (masks.any() or (maps > threshold).any()):
        for compute in (lambda: seg_f1(maps, masks, threshold), fed(maps, masks).compute):
            with pytest.raises(UndefinedMetric, match="none was called so"):
                compute()
        return
    expected = f1_score(masks.ravel(), maps.ravel() > threshold)
    assert seg_f1(maps, masks, threshold) == pytest.approx(expected)
    assert fed(maps, masks).compute() == pytest.approx(expected)


def test_the_mean_over_images_is_something_else() -> None:
    maps = np.array([[[2.0, 2, 2, 2]], [[2, 0, 0, 0]]], dtype=np.float32)
    masks = np.array([[[1, 1, 1, 1]], [[0, 1, 0, 0]]]) > 0
    assert seg_f1(maps, masks, 1.0) == 0.8  # 4 found, 1 false, 1 missed; image by image the mean is 0.5


def test_images_without_a_mask_are_left_out() -> None:
    maps = np.full((3, 2, 2), 2.0, dtype=np.float32)
    masks = np.ones((3, 2, 2), dtype=bool)
    masks[2] = False
    assert fed(maps, masks, has_mask=np.array([True, True, False])).compute() == 1.0


def test_where_it_has_no_value_it_says_why() -> None:
    maps, masks = np.ones(SHAPE, dtype=np.float32), np.ones(SHAPE, dtype=bool)
    with pytest.raises(UndefinedMetric, match="no map threshold"):
        fed(maps, masks, threshold=None).compute()
    with pytest.raises(UndefinedMetric, match="no masks"):
        fed(maps, None).compute()
    maps[0, 0, 0] = np.nan
    with pytest.raises(AnomalyError, match="NaN"):
        fed(maps, masks)
