"""FastFlow as a modeler on small images."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anomaly_core import (
    Batch,
    ConfigError,
    GradientModeler,
    ModelContext,
    Sample,
    collate,
    preset_names,
    registry,
    validate,
)
from anomaly_features import Backbones
from anomaly_flow.fastflow.config import FastFlowConfig
from anomaly_flow.fastflow.modeler import FastFlowModeler
from anomaly_trainers import GradientTrainConfig

SMALL = FastFlowConfig(backbone="resnet18.tv_in1k", image_size=(64, 96), flow_steps=3, hidden_ratio=0.25)
TRANSFORMER = replace(SMALL, backbone="deit_tiny_distilled_patch16_224", layers=("blocks.1",), hidden_ratio=0.16)


def built(config: FastFlowConfig = SMALL, seed: int = 0) -> FastFlowModeler:
    torch.manual_seed(seed)
    return FastFlowModeler(config)


def batch(images: Tensor) -> Batch:
    count = len(images)
    return Batch(images, torch.zeros(count), None, torch.ones(count, dtype=torch.bool), [Sample(Path("x"))] * count)


def trained(modeler: FastFlowModeler, images: Tensor, epochs: int = 12) -> list[float]:
    optimizer, schedule = modeler.configure_optimizer(epochs)
    assert schedule is None
    losses = []
    modeler.train()
    for _ in range(epochs):
        loss = modeler.training_step(batch(images))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    modeler.eval()
    return losses


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Smooth pictures that differ in brightness."""
    shade = torch.linspace(0.3, 0.6, 6).view(6, 1, 1, 1)
    return shade + 0.05 * torch.rand(6, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("config", "dimensions"),
    [(SMALL, 64 * 16 * 24 + 128 * 8 * 12 + 256 * 4 * 6), (TRANSFORMER, 192 * 4 * 6)],
    ids=["resnet", "transformer"],
)
def test_training_lowers_the_loss_and_moves_the_flows_alone(images: Tensor, config: FastFlowConfig, dimensions: int) -> None:
    modeler = built(config)
    assert isinstance(modeler, GradientModeler)
    assert modeler.dimensions == dimensions
    frozen, before = copied(modeler.extractor), copied(modeler.model)
    losses = trained(modeler, images)
    assert losses[-1] < losses[0] - 0.05 * dimensions
    after = modeler.state_dict()
    assert all(torch.equal(value, after[f"extractor.{key}"]) for key, value in frozen.items())
    same = {key for key, value in before.items() if torch.equal(value, after[f"model.{key}"])}
    assert same == {key for key in before if "w_perm" in key}
    assert any(key.startswith("norms.") for key in before) == (config is SMALL)


def test_no_engine_compiles_the_network_before_it_has_its_weights() -> None:
    assert not built().extractor._engine._for_size
    assert not built(replace(SMALL, engine="torchscript")).extractor._engine._for_size


def test_an_odd_patch_scores_higher_and_where_it_is(images: Tensor) -> None:
    modeler = built()
    trained(modeler, images, epochs=15)
    odd = images.clone()
    odd[:, :, 16:40, 56:88] = torch.rand(6, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        normal, anomalous = modeler.predict_step(images), modeler.predict_step(odd)
        single = torch.cat([modeler.predict_step(image[None]).scores for image in odd])
        latents, _ = modeler.model(modeler.features(odd))
    assert normal.maps is not None
    assert anomalous.maps is not None
    assert anomalous.maps.shape == (6, 1, 64, 96)
    assert torch.equal(anomalous.scores, anomalous.maps.amax(dim=(1, 2, 3)))
    torch.testing.assert_close(anomalous.maps, modeler.model.anomaly_maps(latents, (64, 96)))
    assert (anomalous.scores > normal.scores).all()
    peaks = anomalous.maps.flatten(1).argmax(dim=1)
    assert ((peaks // 96 - 28).abs() < 24).all()
    assert ((peaks % 96 - 72).abs() < 24).all()
    torch.testing.assert_close(single, anomalous.scores, rtol=1e-4, atol=1e-6)


def test_a_step_on_kept_features_is_the_training_step(images: Tensor) -> None:
    modeler = built().train()
    kept = modeler.features(images)
    assert not any(feature.requires_grad for feature in kept)
    assert [tuple(feature.shape) for feature in kept] == [(6, 64, 16, 24), (6, 128, 8, 12), (6, 256, 4, 6)]
    assert torch.equal(modeler.flow_step(kept)["loss"], modeler.training_step(batch(images))["loss"])
    assert torch.equal(modeler.validation_step(batch(images))["loss"], modeler.training_step(batch(images))["loss"])


@pytest.mark.parametrize("config", [SMALL, TRANSFORMER], ids=["resnet", "transformer"])
def test_a_saved_state_scores_the_same(images: Tensor, config: FastFlowConfig, tmp_path: Path) -> None:
    modeler = built(config)
    trained(modeler, images, epochs=2)
    save_file(modeler.state_dict(), tmp_path / "model.safetensors")
    loaded = built(config, seed=1).eval()
    permutation = "model.flows.0.module_list.0.w_perm"
    assert not torch.equal(loaded.state_dict()[permutation], modeler.state_dict()[permutation])
    loaded.load_state(load_file(tmp_path / "model.safetensors"))
    for key in (permutation, f"{permutation}_inv"):
        assert torch.equal(loaded.state_dict()[key], modeler.state_dict()[key])
    with torch.inference_mode():
        ours, theirs = modeler.predict_step(images), loaded.predict_step(images)
    assert torch.equal(ours.scores, theirs.scores)
    assert ours.maps is not None
    assert theirs.maps is not None
    assert torch.equal(ours.maps, theirs.maps)


def test_optimizer() -> None:
    modeler = built(replace(SMALL, learning_rate=0.02, weight_decay=0.3))
    optimizer, _ = modeler.configure_optimizer(10)
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.Adam)
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.3)
    names = {id(parameter): name for name, parameter in modeler.named_parameters()}
    optimised = {names[id(parameter)] for parameter in group["params"]}
    assert optimised == {name for name in names.values() if name.startswith("model.") and "w_perm" not in name}


def test_fixed_norm_has_no_parameters(images: Tensor) -> None:
    modeler = built(replace(SMALL, trainable_norm=False))
    assert not [key for key in modeler.state_dict() if key.startswith("model.norms.")]
    assert trained(modeler, images, epochs=3)[-1] < 0.5 * modeler.dimensions


@pytest.mark.parametrize("config", [SMALL, TRANSFORMER], ids=["resnet", "transformer"])
def test_weights_come_from_the_backbones(
    config: FastFlowConfig, images: Tensor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, str]] = []

    def load(backbones: Backbones, name: str) -> dict[str, Tensor]:
        asked.append((str(backbones.folder), name))
        return dict(timm.create_model(name).state_dict())

    monkeypatch.setattr(Backbones, "load", load)
    modeler = FastFlowModeler(replace(config, backbones=str(tmp_path)), ModelContext(pretrained=True)).eval()
    assert len(asked) == 1
    assert asked[0][0] == str(tmp_path)
    assert asked[0][1].startswith(config.backbone)
    assert modeler.input_spec.mean == modeler.extractor.mean
    assert modeler.predict_step(images).scores.shape == (6,)


def test_an_epoch_says_nll_and_bits_per_dimension() -> None:
    modeler = built(TRANSFORMER)
    dimensions = modeler.dimensions
    figures = modeler.summarize({"loss": 3.0, "other": 1.0})
    reference = 3.0 + 0.5 * dimensions * math.log(2 * math.pi)
    assert figures == {
        "loss": 3.0,
        "other": 1.0,
        "nll": pytest.approx(reference),
        "bits_per_dim": pytest.approx(reference / (dimensions * math.log(2))),
    }


def test_its_trainer_logs_them(images: Tensor) -> None:
    component = registry.models["fastflow"]
    trainer = registry.trainers[component.spec.trainer]
    assert component.spec.trainer == "gradient"
    data = torch.utils.data.DataLoader([batch(image[None]) for image in images], batch_size=3, collate_fn=collate)
    config = validate(trainer.config_class(), {"epochs": 1}, "train")
    (row,) = trainer.build(config, device="cpu").fit(built(TRANSFORMER), data, data).rows
    dimensions = built(TRANSFORMER).dimensions
    reference = row["val_loss"] + 0.5 * dimensions * math.log(2 * math.pi)
    assert row["val_nll"] == pytest.approx(reference)
    assert row["val_bits_per_dim"] == pytest.approx(reference / (dimensions * math.log(2)))
    assert row["train_nll"] > row["train_loss"]


def test_errors() -> None:
    with pytest.raises(ConfigError, match="layer_2"):
        FastFlowModeler(replace(SMALL, layers=("layer_2",)))
    with pytest.raises(ConfigError, match="image_size"):
        FastFlowModeler(replace(TRANSFORMER, image_size=100))


def sections(preset: str) -> dict[str, dict[str, object]]:
    package, _, folder = registry.models["fastflow"].spec.presets.partition(":")
    return yaml.safe_load((files(package) / folder / f"{preset}.yaml").read_text("utf-8"))


def test_presets_are_valid() -> None:
    component = registry.models["fastflow"]
    names = preset_names(component)
    assert set(names) >= {"paper", "edge", "paper-resnet18", "paper-deit", "paper-cait"}
    configs = {name: validate(component.config_class(), sections(name)["model"], "model") for name in names}
    trainings = {name: validate(GradientTrainConfig, sections(name)["train"], "train") for name in names}
    assert configs["paper"] == FastFlowConfig()
    assert configs["paper-resnet18"] == replace(FastFlowConfig(), backbone="resnet18.tv_in1k", conv3x3_only=True)
    for name, block, size in (("paper-deit", "blocks.7", 384), ("paper-cait", "blocks.40", 448)):
        config = configs[name]
        assert (config.layers, config.image_size, config.flow_steps, config.hidden_ratio) == ((block,), size, 20, 0.16)
    papers = [training for name, training in trainings.items() if name.startswith("paper")]
    assert {(training.epochs, training.gradient_clip, training.keep) for training in papers} == {(500, None, "best")}


def test_options_from_the_command_line() -> None:
    config = validate(FastFlowConfig, {"layers": ["1", "layer3"], "learning_rate": "1e-4", "conv3x3_only": "true"}, "model")
    assert (config.learning_rate, len(config.layers), config.conv3x3_only) == (1e-4, 2, True)
    with pytest.raises(ConfigError, match="hidden_ratio"):
        validate(FastFlowConfig, {"hidden_ratio": "0"}, "model")
