"""SuperSimpleNet as a modeler, on small images."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch
import yaml

from anomaly_core import Batch, Sample, registry, validate
from anomaly_features import FeatureCache
from anomaly_simplenet.supersimplenet.config import SuperSimpleNetConfig
from anomaly_simplenet.supersimplenet.losses import losses
from anomaly_simplenet.supersimplenet.model import SuperSimpleNetModel
from anomaly_simplenet.supersimplenet.modeler import SuperSimpleNetModeler, mirrored
from anomaly_simplenet.supersimplenet.noise import random_blots

SMALL = SuperSimpleNetConfig(
    backbone="resnet18.tv_in1k",
    layers=("layer1", "layer2"),
    image_size=(64, 96),
    hidden_channels=16,
    head_channels=8,
    upscale=1,
)


def build(config: SuperSimpleNetConfig = SMALL, seed: int = 0) -> SuperSimpleNetModeler:
    torch.manual_seed(seed)
    return SuperSimpleNetModeler(config)


def batch(count: int = 4, defects: int = 0, masks: str = "all") -> Batch:
    """Grey stripes; the last ``defects`` images have a bright square, with ``all`` masks, those of the first, or ``none``."""
    generator = torch.Generator().manual_seed(count + 10 * defects)
    rows = torch.linspace(0, 20, 64).sin()[:, None].expand(64, 96)
    images = (rows * 0.3 + 0.5 + 0.02 * torch.randn(count, 3, 64, 96, generator=generator)).clamp(0, 1)
    labels, drawn, known = torch.zeros(count, dtype=torch.long), torch.zeros(count, 1, 64, 96, dtype=torch.bool), []
    for i in range(count - defects, count):
        images[i, :, 20:36, 30:46], labels[i] = 1.0, 1
        known.append(masks == "all" or (masks == "first" and i == count - defects))
        drawn[i, :, 20:36, 30:46] = known[-1]
    has_mask = torch.tensor([masks != "none"] * (count - defects) + known)
    samples = [Sample(Path(f"{i}.png"), int(label)) for i, label in enumerate(labels)]
    return Batch(images, labels, None if masks == "none" else drawn, has_mask, samples)


def test_only_adaptor_and_heads_learn_and_all_of_them() -> None:
    modeler = build(replace(SMALL, stop_grad=False)).train()
    frozen = {key: value.clone() for key, value in modeler.extractor.state_dict().items()}
    optimizer, _ = modeler.configure_optimizer(10)
    step = modeler.training_step(batch())
    torch.testing.assert_close(step["loss"], step["l1_map"] + step["focal_map"] + step["focal_score"])
    step["loss"].backward()
    optimizer.step()
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert all(parameter.grad is not None for parameter in trained)
    assert {id(p) for p in trained} == {id(p) for p in modeler.parameters() if p.requires_grad}
    assert all(torch.equal(value, frozen[key]) for key, value in modeler.extractor.state_dict().items())


def test_optimizer_and_schedule_are_the_papers() -> None:
    modeler = build()
    modeler.steps = 300  # of one batch an epoch
    optimizer, schedule = modeler.configure_optimizer(300)
    adaptor, heads = optimizer.param_groups
    assert (adaptor["lr"], adaptor["weight_decay"]) == (1e-4, 0.01)
    assert (heads["lr"], heads["weight_decay"]) == (2e-4, 1e-5)
    assert schedule is not None
    rates = []
    for _ in range(300):
        rates.append(optimizer.param_groups[1]["lr"])
        optimizer.step()
        schedule.step()
    assert (rates[239], rates[240], rates[269], rates[270]) == pytest.approx((2e-4, 8e-5, 8e-5, 3.2e-5))


@pytest.mark.parametrize("masks", ["all", "first", "none"])
def test_learns_known_defects_with_masks_or_without(masks: str) -> None:
    config = replace(SMALL, learning_rate=1e-2, adaptor_learning_rate=1e-3, stop_grad=masks == "all", noise_std=1e-6)
    modeler = build(config).train()
    optimizer, _ = modeler.configure_optimizer(10)
    for _ in range(25):  # noise that small teaches nothing: what it finds it has from the defects
        optimizer.zero_grad()
        modeler.training_step(batch(6, 3, masks))["loss"].backward()
        optimizer.step()
    modeler.eval()
    with torch.inference_mode():
        new = modeler.predict_step(batch(8, 4).images)
    assert new.scores[4:].min() > new.scores[:4].max()
    if masks != "none":
        assert new.maps is not None
        inside = batch(8, 4).masks
        assert new.maps[inside].mean() > new.maps[~inside].mean() + 0.1


def test_a_map_without_a_mask_is_not_judged() -> None:
    torch.manual_seed(0)
    map_logits, score_logits = torch.randn(4, 1, 3, 3, requires_grad=True), torch.randn(4, requires_grad=True)
    labels, masks = torch.tensor([False, True, True, False]), torch.zeros(4, 1, 3, 3, dtype=torch.bool)
    losses(map_logits, score_logits, masks, labels, torch.tensor([True, False, True, True]))["loss"].backward()
    assert map_logits.grad is not None and score_logits.grad is not None
    assert [bool(part.any()) for part in map_logits.grad] == [True, False, True, True]
    assert bool((score_logits.grad != 0).all())
    nothing = losses(map_logits, score_logits, masks, labels, torch.zeros(4, dtype=torch.bool))
    assert (float(nothing["l1_map"].detach()), float(nothing["focal_map"].detach())) == (0, 0)


def test_mirrored_defects_keep_their_masks_and_normal_images_stay() -> None:
    torch.manual_seed(0)
    images = torch.arange(60 * 3 * 4 * 6, dtype=torch.float32).view(60, 3, 4, 6)
    masks = images[:, :1] % 5 < 1
    chosen = torch.arange(60) >= 20
    turned, turned_masks = mirrored(images, masks, chosen)
    assert torch.equal(turned[:20], images[:20])
    assert torch.equal(turned_masks, turned[:, :1] % 5 < 1)
    kinds = [tuple(int(v) for v in (one[0, 0, 0] - ref[0, 0, 0],)) for one, ref in zip(turned[20:], images[20:], strict=True)]
    assert set(kinds) == {(0,), (18,), (5,), (23,)}  # as it is, upside down, left to right, both


def test_blots() -> None:
    torch.manual_seed(0)
    blots = random_blots(400, (28, 40), 0.2)
    assert blots.shape == (400, 1, 28, 40)
    empty = ~blots.flatten(1).any(dim=1)
    assert 0.5 < empty.float().mean() < 0.7  # half of them, and those where no noise is so high
    larger, smaller = (random_blots(400, (28, 40), threshold).float().mean() for threshold in (0.0, 0.6))
    assert larger > 3 * smaller > 0


def test_everywhere_is_the_second_half() -> None:
    modeler = build(replace(SMALL, noise_places="everywhere"))
    assert modeler._places(4, (2, 3)).flatten(1).float().mean(dim=1).tolist() == [0, 0, 1, 1]


def test_standardized_features() -> None:
    modeler = build(replace(SMALL, standardize=True)).eval()
    first, second = batch(6), batch(5, 2)
    modeler.extractor.cache = FeatureCache(1 << 24)
    modeler.before_training([first, batch(3, 3), second])  # the one in between has defects alone
    with torch.no_grad():
        features = modeler.features(torch.cat([first.images, second.images[:3]]))  # of the normal images
    torch.testing.assert_close(features.mean(dim=(0, 2, 3)), torch.zeros(features.shape[1]), rtol=0, atol=1e-3)
    deviations = features.std(dim=(0, 2, 3))
    alive = deviations > 0.1  # random weights leave some channels silent
    assert alive.sum() > 100
    torch.testing.assert_close(deviations[alive], torch.ones_like(deviations[alive]), rtol=1e-2, atol=0)
    loaded = build(replace(SMALL, standardize=True), seed=1).eval()
    loaded.load_state(modeler.trained_state(), strict=False)
    assert torch.equal(loaded.feature_std, modeler.feature_std)


@pytest.mark.parametrize("image_score", ["head", "map"])
def test_scores_are_each_images_own(image_score: str) -> None:
    modeler = build(replace(SMALL, image_score=image_score)).train()
    modeler.training_step(batch())  # running means
    modeler.eval()
    images = batch(5, 2).images
    with torch.inference_mode():
        prediction = modeler.predict_step(images)
        single = torch.cat([modeler.predict_step(image[None]).scores for image in images])
    assert prediction.maps is not None and prediction.maps.shape == (5, 1, 64, 96)
    torch.testing.assert_close(single, prediction.scores, rtol=1e-4, atol=1e-5)
    assert torch.equal(prediction.scores, prediction.maps.amax(dim=(1, 2, 3))) == (image_score == "map")


def test_held_out_images_are_judged_without_flips_and_alike() -> None:
    modeler = build().eval()
    values = []
    for _ in range(2):
        torch.manual_seed(3)
        values.append(modeler.validation_step(batch())["loss"])
    assert torch.equal(*values)


@pytest.mark.parametrize("preset", ["paper", "paper-supervised", "edge"])
def test_presets_are_valid(preset: str) -> None:
    component = registry.models["supersimplenet"]
    package, _, folder = component.spec.presets.partition(":")
    sections = yaml.safe_load((files(package) / folder / f"{preset}.yaml").read_text("utf-8"))
    config = validate(component.config_class(), sections["model"], "model")
    train = validate(registry.trainers["gradient"].config_class(), sections["train"], "train")
    if preset == "paper":
        assert config == SuperSimpleNetConfig()
        assert (train.epochs, train.gradient_clip, train.keep) == (300, None, "last")
    if preset == "paper-supervised":
        assert config == SuperSimpleNetConfig(perlin_threshold=0.6, stop_grad=False)
        assert (train.epochs, train.gradient_clip) == (300, 1.0)


def test_size_of_the_paper() -> None:
    with torch.device("meta"):
        model = SuperSimpleNetModel(1536)
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_856_835


def test_mixed_precision() -> None:
    modeler = build().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = modeler.training_step(batch(4, 1))
    assert step["loss"].dtype == torch.float32
    assert bool(step["loss"].isfinite())
