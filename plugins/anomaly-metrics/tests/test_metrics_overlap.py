"""AUPRO and AUPIMO against golden vectors and brute force over every threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import auc

from anomaly_core import AnomalyError, Batch, Prediction, Sample, UndefinedMetric
from anomaly_metrics import aupimo, aupro, auroc, pixel, pro_curve
from anomaly_metrics.curves import curve
from anomaly_metrics.pixel import AUPIMO, thinned

GOLDEN = Path(__file__).parent / "golden" / "metrics.npz"
SHAPE = (2, 5, 6)
MAPS = hnp.arrays(np.float32, SHAPE, elements=st.one_of(st.integers(0, 3).map(float), st.floats(-9, 9, width=32)))
MASKS = hnp.arrays(bool, SHAPE, elements=st.sampled_from([False, False, True])).filter(lambda m: m.any() and not m.all())


def flood(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """8-connected regions, by walking from pixel to pixel."""
    left, regions = set(zip(*np.nonzero(mask), strict=True)), []
    while left:
        queue = [left.pop()]
        for row, column in queue:
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            queue += near
        regions.append(queue)
    return regions


def pro_by_brute_force(maps: np.ndarray, masks: np.ndarray) -> tuple[list[float], list[float]]:
    """(FPR, PRO), one threshold after the other."""
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        found = [
            np.mean([values[pixel] >= threshold for pixel in region])
            for values, mask in zip(maps, masks, strict=True)
            for region in flood(mask)
        ]
        points.append((np.mean(maps[~masks] >= threshold), np.mean(found)))
    return [fpr for fpr, _ in points], [pro for _, pro in points]


def aupro_by_brute_force(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    fpr, pro = pro_by_brute_force(maps, masks)
    inside = sum(rate <= limit for rate in fpr)
    if inside < len(fpr):
        share = (limit - fpr[inside - 1]) / (fpr[inside] - fpr[inside - 1])
        fpr, pro = [*fpr[:inside], limit], [*pro[:inside], pro[inside - 1] + share * (pro[inside] - pro[inside - 1])]
    return auc(fpr, pro) / limit


def test_golden_aupro():
    golden = np.load(GOLDEN)
    assert aupro(golden["maps"], golden["masks"]) == pytest.approx(float(golden["aupro_030"]), abs=1e-4)
    assert aupro(golden["maps"], golden["masks"], 0.05) == pytest.approx(float(golden["aupro_005"]), abs=1e-4)


@given(MAPS, MASKS, st.sampled_from([0.05, 0.3, 0.5, 1.0]))
@settings(deadline=None, max_examples=40)
def test_aupro_as_by_brute_force(maps, masks, limit):
    assert aupro(maps, masks, limit) == pytest.approx(aupro_by_brute_force(maps, masks, limit), abs=1e-9)


@given(MAPS, MASKS)
@settings(deadline=None, max_examples=40)
def test_the_pro_curve_passes_through_every_threshold(maps, masks):
    fpr, pro = pro_curve(maps, masks)
    assert fpr[0] == pro[0] == 0 and fpr[-1] == 1 and pro[-1] == pytest.approx(1)
    assert (np.diff(fpr) >= 0).all() and (np.diff(pro) >= -1e-12).all()
    for rate, overlap in zip(*pro_by_brute_force(maps, masks), strict=True):
        low, high = lowest_and_highest(fpr, pro, rate)
        assert low - 1e-9 <= overlap <= high + 1e-9


def lowest_and_highest(fpr: np.ndarray, pro: np.ndarray, rate: float) -> tuple[float, float]:
    """The curve's lowest and highest value at a rate, which may be a step."""
    there = pro[np.isclose(fpr, rate, atol=1e-12)]
    return (there.min(), there.max()) if there.size else (float(np.interp(rate, fpr, pro)),) * 2


def test_one_region_of_one_image_is_plain_recall():
    maps, masks = np.random.default_rng(0).normal(size=(1, 16, 16)), np.zeros((1, 16, 16), dtype=bool)
    masks[0, 4:9, 4:9] = True
    assert aupro(maps, masks, 1.0) == pytest.approx(auroc(maps, masks))


def test_a_small_region_counts_as_much_as_a_large_one_and_corners_touch():
    maps, masks = np.zeros((1, 12, 12)), np.zeros((1, 12, 12), dtype=bool)
    masks[0, :4, :4] = True  # found
    masks[0, 8, 8] = masks[0, 9, 9] = True  # one region, as its corners touch; half of it is found
    maps[0, :4, :4] = maps[0, 8, 8] = 1
    at_rate_zero = (1 + 0.5) / 2
    # All the rest ties at 0: a straight line to (1, 1).
    assert aupro(maps, masks, 0.3) == pytest.approx(at_rate_zero + 0.3 / 2 * (1 - at_rate_zero))


def test_the_curve_is_interpolated_at_the_limit():
    # Four normal pixels: rates 0, 1/4, 1/2, ... and no threshold at 0.3.
    maps = np.array([[[4.0, 3.0, 2.0, 1.0, 2.0, 0.0]]])
    masks = np.array([[[0, 1, 0, 0, 1, 0]]])
    # The first pixel is normal: overlap 0 up to 1/4. There it steps to 1/2, and slopes to (1/2, 1) for the tie at 2.
    expected = (0.05 * (0.5 + 0.5 + 0.5 * 0.2) / 2) / 0.3
    assert aupro(maps, masks, 0.3) == pytest.approx(expected)


@pytest.mark.parametrize("form", ["(N, 1, H, W)", "tensor", "grad", "uint8 masks", "float masks"])
def test_takes_tensors_and_arrays(form):
    rng = np.random.default_rng(1)
    masks = rng.random((3, 8, 9)) < 0.2
    maps = (rng.normal(size=masks.shape) + masks).astype(np.float32)
    given = {
        "(N, 1, H, W)": (maps[:, None], masks[:, None]),
        "tensor": (torch.from_numpy(maps)[:, None], torch.from_numpy(masks)),
        "grad": (torch.from_numpy(maps).requires_grad_(), torch.from_numpy(masks)),
        "uint8 masks": (maps, masks.astype(np.uint8) * 255),
        "float masks": (maps, masks.astype(np.float32)),
    }[form]
    assert aupro(*given) == aupro(maps, masks)


@pytest.mark.parametrize("function", [aupro, pro_curve, aupimo])
def test_what_overlap_is_undefined_on_or_refuses(function):
    maps, masks = np.zeros((2, 4, 4)), np.zeros((2, 4, 4), dtype=bool)
    with pytest.raises(UndefinedMetric, match="no mask marks"):
        function(maps, masks)
    with pytest.raises(UndefinedMetric, match=r"all 32 labels are anomalous|0 pixels"):
        function(maps, ~masks)
    with pytest.raises(AnomalyError, match=r"\(2, 4, 4\) against masks of \(2, 5, 4\)"):
        function(maps, np.zeros((2, 5, 4)))
    maps[1, 0, 2] = np.nan
    with pytest.raises(AnomalyError, match=r"1 of 32 scores .* nan at position 18"):
        function(maps, masks)


@pytest.mark.parametrize("limit", [0, -0.1, 1.1, np.nan])
def test_a_limit_that_is_no_rate(limit):
    with pytest.raises(AnomalyError, match="fpr_limit"):
        aupro([[[0.0, 1.0]]], [[[0, 1]]], limit)


def test_a_curve_of_labels_knows_no_regions():
    with pytest.raises(AnomalyError, match="knows no regions"):
        curve([0.0, 1.0], [0, 1]).aupro(0.3)


def aupimo_by_brute_force(maps: np.ndarray, masks: np.ndarray, bounds: tuple[float, float]) -> list[float]:
    """At each of many rates on a log scale, the lowest threshold whose rate on the normal images is not above it."""
    normal = ~masks.any(axis=(1, 2))
    thresholds = np.append(np.unique(maps), np.inf)
    rates = np.array([np.mean([(image >= threshold).mean() for image in maps[normal]]) for threshold in thresholds])
    steps = 2000
    chosen = np.exp(np.log(bounds[0]) + (np.arange(steps) + 0.5) / steps * np.log(bounds[1] / bounds[0]))
    at = [thresholds[np.argmax(rates <= rate + 1e-12)] for rate in chosen]
    return [
        float(np.mean([(image[mask] >= threshold).mean() for threshold in at])) if mask.any() else np.nan
        for image, mask in zip(maps, masks, strict=True)
    ]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("bounds", [(1e-3, 1e-2), (2e-3, 0.5), (0.01, 1.0)])
def test_aupimo_as_by_brute_force(bounds, ties):
    rng = np.random.default_rng(2)
    masks = np.zeros((6, 18, 20), dtype=bool)
    masks[3, 2:7, 3:9] = masks[4, 10:12, 4:16] = masks[5, 0, 0] = True
    maps = rng.normal(size=masks.shape) + masks * rng.uniform(1, 4, size=(6, 1, 1))
    maps = np.round(maps, 1) if ties else maps
    values = aupimo(maps, masks, bounds)
    assert values.shape == (6,) and np.isnan(values[:3]).all()
    np.testing.assert_allclose(values, aupimo_by_brute_force(maps, masks, bounds), atol=2e-3)


def test_normal_pixels_of_anomalous_images_do_not_count():
    rng = np.random.default_rng(3)
    masks = np.zeros((3, 40, 40), dtype=bool)
    masks[2, :5, :5] = True
    maps = rng.normal(size=masks.shape) + masks * 2.5
    before = aupimo(maps, masks, (1e-3, 1e-2))[2]
    maps[2][~masks[2]] += 100
    assert 0 < before < 1 and aupimo(maps, masks, (1e-3, 1e-2))[2] == before


def test_bounds_that_make_no_sense_or_cannot_be_told():
    maps, masks = np.zeros((2, 10, 10)), np.zeros((2, 10, 10), dtype=bool)
    masks[0, 0, 0] = True
    for bounds in ((0.0, 0.5), (0.5, 0.5), (0.5, 0.1), (0.5, 1.5)):
        with pytest.raises(AnomalyError, match="fpr_bounds"):
            aupimo(maps, masks, bounds)
    with pytest.raises(UndefinedMetric, match=r"100 pixels in all: a false-positive rate of 1e-05"):
        aupimo(maps, masks)


def metric_of(maps, masks, labels, has_mask=None, size: int = 3, **settings) -> AUPIMO:
    """An AUPIMO that was fed in batches."""
    metric = AUPIMO()
    for name, value in settings.items():
        setattr(metric, name, value)
    for start in range(0, len(maps), size):
        part = slice(start, start + size)
        count = len(maps[part])
        has = torch.ones(count, dtype=torch.bool) if has_mask is None else torch.as_tensor(has_mask[part])
        mask = None if masks is None else torch.from_numpy(masks[part])[:, None]
        batch = Batch(torch.zeros(count, 3, 1, 1), torch.as_tensor(labels[part]), mask, has, [Sample(Path("x.png"))] * count)
        metric.update(batch, Prediction(torch.zeros(count), torch.from_numpy(maps[part]).float()[:, None]))
    return metric


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(maps, masks, labels) of twelve normal and four anomalous images of 60 x 50, in mixed order."""
    rng = np.random.default_rng(4)
    masks = np.zeros((16, 60, 50), dtype=bool)
    for index in (1, 6, 7, 15):
        masks[index, index : index + 20, 4:30] = True
    maps = (rng.normal(size=masks.shape) + masks * rng.uniform(2, 4, size=(16, 1, 1))).astype(np.float32)
    return maps, masks, masks.any(axis=(1, 2)).astype(np.int64)


def test_the_metric_is_the_mean_of_the_function(images):
    expected = np.nanmean(aupimo(*images[:2], (1e-3, 1e-2)))
    assert metric_of(*images, bounds=(1e-3, 1e-2)).compute() == pytest.approx(expected, abs=1e-12)


def test_the_metric_forgets_normal_pixels_that_cannot_decide(images):
    expected = np.nanmean(aupimo(*images[:2], (1e-3, 1e-2)))
    metric = metric_of(*images, bounds=(1e-3, 1e-2), kept_normal=400)
    assert sum(part.size for part in metric._high) <= 800
    assert metric.compute() == pytest.approx(expected, abs=1e-12)
    with pytest.raises(UndefinedMetric, match="more than the 300 highest"):
        metric_of(*images, bounds=(1e-3, 1e-2), kept_normal=300).compute()


def test_the_metric_keeps_evenly_spaced_pixels_of_large_defects(images):
    expected = np.nanmean(aupimo(*images[:2], (1e-3, 1e-2)))
    metric = metric_of(*images, bounds=(1e-3, 1e-2), kept_defective=100)
    assert {defect.size for defect in metric._defects} == {100}
    assert metric.compute() == pytest.approx(expected, abs=1 / 200)


def test_the_metric_leaves_out_what_is_neither(images):
    maps, masks, labels = images
    expected = metric_of(*images, bounds=(1e-3, 1e-2)).compute()
    more = np.concatenate((maps, maps[:2] + 50)), np.concatenate((masks, np.zeros_like(masks[:2])))
    # One is labelled anomalous but its mask is empty; the other one's mask is missing.
    metric = metric_of(*more, np.append(labels, [1, 1]), np.append(np.ones(17, dtype=bool), False), bounds=(1e-3, 1e-2))
    assert metric.compute() == expected


def test_the_metric_says_why_it_is_undefined(images):
    maps, masks, labels = images
    with pytest.raises(UndefinedMetric, match="has no masks"):
        metric_of(maps, None, labels).compute()
    with pytest.raises(UndefinedMetric, match="no mask marks"):
        metric_of(maps, np.zeros_like(masks), labels * 0).compute()
    with pytest.raises(UndefinedMetric, match="36000 pixels in all"):
        metric_of(maps, masks, labels).compute()
    batch = Batch(torch.zeros(1, 3, 1, 1), torch.zeros(1), None, torch.ones(1), [Sample(Path("x.png"))])
    metric = AUPIMO()
    metric.update(batch, Prediction(torch.zeros(1)))
    with pytest.raises(UndefinedMetric, match="no anomaly maps"):
        metric.compute()
    metric = metric_of(maps, masks, labels)
    metric.update(
        Batch(torch.zeros(1, 3, 1, 1), torch.zeros(1), torch.zeros(1, 1, 4, 4) > 0, torch.ones(1) > 0, []),
        Prediction(torch.zeros(1), torch.zeros(1, 1, 4, 4)),
    )
    with pytest.raises(UndefinedMetric, match="maps of one size"):
        metric.compute()
    maps[2, 3, 4] = np.inf
    with pytest.raises(AnomalyError, match="NaN or infinite"):
        metric_of(maps, masks, labels)


def test_evenly_spaced_pixels_stand_for_as_many_each():
    assert pixel.evenly_spaced(np.arange(10.0, dtype=np.float32), 5).tolist() == [1, 3, 5, 7, 9]
    assert pixel.evenly_spaced(np.arange(4.0, dtype=np.float32), 5).tolist() == [0, 1, 2, 3]


def test_drawn_curves_are_thinned_without_losing_their_area():
    random = np.random.default_rng(0)
    labels = random.random(20_000) < 0.1
    scores = random.normal(size=20_000) + 1.5 * labels
    whole = curve(scores, labels)
    for points, area in ((whole.roc(), whole.auroc()), (whole.precision_recall(), None)):
        x, y = thinned(*points)
        assert len(x) <= 400
        assert x == sorted(x)
        if area is not None:
            assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
            assert auc(x, y) == pytest.approx(area, abs=2e-3)
    assert thinned(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == ([0.0, 1.0], [0.0, 1.0])
