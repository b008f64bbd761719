"""Maps and masks at the images' own resolution, and what pixel metrics make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import Batch, Calibration, ImageReader, InputSpec, Prediction, RunConfig, Sample, read_mask
from anomaly_core.run.evaluation import Evaluator, native_parts

pytestmark = pytest.mark.usefixtures("tiny")


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


def test_native_parts_hold_the_masks_own_pixels(scored: tuple[Batch, Prediction, InputSpec]) -> None:
    batch, prediction, spec = scored
    parts = list(native_parts(batch, prediction, spec, ImageReader()))
    assert [part.samples for part, _ in parts] == [[sample] for sample in batch.samples]
    for (part, predicted), sample in zip(parts, batch.samples, strict=True):
        left, top, right, bottom = spec.native_region(*ImageReader().size(sample.path)[::-1])
        assert predicted.maps.shape == part.masks.shape == (1, 1, bottom - top, right - left)
    whole = np.array(read_mask(batch.samples[1].mask_path)) > 0
    left, top, right, bottom = spec.native_region(80, 64)
    assert np.array_equal(parts[1][0].masks[0, 0].numpy(), whole[top:bottom, left:right])


CALIBRATION = Calibration(0.5, 0.01, 3, "3 held-out normal images", scores=(0.125, 0.25, 0.5))


def evaluator(scored: tuple[Batch, Prediction, InputSpec], **options: object) -> Evaluator:
    """What has taken in the four images."""
    batch, prediction, spec = scored
    overrides = {"base.metrics": ["auroc", "best_accuracy", "contrast"], **options}
    config = RunConfig.create(model="palette", data="tree", overrides=overrides)
    judge = Evaluator(config, CALIBRATION, ["bolts"], spec)
    judge.update(batch, prediction)
    return judge


def contrast(maps: list[np.ndarray], masks: list[np.ndarray]) -> float:
    """Calculated independently."""
    values, marked = (np.concatenate([part.ravel() for part in parts]) for parts in (maps, masks))
    return float(values[marked].mean() - values[~marked].mean())


def test_the_figures_are_those_of_native_pixels_and_say_so(scored: tuple[Batch, Prediction, InputSpec]) -> None:
    evaluation = evaluator(scored, **{"data.evaluate_at": "native"}).evaluation()
    parts = [pair for pair in native_parts(*scored, ImageReader()) if bool(pair[0].has_mask[0])]
    wanted = contrast([predicted.maps.numpy() for _, predicted in parts], [part.masks.numpy() for part, _ in parts])
    assert evaluation.measures["contrast"].value == pytest.approx(wanted, abs=1e-6)
    assert evaluation.measures["auroc"].value == 1.0
    assert evaluation.resolution.evaluated_at == "native"
    assert (evaluation.resolution.smallest, evaluation.resolution.largest) == ((30, 30), (48, 60))
    assert str(evaluation.resolution) == "30 × 30 to 60 × 48 pixels, the images' own"
    assert [row.p_value for row in evaluation.rows] == [1.0, 0.25, 0.75, 0.25]


def test_at_the_input_nothing_is_read_again(scored: tuple[Batch, Prediction, InputSpec]) -> None:
    batch, prediction, _ = scored
    for sample in batch.samples:
        sample.path.unlink()
    evaluation = evaluator(scored).evaluation()
    has = batch.has_mask
    wanted = contrast([prediction.maps[has].numpy()], [batch.masks[has].numpy()])
    assert evaluation.measures["contrast"].value == pytest.approx(wanted, abs=1e-6)
    assert evaluation.resolution.evaluated_at == "input"
    assert evaluation.resolution.smallest == evaluation.resolution.largest == (12, 12)
