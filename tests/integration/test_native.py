"""Pixel metrics at the images' own resolution, against scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sealing import seal
from sklearn.metrics import roc_auc_score

from anomaly_core import (
    Batch,
    Calibration,
    Evaluator,
    ImageReader,
    InputSpec,
    Prediction,
    RunConfig,
    RunFolder,
    RunResult,
    Sample,
)
from anomaly_core.run.evaluation import native_parts


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Batch, Prediction, InputSpec]:
    """Four images of differing sizes, two with a defect, one of them without its mask; maps that half know it."""
    spec = InputSpec((16, 16), center_crop=(12, 12))
    random = np.random.default_rng(0)
    samples, images, masks = [], [], []
    for number, (width, height) in enumerate(((50, 40), (80, 64), (40, 40), (64, 48))):
        path = tmp_path / f"{number}.png"
        picture = Image.fromarray(random.integers(0, 255, (height, width, 3), dtype=np.uint8))
        picture.save(path)
        truth = np.zeros((height, width), dtype=np.uint8)
        mask_path = None
        if number in (1, 3):
            truth[height // 3 : height // 2, width // 4 : width // 2] = 255
        if number == 1:
            mask_path = tmp_path / "mask.png"
            Image.fromarray(truth).save(mask_path)
        label = int(number in (1, 3))
        samples.append(Sample(path, label, mask_path, "bolts", "dent" if label else "good"))
        images.append(spec.image(picture))
        masks.append(spec.mask(Image.fromarray(truth)) if mask_path else torch.zeros(1, 12, 12, dtype=torch.bool))
    has = torch.tensor([True, True, True, False])
    batch = Batch(torch.stack(images), torch.tensor([0, 1, 0, 1]), torch.stack(masks), has, samples)
    noise = torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    return batch, Prediction(torch.tensor([0.125, 0.875, 0.25, 0.75]), noise + 0.5 * batch.masks.float()), spec


def evaluated(folder: Path, scored: tuple[Batch, Prediction, InputSpec], **options: object) -> RunResult:
    """What a run of these four images would find and write."""
    batch, prediction, spec = scored
    metrics = ["image_auroc", "image_f1_max", "pixel_auroc", "aupimo"]
    overrides = {"data.normal": str(folder), "base.metrics": metrics, **options}
    config = RunConfig.create(model="vanilla_ae", data="folder", overrides=overrides)
    calibration = Calibration(0.5, 0.01, 3, "3 held-out normal images", scores=(0.125, 0.25, 0.5))
    evaluator = Evaluator(config, calibration, ["bolts"], spec)
    evaluator.update(batch, prediction)
    found = evaluator.evaluation()
    result = RunResult(folder, "bolts", found.measures, {}, found.rows, calibration, 1.0, 1.0, found.resolution)
    run = RunFolder(folder)
    run.write_json("calibration.json", calibration.to_dict())
    run.write_result(result, found.curves)
    seal(folder, category="bolts", test_images_per_second=1.0, fit_seconds=1.0)
    return result


def test_the_figures_are_those_of_native_pixels_and_say_so(tmp_path: Path, scored: tuple[Batch, Prediction, InputSpec]) -> None:
    result = evaluated(tmp_path, scored, **{"data.evaluate_at": "native"})
    parts = [pair for pair in native_parts(*scored, ImageReader()) if bool(pair[0].has_mask[0])]
    scores = np.concatenate([predicted.maps.numpy().ravel() for _, predicted in parts])
    labels = np.concatenate([part.masks.numpy().ravel() for part, _ in parts])
    assert result.metrics["pixel_auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert result.metrics["image_auroc"] == 1.0
    assert "maps of one size" in result.undefined["aupimo"]
    written = RunFolder(tmp_path).read_json("metrics.json")
    assert written["resolution"] == {"evaluated_at": "native", "smallest": [30, 30], "largest": [48, 60]}
    assert [name for name, facts in written["metrics"].items() if facts["oracle"]] == ["image_f1_max"]
    assert written["threshold"]["false_alarm_rate"] == 0.01
    low, high = written["threshold"]["false_alarm_interval"]
    assert low < 0.01 < high
    again = RunFolder.open(tmp_path).result()
    assert str(again.resolution) == "30 × 30 to 60 × 48 pixels, the images' own"
    assert [row.p_value for row in again.predictions] == [1.0, 0.25, 0.75, 0.25]


def test_at_the_input_nothing_is_read_again(tmp_path: Path, scored: tuple[Batch, Prediction, InputSpec]) -> None:
    batch, prediction, _ = scored
    for sample in batch.samples:
        sample.path.unlink()
    result = evaluated(tmp_path, scored)
    has = batch.has_mask
    wanted = roc_auc_score(batch.masks[has].numpy().ravel(), prediction.maps[has].numpy().ravel())
    assert result.metrics["pixel_auroc"] == pytest.approx(wanted, abs=1e-9)
    written = RunFolder(tmp_path).read_json("metrics.json")
    assert written["resolution"] == {"evaluated_at": "input", "smallest": [12, 12], "largest": [12, 12]}
