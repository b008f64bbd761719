"""AU-sPRO against brute force over every threshold, and AUPRO where the whole defect is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from sklearn.metrics import auc

from anomaly_core import Batch, Prediction, Sample, UndefinedMetric
from anomaly_metrics import au_spro, aupro
from anomaly_metrics.saturated import AUSPRO005, saturated_shares

SHAPE = (2, 5, 6)
MAPS = hnp.arrays(np.float32, SHAPE, elements=st.integers(0, 6).map(float))


def brute_force(maps: np.ndarray, defects: list[list[tuple[np.ndarray, float]]], limit: float) -> float:
    """One threshold after the other."""
    outside = [~np.any([pixels for pixels, _ in own], axis=0) if own else np.ones(maps.shape[1:], bool) for own in defects]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        false = np.mean(np.concatenate([values[mask] >= threshold for values, mask in zip(maps, outside, strict=True)]))
        found = [
            min(np.count_nonzero(values[pixels] >= threshold) / enough, 1)
            for values, own in zip(maps, defects, strict=True)
            for pixels, enough in own
        ]
        points.append((false, np.mean(found)))
    fpr, spro = map(list, zip(*points, strict=True))
    inside = sum(rate <= limit for rate in fpr)
    if inside < len(fpr):
        share = (limit - fpr[inside - 1]) / (fpr[inside] - fpr[inside - 1])
        fpr, spro = [*fpr[:inside], limit], [*spro[:inside], spro[inside - 1] + share * (spro[inside] - spro[inside - 1])]
    return float(auc(fpr, spro) / limit)


def block(rows: slice, columns: slice) -> np.ndarray:
    pixels = np.zeros(SHAPE[1:], dtype=bool)
    pixels[rows, columns] = True
    return pixels


@settings(deadline=None)
@given(MAPS, st.floats(0.3, 6), st.floats(0.3, 8))
def test_every_threshold_one_by_one(maps: np.ndarray, first: float, second: float) -> None:
    defects = [[(block(slice(0, 2), slice(0, 3)), first), (block(slice(1, 3), slice(2, 6)), second)], []]  # they overlap
    for limit in (0.05, 0.3, 1.0):
        assert au_spro(maps, defects, limit) == pytest.approx(brute_force(maps, defects, limit))


@settings(deadline=None)
@given(MAPS)
def test_where_all_of_a_defect_is_needed_it_is_aupro(maps: np.ndarray) -> None:
    pixels = block(slice(1, 4), slice(1, 4))
    masks = np.stack([pixels, np.zeros_like(pixels)])
    assert au_spro(maps, [[(pixels, 9)], []], 0.3) == pytest.approx(aupro(maps, masks, 0.3))


def test_the_highest_pixels_are_enough() -> None:
    scores = np.array([1.0, 4.0, 3.0, 2.0], dtype=np.float32)
    assert saturated_shares(scores, 2.5).tolist() == [0.0, 0.4, 0.4, 0.2]


@dataclass
class Enough:
    share: float

    def pixels(self, area: int) -> float:
        return self.share * area


def write(path: Path, pixels: np.ndarray, value: int) -> Path:
    Image.fromarray(pixels.astype(np.uint8) * np.uint8(value)).save(path)
    return path


def fed(samples: list[Sample], maps: np.ndarray, masks: np.ndarray | None = None) -> AUSPRO005:
    metric = AUSPRO005()
    masks = np.zeros_like(maps, dtype=bool) if masks is None else masks
    for sample, values, mask in zip(samples, maps, masks, strict=True):
        known = torch.tensor([sample.mask_path is not None or sample.label == 0])
        marked = torch.from_numpy(mask)[None, None]
        batch = Batch(torch.zeros(1, 3, 1, 1), torch.tensor([sample.label]), marked, known, [sample])
        metric.update(batch, Prediction(torch.zeros(1), torch.from_numpy(values)[None, None]))
    return metric


def test_masks_of_an_image_and_their_values(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    maps = np.concatenate([maps, maps[:1] + 5])
    one, two = block(slice(0, 2), slice(0, 3)), block(slice(3, 5), slice(2, 6))
    saturation = {"saturation": {7: Enough(0.5), 200: Enough(1.0)}}
    paths = (write(tmp_path / "0.png", one, 7), write(tmp_path / "1.png", two, 200))
    samples = [Sample(Path("a"), 1, paths, extra=saturation), Sample(Path("b"), 0), Sample(Path("c"), 1)]  # c: no mask
    expected = au_spro(maps[:2], [[(one, 3), (two, 8)], []])
    assert fed(samples, maps).compute() == pytest.approx(expected, abs=1e-5)
    both = write(tmp_path / "both.png", one, 7)
    Image.fromarray(one.astype(np.uint8) * np.uint8(7) + two.astype(np.uint8) * np.uint8(200)).save(both)
    assert fed([Sample(Path("a"), 1, both, extra=saturation), samples[1]], maps[:2]).compute() == pytest.approx(
        expected, abs=1e-5
    )


def test_where_nothing_says_how_much_is_enough_it_is_aupro() -> None:
    draw = np.random.default_rng(1)
    maps = draw.random((3, 12, 14), dtype=np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[0, 1:4, 2:5] = masks[0, 7:11, 8:9] = masks[1, 5:7, 0:9] = True
    maps += 0.4 * masks
    samples = [Sample(Path("a"), 1, Path("a.png")), Sample(Path("b"), 1, Path("b.png")), Sample(Path("c"), 0)]
    assert fed(samples, maps, masks).compute() == pytest.approx(aupro(maps, masks, 0.05), abs=1e-4)


def test_where_it_has_no_value_it_says_why(tmp_path: Path) -> None:
    maps = np.zeros(SHAPE, dtype=np.float32)
    mask = write(tmp_path / "0.png", block(slice(0, 2), slice(0, 3)), 9)
    known = {"saturation": {7: Enough(1.0)}}
    for extra, shape, words in (
        (known, maps, "value 9"),
        (known, maps[:, :4], "data.evaluate_at=native"),
    ):
        with pytest.raises(UndefinedMetric, match=words):
            fed([Sample(Path("a"), 1, mask, extra=extra)], shape[:1]).compute()
    with pytest.raises(UndefinedMetric, match="no masks"):
        fed([Sample(Path("a"), 0)], maps[:1]).compute()
