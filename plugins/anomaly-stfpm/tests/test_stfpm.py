"""STFPM against the original's formulas, and as a modeler on small images."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from anomaly_core import Batch, ConfigError, Sample, registry, validate
from anomaly_features import FeatureExtractor
from anomaly_stfpm.stfpm.config import STFPMConfig
from anomaly_stfpm.stfpm.model import STFPMModel, feature_distance, level_losses, score_map
from anomaly_stfpm.stfpm.modeler import STFPMModeler

SMALL = STFPMConfig(image_size=(64, 96), layers=("layer1", "layer2"), map_size=(16, 24), learning_rate=0.1)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "golden" / "stfpm.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


class Fixed(nn.Module):
    """A network that always returns the same feature maps."""

    def __init__(self, golden: dict[str, Tensor], who: str) -> None:
        super().__init__()
        self.features = [golden[f"{who}{level}"] for level in range(3)]

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.features


def test_golden(golden: dict[str, Tensor]) -> None:
    size = int(golden["map_size"])
    model = STFPMModel(Fixed(golden, "teacher"), Fixed(golden, "student"), (size, size))
    distances = model(torch.zeros(3, 3, 128, 128))
    torch.testing.assert_close(sum(level_losses(distances)).double(), golden["loss"], rtol=1e-5, atol=0)
    torch.testing.assert_close(score_map(distances, (size, size))[:, 0].double(), golden["score_maps"], rtol=1e-4, atol=0)
    scores, maps = model.score(distances, (128, 160))
    torch.testing.assert_close(scores.double(), golden["image_scores"], rtol=1e-5, atol=0)
    assert maps.shape == (3, 1, 128, 160)


def test_distance_knows_directions_alone() -> None:
    teacher = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(feature_distance(teacher, 7 * teacher), torch.zeros(2, 3, 4))
    torch.testing.assert_close(feature_distance(teacher, -teacher), torch.full((2, 3, 4), 4.0))
    assert feature_distance(teacher.bfloat16(), teacher.bfloat16()).dtype == torch.float32


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(4, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def batch(images: Tensor) -> Batch:
    count = len(images)
    return Batch(
        images, torch.zeros(count, dtype=torch.long), None, torch.zeros(count, dtype=torch.bool), [Sample(Path("x"))] * count
    )


def build(config: STFPMConfig = SMALL, seed: int = 0) -> STFPMModeler:
    torch.manual_seed(seed)
    return STFPMModeler(config)


def test_student_learns_and_teacher_does_not_change(images: Tensor) -> None:
    modeler = build().train()
    teacher = {key: value.clone() for key, value in modeler.model.teacher.state_dict().items()}
    student = {key: value.clone() for key, value in modeler.model.student.state_dict().items()}
    optimizer, schedule = modeler.configure_optimizer(10)
    assert schedule is None
    losses = []
    for _ in range(8):
        step = modeler.training_step(batch(images))
        assert list(step) == ["loss", "loss_level0", "loss_level1"]
        torch.testing.assert_close(step["loss"], step["loss_level0"] + step["loss_level1"])
        optimizer.zero_grad()
        step["loss"].backward()
        optimizer.step()
        losses.append(float(step["loss"].detach()))
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(value, teacher[key]) for key, value in modeler.model.teacher.state_dict().items())
    changed = [key for key, value in modeler.model.student.state_dict().items() if not torch.equal(value, student[key])]
    assert len(changed) == len(student)  # batch norms' running means and counters among them


def test_optimizer_has_the_options_and_only_the_student() -> None:
    modeler = build(replace(SMALL, learning_rate=0.3, momentum=0.8, weight_decay=1e-3))
    optimizer, _ = modeler.configure_optimizer(1)
    [group] = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.3, 0.8, 1e-3)
    assert {id(p) for p in group["params"]} == {id(p) for p in modeler.model.student.parameters()}


def test_every_trained_parameter_gets_a_gradient() -> None:
    config = STFPMConfig(backbone="tf_efficientnet_lite0", layers=("blocks.1", "blocks.2"), image_size=64)
    modeler = build(config).train()
    before = {key: value.clone() for key, value in modeler.state_dict().items()}
    optimizer, _ = modeler.configure_optimizer(1)
    assert modeler.model.student.training
    assert all(torch.equal(value, before[key]) for key, value in modeler.state_dict().items())
    modeler.training_step(batch(torch.rand(2, 3, 64, 64)))["loss"].backward()
    assert all(parameter.grad is not None for parameter in optimizer.param_groups[0]["params"])


def test_student_starts_at_random_and_whole() -> None:
    one, same, other = (build(seed=seed).model.student.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, same[key]) for key, value in one.items())
    name = "network.layer1.0.conv1.weight"
    assert not torch.equal(one[name], other[name])
    norms = [m for m in build().model.student.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(bool((norm.weight == 1).all()) for norm in norms)


def test_modeler_scores(images: Tensor) -> None:
    modeler = build().train()
    for _ in range(3):
        modeler.training_step(batch(images))  # running means
    modeler.eval()
    with torch.inference_mode():
        prediction = modeler.predict_step(images)
        single = torch.cat([modeler.predict_step(image[None]).scores for image in images])
        product = score_map(modeler.model(images), (16, 24))
    assert prediction.maps is not None
    assert prediction.maps.shape == (4, 1, 64, 96)
    assert torch.equal(prediction.scores, product.amax(dim=(1, 2, 3)))
    torch.testing.assert_close(single, prediction.scores, rtol=1e-4, atol=0)


def test_a_defect_stands_out_of_what_was_learnt() -> None:
    torch.manual_seed(0)
    modeler = build(replace(SMALL, image_size=64, map_size=16)).train()
    optimizer, _ = modeler.configure_optimizer(1)
    rows = torch.linspace(0, 20, 64).sin()[:, None].expand(64, 64)
    normal = (rows * 0.4 + 0.5 + 0.02 * torch.randn(8, 3, 64, 64)).clamp(0, 1)
    for _ in range(15):
        optimizer.zero_grad()
        modeler.training_step(batch(normal))["loss"].backward()
        optimizer.step()
    odd = normal.clone()
    odd[:, :, 24:40, 24:40] = odd[:, :, 24:40, 24:40].flip(2).transpose(2, 3)
    modeler.eval()
    with torch.inference_mode():
        assert modeler.predict_step(odd).scores.min() > modeler.predict_step(normal).scores.max()
        where = modeler.predict_step(odd).maps.mean(dim=0)[0].argmax()
    assert 16 <= where // 64 < 48
    assert 16 <= where % 64 < 48


def test_a_saved_state_scores_the_same(images: Tensor) -> None:
    modeler = build().eval()
    loaded = build(seed=1).eval()
    loaded.load_state({key: value.clone() for key, value in modeler.state_dict().items()})
    with torch.inference_mode():
        assert torch.equal(loaded.predict_step(images).scores, modeler.predict_step(images).scores)


def test_errors() -> None:
    with pytest.raises(ConfigError, match="layer2"):
        STFPMModeler(replace(SMALL, layers=("layer_2",)))
    with pytest.raises(ConfigError, match="learning_rate"):
        validate(STFPMConfig, {"learning_rate": "0"}, "model")


@pytest.mark.parametrize("preset", ["paper", "edge"])
def test_presets_are_valid(preset: str) -> None:
    component = registry.models["stfpm"]
    package, _, folder = component.spec.presets.partition(":")
    sections = yaml.safe_load((files(package) / folder / f"{preset}.yaml").read_text("utf-8"))
    config = validate(component.config_class(), sections["model"], "model")
    assert isinstance(config, STFPMConfig)
    validate(registry.trainers["gradient"].config_class(), sections["train"], "train")
    with torch.device("meta"):
        channels = FeatureExtractor(config.backbone, config.layers).channels
    assert channels == ([64, 128, 256] if preset == "paper" else [24, 40, 112])
    if preset == "paper":
        assert config == STFPMConfig()
