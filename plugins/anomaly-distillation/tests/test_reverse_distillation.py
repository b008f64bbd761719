"""Reverse distillation as a modeler, on small images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from anomaly_core import Batch, ConfigError, registry, validate
from anomaly_distillation.reverse_distillation.config import ReverseDistillationConfig
from anomaly_distillation.reverse_distillation.modeler import ReverseDistillationModeler
from anomaly_features import FeatureExtractor

SMALL = ReverseDistillationConfig(
    backbone="tf_efficientnet_lite0",
    layers=("blocks.1", "blocks.2", "blocks.4"),
    image_size=64,
    block="basic",
    decoder_blocks=(1, 1, 1),
    bottleneck_blocks=1,
)
BatchOf = Callable[[Tensor], Batch]


def build(config: ReverseDistillationConfig = SMALL, seed: int = 0) -> ReverseDistillationModeler:
    torch.manual_seed(seed)
    return ReverseDistillationModeler(config)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_decoder_learns_and_encoder_does_not_change(images: Tensor, batch_of: BatchOf) -> None:
    modeler = build().train()
    before = {key: value.clone() for key, value in modeler.state_dict().items()}
    optimizer, schedule = modeler.configure_optimizer(10)
    assert schedule is None
    [group] = optimizer.param_groups
    assert (group["lr"], group["betas"]) == (0.005, (0.5, 0.999))
    losses = []
    for _ in range(8):
        step = modeler.training_step(batch_of(images))
        assert list(step) == ["loss", "loss_level0", "loss_level1", "loss_level2"]
        torch.testing.assert_close(step["loss"], step["loss_level0"] + step["loss_level1"] + step["loss_level2"])
        optimizer.zero_grad()
        step["loss"].backward()
        optimizer.step()
        losses.append(float(step["loss"].detach()))
    assert losses[-1] < 0.8 * losses[0]
    changed = {key for key, value in modeler.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {key for key in before if key.startswith("model.")}


def test_scores_are_the_greatest_values_of_the_maps(images: Tensor, batch_of: BatchOf) -> None:
    modeler = build().train()
    modeler.training_step(batch_of(images))  # running means
    modeler.eval()
    with torch.inference_mode():
        prediction = modeler.predict_step(images)
        single = torch.cat([modeler.predict_step(image[None]).scores for image in images])
    assert prediction.maps is not None
    assert prediction.maps.shape == (4, 1, 64, 64)
    assert torch.equal(prediction.scores, prediction.maps.amax(dim=(1, 2, 3)))
    torch.testing.assert_close(single, prediction.scores, rtol=1e-4, atol=0)


def test_checkpoints_leave_the_encoder_out_and_runs_hold_it(images: Tensor) -> None:
    modeler, other = build().eval(), build(seed=1).eval()
    assert all(name.startswith("model.") for name in modeler.trained_state())
    other.load_state({key: value.clone() for key, value in modeler.state_dict().items()})
    with torch.inference_mode():
        assert torch.equal(other.predict_step(images).scores, modeler.predict_step(images).scores)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"layers": ("blocks.0", "blocks.2", "blocks.4")}, "strides are 2, 8, 16 pixels"),
        ({"layers": ("blocks.2", "blocks.1", "blocks.4")}, "twice the one before"),
        ({"image_size": (64, 80)}, "multiples of 32, such as 64 and 64"),
        ({"layers": ("blocks.1", "blocks.2", "blocks_4")}, "blocks.4"),
    ],
)
def test_errors(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(replace(SMALL, **wrong))


@pytest.mark.parametrize("preset", ["paper", "edge"])
def test_presets_are_valid(preset: str) -> None:
    component = registry.models["reverse_distillation"]
    package, _, folder = component.spec.presets.partition(":")
    sections = yaml.safe_load((files(package) / folder / f"{preset}.yaml").read_text("utf-8"))
    config = validate(component.config_class(), sections["model"], "model")
    validate(registry.trainers["gradient"].config_class(), sections["train"], "train")
    with torch.device("meta"):
        extractor = FeatureExtractor(config.backbone, config.layers)
    assert extractor.strides == [4, 8, 16]
    if preset == "paper":
        assert config == ReverseDistillationConfig()
