"""Pixel metrics at the images' own resolution: the geometry there and back, and what a judge makes of it."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from anomaly_core.calibration import Calibration
from anomaly_core.config import RunConfig
from anomaly_core.experiment import Experiment
from anomaly_core.inputs import InputSpec, image_size, read_mask
from anomaly_core.judge import Judge
from anomaly_core.native import native_parts
from anomaly_core.results import Resolution, RunResult
from anomaly_core.types import Batch, Prediction, Sample

SPECS = [
    InputSpec((32, 32)),
    InputSpec((40, 24)),
    InputSpec((32, 32), center_crop=(24, 20)),
    InputSpec((32, 32), "keep"),
    InputSpec((32, 32), "keep", center_crop=(28, 28)),
    InputSpec((32, 32), "pad"),
    InputSpec((32, 48), "pad", center_crop=(20, 40)),
]


def test_a_stretched_map_is_what_torch_interpolates() -> None:
    small = torch.randn(1, 28, 28, generator=torch.Generator().manual_seed(0))
    for width, height in ((90, 70), (28, 28), (17, 40)):
        wanted = F.interpolate(small[None], (height, width), mode="bilinear", align_corners=False)[0]
        assert torch.allclose(InputSpec((28, 28)).native_map(small, width, height), wanted, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("size", [(120, 90), (90, 120), (64, 64)])
def test_what_the_network_sees_comes_back_to_its_place(spec: InputSpec, size: tuple[int, int]) -> None:
    """Two ramps tell where each pixel was; they go through the image's geometry and back."""
    width, height = size
    left, top, right, bottom = spec.native_region(width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    for axis in (0, 1):
        ramp = np.broadcast_to(np.linspace(0, 250, size[axis]), (height, width) if axis == 0 else (width, height))
        ramp = ramp if axis == 0 else ramp.T
        picture = Image.fromarray(np.repeat(ramp[..., None], 3, axis=2).round().astype(np.uint8))
        back = spec.native_map(spec.image(picture)[:1] * 255, width, height)[0].numpy()
        assert back.shape == (bottom - top, right - left)
        inside = np.s_[6:-6, 6:-6]  # the border has nothing beyond it to blend with
        assert np.abs(back - ramp[top:bottom, left:right])[inside].max() < 250 / size[axis] * 1.2


def test_the_size_of_a_turned_photograph(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (30, 20)).save(tmp_path / "plain.jpg")
    assert image_size(tmp_path / "turned.jpg") == (30, 20)
    assert image_size(tmp_path / "plain.jpg") == (20, 30)


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
    parts = list(native_parts(batch, prediction, spec))
    assert [part.samples for part, _ in parts] == [[sample] for sample in batch.samples]
    for (part, predicted), sample in zip(parts, batch.samples, strict=True):
        left, top, right, bottom = spec.native_region(*image_size(sample.path)[::-1])
        assert predicted.maps.shape == part.masks.shape == (1, 1, bottom - top, right - left)
    whole = np.array(read_mask(batch.samples[1].mask_path)) > 0
    left, top, right, bottom = spec.native_region(80, 64)
    assert np.array_equal(parts[1][0].masks[0, 0].numpy(), whole[top:bottom, left:right])


def judged(tmp_path: Path, scored: tuple[Batch, Prediction, InputSpec], **options: object) -> tuple[Judge, Experiment]:
    batch, prediction, spec = scored
    metrics = ["image_auroc", "image_f1_max", "pixel_auroc", "aupimo"]
    overrides = {"data.normal": str(tmp_path), "base.metrics": metrics, **options}
    config = RunConfig.create(model="vanilla_ae", data="folder", overrides=overrides)
    experiment = Experiment(tmp_path / "run")
    experiment.write_json("manifest.json", {"status": "complete", "category": "bolts"})
    calibration = Calibration(0.5, 0.01, 3, "3 held-out normal images", scores=(0.125, 0.25, 0.5))
    experiment.write_json("calibration.json", calibration.to_dict())
    judge = Judge(config, calibration, ["bolts"], experiment, spec)
    judge.update(batch, prediction)
    return judge, experiment


def test_the_figures_are_those_of_native_pixels_and_say_so(tmp_path: Path, scored: tuple[Batch, Prediction, InputSpec]) -> None:
    judge, experiment = judged(tmp_path, scored, **{"data.evaluate_at": "native"})
    result = judge.finish("bolts", {}, 1.0, 1.0)
    parts = [pair for pair in native_parts(*scored) if bool(pair[0].has_mask[0])]
    scores = np.concatenate([predicted.maps.numpy().ravel() for _, predicted in parts])
    labels = np.concatenate([part.masks.numpy().ravel() for part, _ in parts])
    assert result.metrics["pixel_auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert result.metrics["image_auroc"] == 1.0
    assert "maps of one size" in result.undefined["aupimo"]
    written = experiment.read_json("metrics.json")
    assert (written["evaluated_at"], written["resolution"]) == ("native", [[30, 30], [48, 60]])
    assert written["oracles"] == ["image_f1_max"]
    assert written["false_alarm_rate"]["asked"] == 0.01
    assert written["false_alarm_rate"]["low"] < 0.01 < written["false_alarm_rate"]["high"]
    again = RunResult.load(experiment.folder)
    assert str(again.resolution) == "30 × 30 to 60 × 48 pixels, the images' own"
    assert [row["p_value"] for row in again.predictions] == ["1.0", "0.25", "0.75", "0.25"]


def test_at_the_input_nothing_is_read_again(tmp_path: Path, scored: tuple[Batch, Prediction, InputSpec]) -> None:
    batch, prediction, _ = scored
    for sample in batch.samples:
        sample.path.unlink()
    judge, experiment = judged(tmp_path, scored, **{"base.pictures": 0})
    result = judge.finish("bolts", {}, 1.0, 1.0)
    has = batch.has_mask
    wanted = roc_auc_score(batch.masks[has].numpy().ravel(), prediction.maps[has].numpy().ravel())
    assert result.metrics["pixel_auroc"] == pytest.approx(wanted, abs=1e-9)
    written = json.loads((experiment.folder / "metrics.json").read_text())
    assert (written["evaluated_at"], written["resolution"]) == ("input", [12, 12])


def test_all_pictures_are_saved_at_once_and_none_is_kept(tmp_path: Path, scored: tuple[Batch, Prediction, InputSpec]) -> None:
    judge, experiment = judged(tmp_path, scored, **{"base.pictures": "all", "base.metrics": ["image_auroc"]})
    assert len(list((experiment.folder / "maps").iterdir())) == 4
    batch, prediction, _ = scored
    for _ in range(2):
        copy = Batch(batch.images.clone(), batch.labels, batch.masks.clone(), batch.has_mask, batch.samples)
        maps = prediction.maps.clone()
        gone = [weakref.ref(copy.images), weakref.ref(copy.masks), weakref.ref(maps)]
        judge.update(copy, Prediction(prediction.scores, maps))
        del copy, maps
        gc.collect()
        assert [reference() for reference in gone] == [None, None, None]


def test_some_pictures_are_no_more_than_that_many_of_every_kind(
    tmp_path: Path, scored: tuple[Batch, Prediction, InputSpec]
) -> None:
    judge, experiment = judged(tmp_path, scored, **{"base.pictures": 3})
    for _ in range(5):
        judge.update(*scored[:2])
        assert sum(map(len, judge._kept.values())) == 3
    judge.finish("bolts", {}, 1.0, 1.0)
    names = sorted(path.name for path in (experiment.folder / "maps").iterdir())
    assert names == ["0000-bolts-good-0.png", "0001-bolts-dent-1.png", "0002-bolts-good-2.png"]


@pytest.mark.parametrize("found", [Resolution(), Resolution("input", (8, 9), (8, 9)), Resolution("native", (8, 9), (20, 30))])
def test_a_resolution_survives_json(found: Resolution) -> None:
    assert Resolution.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert str(Resolution.from_dict({})) == ""
