"""MVTec LOCO AD's figure from its files: AU-sPRO of a miniature tree, threshold by threshold, and each kind alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import auc, roc_auc_score

from anomaly_core import InputSpec, Prediction, registry, validate
from anomaly_datasets import plugin
from anomaly_datasets.config import MVTecLOCOConfig
from anomaly_datasets.mvtec_loco import MVTecLOCOData

SIZE = (24, 30)
LIMIT = 0.05
CONFIG = [
    {"defect_name": "missing", "pixel_value": 241, "saturation_threshold": 20, "relative_saturation": False},
    {
        "defect_name": "tiny",
        "pixel_value": 242,
        "saturation_threshold": 500,
        "relative_saturation": False,
    },  # more than there are
    {"defect_name": "surplus", "pixel_value": 243, "saturation_threshold": 0.3, "relative_saturation": True},
]
DEFECTS = {  # of each image, the boxes of its masks and their values; two overlap
    "logical_anomalies/000": [((2, 2, 12, 14), 241), ((10, 10, 20, 24), 243)],
    "logical_anomalies/001": [((0, 20, 4, 29), 241)],
    "structural_anomalies/000": [((15, 3, 19, 8), 242)],
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "tray"
    for place in (
        "train/good/000",
        "validation/good/000",
        "test/good/000",
        "test/good/001",
        *(f"test/{name}" for name in DEFECTS),
    ):
        save(rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8), folder / f"{place}.png")
    for name, masks in DEFECTS.items():
        for number, ((top, left, bottom, right), value) in enumerate(masks):
            mask = np.zeros(SIZE, dtype=np.uint8)
            mask[top:bottom, left:right] = value
            save(mask, folder / "ground_truth" / name / f"{number:03d}.png")
    (folder / "defects_config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def save(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def enough(value: int, area: int) -> float:
    (entry,) = (entry for entry in CONFIG if entry["pixel_value"] == value)
    threshold = float(entry["saturation_threshold"])
    return threshold * area if entry["relative_saturation"] else min(threshold, area)


def by_hand(maps: dict[str, np.ndarray]) -> float:
    """Every score as a threshold: the mean over defects of min(found / enough, 1), and the share of false pixels elsewhere."""
    regions, good = [], []
    for name, values in maps.items():
        anywhere = np.zeros(SIZE, dtype=bool)
        for (top, left, bottom, right), value in DEFECTS.get(name, []):
            anywhere[top:bottom, left:right] = True
            found = values[top:bottom, left:right].ravel()
            regions.append((found, enough(value, found.size)))
        good.append(values[~anywhere])
    outside = np.concatenate(good)
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([each.ravel() for each in maps.values()]))[::-1]:
        overlap = np.mean([min(np.count_nonzero(found >= threshold) / least, 1) for found, least in regions])
        points.append((float(np.mean(outside >= threshold)), float(overlap)))
    rates, overlaps = (np.array(column) for column in zip(*points, strict=True))
    inside = rates <= LIMIT
    last = float(np.interp(LIMIT, rates, overlaps))
    return float(auc([*rates[inside], LIMIT], [*overlaps[inside], last]) / LIMIT)


def judged(data: MVTecLOCOData, metrics: Iterable[str], maps: dict[str, np.ndarray]) -> dict[str, float]:
    measures = {name: registry.metrics[name].build() for name in metrics}
    for batch in data.loader(data.test_samples("tray"), InputSpec(SIZE)):
        drawn = torch.from_numpy(np.stack([maps[key(sample.path)] for sample in batch.samples]))[:, None]
        for measure in measures.values():
            measure.update(batch, Prediction(drawn.amax(dim=(1, 2, 3)), drawn))
    return {name: measure.compute() for name, measure in measures.items()}


def key(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture
def maps() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    drawn = {name: rng.random(SIZE, dtype=np.float32) for name in ("good/000", "good/001", *DEFECTS)}
    for name, masks in DEFECTS.items():
        for (top, left, bottom, right), _ in masks:  # a part of each defect stands out
            drawn[name][top : (top + bottom) // 2, left:right] += 0.6
    return drawn


def loco(root: Path, **options: object) -> MVTecLOCOData:
    values = {"name": "mvtec_loco", "root": str(root), "num_workers": 0, **options}
    return MVTecLOCOData(validate(MVTecLOCOConfig, values, "data"), 0, plugin.MVTEC_LOCO)


def test_au_spro_of_a_tree_with_absolute_and_relative_saturation(tree: Path, maps: dict[str, np.ndarray]) -> None:
    expected = by_hand(maps)
    assert 0.1 < expected < 0.95
    assert judged(loco(tree), ["auspro_005"], maps)["auspro_005"] == pytest.approx(expected, abs=2e-3)


def test_each_kind_of_anomaly_alone(tree: Path, maps: dict[str, np.ndarray]) -> None:
    for kind in ("logical", "structural"):
        own = {name: values for name, values in maps.items() if name.startswith(("good", kind))}
        found = judged(loco(tree, kinds=[kind]), ["auspro_005", "image_auroc"], maps)
        labels, scores = [not name.startswith("good") for name in own], [float(values.max()) for values in own.values()]
        assert found["image_auroc"] == pytest.approx(roc_auc_score(labels, scores))
        assert found["auspro_005"] == pytest.approx(by_hand(own), abs=2e-3)
