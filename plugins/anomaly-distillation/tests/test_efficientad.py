"""EfficientAD as a modeler, on small images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from anomaly_core import Batch, ConfigError, DataError, ModelContext, registry, validate
from anomaly_distillation.efficientad.config import EfficientADConfig
from anomaly_distillation.efficientad.distilling import FeatureTeacher
from anomaly_distillation.efficientad.model import quantile
from anomaly_distillation.efficientad.modeler import EfficientADModeler
from anomaly_distillation.efficientad.networks import positions

SMALL = EfficientADConfig(
    size="XS", teacher="features", backbone="tf_efficientnet_lite0", image_size=(64, 96), learning_rate=1e-3, border="edge"
)
BatchOf = Callable[[Tensor], Batch]
pytestmark = pytest.mark.filterwarnings("ignore:.*the teacher is not the paper's:UserWarning")


def build(config: EfficientADConfig = SMALL, seed: int = 0) -> EfficientADModeler:
    torch.manual_seed(seed)
    return EfficientADModeler(config, ModelContext(True))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(4, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_student_and_autoencoder_learn_and_the_teacher_does_not(images: Tensor, batch_of: BatchOf) -> None:
    modeler = build()
    with torch.no_grad():
        modeler.before_training([batch_of(images[:2]), batch_of(images[2:])])
        described = modeler.model.taught(modeler._normalised(images)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(described.mean(dim=1), torch.zeros(96), rtol=0, atol=1e-4)
    torch.testing.assert_close(described.std(dim=1, correction=0), torch.ones(96), rtol=1e-3, atol=0)
    before = {key: value.clone() for key, value in modeler.state_dict().items()}
    modeler.steps = 12
    optimizer, _ = modeler.configure_optimizer(3)
    losses = []
    for _ in range(12):
        torch.manual_seed(1)
        step = modeler.train().training_step(batch_of(images))
        assert list(step) == ["loss", "loss_hard", "loss_autoencoder", "loss_student_autoencoder"]
        torch.testing.assert_close(step["loss"], sum(value for name, value in step.items() if name != "loss"))
        optimizer.zero_grad()
        step["loss"].backward()
        optimizer.step()
        losses.append(float(step["loss"].detach()))
    assert losses[-1] < 0.9 * losses[0]
    changed = {key for key, value in modeler.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {key for key in before if key.startswith(("model.student.", "model.autoencoder."))}


def test_the_rate_falls_to_a_tenth_after_95_percent_of_the_steps() -> None:
    modeler = build(replace(SMALL, learning_rate=0.01, weight_decay=0.5))
    modeler.steps = 40
    optimizer, schedule = modeler.configure_optimizer(7)
    assert modeler.schedule_interval == "step"
    assert schedule is not None
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.01] * 38 + [0.001] * 2)
    assert optimizer.param_groups[0]["weight_decay"] == 0.5


def test_quantiles_of_held_out_images_bring_both_maps_to_one_scale(images: Tensor, batch_of: BatchOf) -> None:
    modeler = build()
    with torch.no_grad():
        modeler.before_training([batch_of(images)])
        modeler.eval().after_training([batch_of(images[:3]), batch_of(images[3:])])
        local, of_whole = modeler.model.maps(modeler._normalised(images))
        combined = modeler.model(modeler._normalised(images))
        expected = []
        for part in (local, of_whole):
            low, high = quantile(part.flatten(), 0.9), quantile(part.flatten(), 0.995)
            expected.append(0.1 * (part - low) / (high - low))
    torch.testing.assert_close(combined, torch.stack(expected).mean(dim=0), rtol=1e-3, atol=1e-4)


def test_without_held_out_images_it_warns_and_adds_the_maps(images: Tensor) -> None:
    modeler = build().eval()
    with pytest.warns(UserWarning, match=r"added as they are.*data.holdout"), torch.no_grad():
        modeler.after_training([])
        local, of_whole = modeler.model.maps(modeler._normalised(images))
        torch.testing.assert_close(modeler.model(modeler._normalised(images)), (local + of_whole) / 2)


def test_scores_are_the_greatest_values_of_the_maps(images: Tensor) -> None:
    modeler = build().eval()
    with torch.inference_mode():
        prediction = modeler.predict_step(images)
        zeros = build(replace(SMALL, border="zeros")).eval().predict_step(images)
    assert prediction.maps is not None
    assert prediction.maps.shape == (4, 1, 64, 96)
    assert torch.equal(prediction.scores, prediction.maps.amax(dim=(1, 2, 3)))
    assert zeros.maps is not None
    assert zeros.maps[:, :, 0].eq(0).all()
    assert not prediction.maps[:, :, 0].eq(0).any()
    torch.testing.assert_close(zeros.maps[:, :, 20:40, 20:70], prediction.maps[:, :, 20:40, 20:70])


def test_a_saved_state_scores_the_same_without_weights(images: Tensor) -> None:
    modeler = build().eval()
    assert not [name for name in modeler.trained_state() if "extractor" in name]
    resumed = build(seed=1).eval()
    resumed.load_state(modeler.trained_state(), strict=False)
    loaded = EfficientADModeler(SMALL).eval()
    loaded.load_state({key: value.clone() for key, value in modeler.state_dict().items()})
    with torch.inference_mode():
        assert torch.equal(loaded.predict_step(images).scores, modeler.predict_step(images).scores)
        assert torch.equal(resumed.predict_step(images).scores, modeler.predict_step(images).scores)


def test_features_stand_where_a_small_network_would_see() -> None:
    for size in ((64, 96), (100, 131)):
        modeler = EfficientADModeler(replace(SMALL, image_size=size))
        teacher = modeler.model.teacher
        assert isinstance(teacher, FeatureTeacher)
        with torch.no_grad():
            described = teacher(torch.randn(1, 3, *size))
            assert described.shape == (1, 96, *positions(size))
            assert described.shape[-2:] == modeler.model.student(torch.randn(1, 3, *size)).shape[-2:]


def test_penalty_images_add_a_loss_in_training_alone(images: Tensor, batch_of: BatchOf, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 80, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    modeler = build(replace(SMALL, penalty_images=str(tmp_path)))
    assert "loss_penalty" in modeler.train().training_step(batch_of(images))
    with torch.no_grad():
        assert "loss_penalty" not in modeler.eval().validation_step(batch_of(images))
    with pytest.raises(ConfigError, match=r"model\.penalty_images"):
        build(replace(SMALL, penalty_images=str(tmp_path / "none")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        build(replace(SMALL, penalty_images=str(tmp_path / "empty")))
    assert EfficientADModeler(replace(SMALL, penalty_images="moved away")).origin == ""


@pytest.mark.parametrize("preset", ["paper", "edge"])
def test_presets_are_valid(preset: str) -> None:
    component = registry.models["efficientad"]
    package, _, folder = component.spec.presets.partition(":")
    sections = yaml.safe_load((files(package) / folder / f"{preset}.yaml").read_text("utf-8"))
    config = validate(component.config_class(), sections["model"], "model")
    train = validate(registry.trainers["gradient"].config_class(), sections["train"], "train")
    assert isinstance(config, EfficientADConfig)
    if preset == "paper":
        assert config == EfficientADConfig()
        assert train.steps == 70_000
        assert math.ceil(train.steps / 1) <= train.epochs  # with a single image, too
