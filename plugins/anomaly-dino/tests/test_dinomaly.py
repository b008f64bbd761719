"""Dinomaly as a modeler, with a small transformer of random weights."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from anomaly_core import Batch, ConfigError, Sample, registry, validate
from anomaly_dino.dinomaly.config import DinomalyConfig
from anomaly_dino.dinomaly.encoder import GroupedTokens
from anomaly_dino.dinomaly.modeler import DinomalyModeler
from anomaly_features import ExtractorOptions, TransformerExtractor

TINY = "vit_tiny_patch16_224"
BLOCKS = ("blocks.1", "blocks.2", "blocks.4", "blocks.5")
SMALL = DinomalyConfig(
    backbone=TINY, layers=BLOCKS, image_size=(64, 96), center_crop=None, map_size=None, mining_steps=4, engine="torch"
)


def build(config: DinomalyConfig = SMALL, seed: int = 0) -> DinomalyModeler:
    torch.manual_seed(seed)
    return DinomalyModeler(config)


def batch(images: Tensor) -> Batch:
    count = len(images)
    return Batch(
        images, torch.zeros(count, dtype=torch.long), None, torch.zeros(count, dtype=torch.bool), [Sample(Path("x"))] * count
    )


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(4, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_groups_are_means_of_the_blocks_raw_tokens(images: Tensor) -> None:
    torch.manual_seed(0)
    encoder = GroupedTokens(TINY, BLOCKS, (64, 96), 2, None, ExtractorOptions(engine="torch"))
    blocks = TransformerExtractor(TINY, BLOCKS, (64, 96), None, ExtractorOptions(engine="torch"), norm=False, tokens=True)
    blocks.load_state_dict(encoder.state_dict())
    first, last = encoder(images)
    tokens = blocks(images)
    torch.testing.assert_close(first, (tokens[0] + tokens[1]) / 2)
    torch.testing.assert_close(last, (tokens[2] + tokens[3]) / 2)
    assert encoder.heads == 3
    assert first.shape == (4, 1 + 4 * 6, 192)


def test_images_are_resized_to_whole_patches() -> None:
    encoder = GroupedTokens(TINY, BLOCKS, (70, 90), 2, None, ExtractorOptions(engine="torch"))
    assert encoder.shapes[0] == (192, 4, 6)
    assert encoder(torch.rand(1, 3, 70, 90))[0].shape == (1, 25, 192)
    prediction = build(replace(SMALL, image_size=(70, 90))).eval().predict_step(torch.rand(1, 3, 70, 90))
    assert prediction.maps is not None
    assert prediction.maps.shape == (1, 1, 70, 90)


def test_it_learns_and_the_transformer_does_not_change(images: Tensor) -> None:
    modeler = build().train()
    frozen = {key: value.clone() for key, value in modeler.extractor.state_dict().items()}
    modeler.steps = 30
    optimizer, schedule = modeler.configure_optimizer(30)
    assert schedule is not None
    losses, shares = [], []
    for _ in range(30):
        step = modeler.training_step(batch(images))
        optimizer.zero_grad()
        step["loss"].backward()
        optimizer.step()
        schedule.step()
        losses.append(float(step["loss"].detach()))
        shares.append(float(step["easy_share"]))
    assert losses[-1] < 0.8 * losses[0]
    assert shares[:6] == pytest.approx([0, 0.225, 0.45, 0.675, 0.9, 0.9])
    assert all(torch.equal(value, frozen[key]) for key, value in modeler.extractor.state_dict().items())
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in modeler.model.parameters()}


@pytest.mark.parametrize(("steps", "warm_up"), [(5000, 100), (50, 5)])
def test_learning_rates(steps: int, warm_up: int) -> None:
    modeler = build()
    modeler.steps = steps
    optimizer, schedule = modeler.configure_optimizer(1)
    assert schedule is not None
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()  # without gradients it does nothing
        schedule.step()
    assert rates[0] == 0
    assert rates[warm_up - 1] == max(rates) == SMALL.learning_rate
    assert rates[-1] == pytest.approx(SMALL.learning_rate / 10, rel=0.02)


def test_dropout_and_weaker_gradients_are_for_training_alone(images: Tensor) -> None:
    modeler = build()
    modeler.train()
    first, second = (float(modeler.training_step(batch(images))["loss"].detach()) for _ in range(2))
    assert first != second
    modeler.eval()
    first, second = (float(modeler.validation_step(batch(images))["loss"].detach()) for _ in range(2))
    assert first == second
    assert int(modeler.iteration) == 2
    assert torch.equal(modeler.trained_state()["iteration"], torch.tensor(2))  # a resumed run goes on from there


def test_training_reads_cached_tokens(images: Tensor) -> None:
    modeler = build().train()
    with modeler.fitting(repeated=True):
        for _ in range(3):
            modeler.training_step(batch(images))
        cache = modeler.extractor.cache
        assert cache is not None
        assert (cache.misses, cache.hits) == (4, 8)
        assert cache.used == 4 * 2 * (1 + 24) * 192 * 4  # two groups, not four blocks


def test_score_is_the_mean_of_the_worst_hundredth(images: Tensor) -> None:
    modeler = build().eval()
    with torch.inference_mode():
        prediction = modeler.predict_step(images)
    assert prediction.maps is not None
    worst = prediction.maps.flatten(1).sort(dim=1, descending=True).values[:, : 64 * 96 // 100]
    torch.testing.assert_close(prediction.scores, worst.mean(dim=1))
    other = build(replace(SMALL, map_size=32)).eval()
    with torch.inference_mode():
        assert other.predict_step(images).maps.shape == (4, 1, 64, 96)  # type: ignore[union-attr]


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r"resnet18.*is none"):
        build(replace(SMALL, backbone="resnet18.tv_in1k"))
    with pytest.raises(ConfigError, match=r"groups=3 does not divide the 4 blocks"):
        build(replace(SMALL, groups=3))
    with pytest.raises(ConfigError, match=r"blocks\.0 to blocks\.11"):
        build(replace(SMALL, layers=("blocks.1", "blocks.12")))


@pytest.mark.parametrize("preset", ["paper", "edge"])
def test_presets_are_valid(preset: str) -> None:
    component = registry.models["dinomaly"]
    package, _, folder = component.spec.presets.partition(":")
    sections = yaml.safe_load((files(package) / folder / f"{preset}.yaml").read_text("utf-8"))
    config = validate(component.config_class(), sections["model"], "model")
    train = validate(registry.trainers["gradient"].config_class(), sections["train"], "train")
    assert (train.gradient_clip, train.keep) == (0.1, "last")  # type: ignore[attr-defined]
    if preset == "paper":
        assert config == DinomalyConfig()
        assert train.steps == 10000  # type: ignore[attr-defined]
