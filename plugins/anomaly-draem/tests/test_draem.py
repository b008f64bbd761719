"""DRAEM against the official code's outputs, and as a modeler on small images."""

from __future__ import annotations

import warnings
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from anomaly_core import Batch, ConfigError, DataError, ModelContext, Sample, registry, validate
from anomaly_draem.draem.config import DRAEMConfig
from anomaly_draem.draem.losses import focal_loss, ssim_loss
from anomaly_draem.draem.model import DRAEMModel
from anomaly_draem.draem.modeler import DRAEMModeler, pixel_shares

SMALL = DRAEMConfig(image_size=(64, 96), reconstructive_width=4, discriminative_width=4, score_window=5, learning_rate=1e-3)
FITTING = ModelContext(pretrained=True)


@pytest.fixture(scope="module")
def golden_modeler(draem: dict[str, Tensor]) -> DRAEMModeler:
    width, channels = int(draem["base_width"]), int(draem["base_channels"])
    size = tuple(draem["image"].shape[-2:])
    modeler = DRAEMModeler(DRAEMConfig(image_size=size, reconstructive_width=width, discriminative_width=channels)).eval()
    for part in ("reconstructive", "discriminative"):
        network = modeler.model.get_submodule(part)
        saved = [value for key, value in draem.items() if key.startswith(f"{part}/")]
        network.load_state_dict(dict(zip(network.state_dict(), saved, strict=True)))
    return modeler


def test_golden_networks_maps_and_scores(draem: dict[str, Tensor], golden_modeler: DRAEMModeler) -> None:
    with torch.inference_mode():
        reconstruction, logits = golden_modeler.model(draem["image"])
        prediction = golden_modeler.predict_step(draem["image"])
    torch.testing.assert_close(reconstruction, draem["reconstruction"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(logits, draem["logits"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(prediction.maps, draem["anomaly_map"], rtol=1e-4, atol=0)
    torch.testing.assert_close(prediction.scores, draem["image_scores"], rtol=1e-4, atol=0)
    assert prediction.reconstruction is not None
    torch.testing.assert_close(prediction.reconstruction, draem["reconstruction"].clamp(0, 1), rtol=1e-4, atol=1e-6)


def test_golden_losses(draem: dict[str, Tensor], golden_modeler: DRAEMModeler) -> None:
    with torch.inference_mode():
        losses, probability = golden_modeler.supervised_step(draem["target"], draem["image"], draem["mask"])
    for name in ("l2_loss", "ssim_loss", "focal_loss"):
        assert float(losses[name]) == pytest.approx(float(draem[name]), rel=1e-4), name
    assert float(losses["loss"]) == pytest.approx(sum(float(losses[name]) for name in losses if name != "loss"), rel=1e-6)
    torch.testing.assert_close(probability, draem["anomaly_map"], rtol=1e-4, atol=0)


def test_normal_pixels_carry_focal_loss() -> None:
    probability = torch.full((1, 1, 8, 8), 0.7, requires_grad=True)
    loss = focal_loss(probability, torch.zeros(1, 1, 8, 8))
    assert float(loss.detach()) == pytest.approx(0.7**2 * -torch.tensor(0.3).log().item(), rel=1e-3)
    loss.backward()
    assert probability.grad is not None
    assert (probability.grad > 0).all()  # each normal pixel is pushed down


def test_focal_loss_of_both_classes_and_at_the_ends() -> None:
    masks = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    apart = focal_loss(torch.tensor([0.2, 0.6]).view_as(masks), masks)
    mirrored = focal_loss(torch.tensor([0.4, 0.8]).view_as(masks), 1 - masks.flip(-1))
    assert float(apart) == pytest.approx(float(mirrored), rel=1e-6)
    assert torch.isfinite(focal_loss(1 - masks, masks))
    assert float(focal_loss(masks, masks)) == pytest.approx(0, abs=1e-6)


def test_ssim_loss_of_an_image_with_itself_and_with_noise(images: Tensor) -> None:
    assert float(ssim_loss(images, images)) == pytest.approx(0, abs=1e-5)
    assert 0.5 < float(ssim_loss(images, torch.rand_like(images))) < 1.2


def test_size_of_the_paper() -> None:
    with torch.device("meta"):
        model = DRAEMModel()
    assert sum(parameter.numel() for parameter in model.parameters()) == 97_422_725


@pytest.mark.parametrize("size", [(64, 96), (72, 101)])
def test_sides_of_any_length(size: tuple[int, int]) -> None:
    reconstruction, logits = DRAEMModel(2, 2)(torch.rand(2, 3, *size))
    assert reconstruction.shape == (2, 3, *size)
    assert logits.shape == (2, 2, *size)


def batch(images: Tensor) -> Batch:
    count = len(images)
    samples = [Sample(Path(f"{number}.png"), 0) for number in range(count)]
    return Batch(images, torch.zeros(count, dtype=torch.long), None, torch.ones(count, dtype=torch.bool), samples)


def test_training_lowers_the_losses_and_finds_the_defects(images: Tensor) -> None:
    torch.manual_seed(0)
    modeler = DRAEMModeler(replace(SMALL, image_size=64, anomaly_probability=1.0, learning_rate=5e-3))
    optimizer, _ = modeler.configure_optimizer(10)
    normal = images[:4, :, :, :64]
    augmented, masks = modeler.synthesize(normal)
    history = []
    for _ in range(60):
        losses, probability = modeler.supervised_step(normal, augmented, masks)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in losses.items()})
    assert all(parameter.grad is not None for parameter in modeler.parameters())
    for name in ("l2_loss", "focal_loss"):
        assert history[-1][name] < history[0][name] / 2, name
    assert probability[masks > 0].mean() > 2 * probability[masks == 0].mean()


def test_prediction_is_each_images_own(images: Tensor) -> None:
    modeler = DRAEMModeler(SMALL)
    losses = modeler.training_step(batch(images))  # moves the running means
    assert {"loss", "l2_loss", "ssim_loss", "focal_loss", "true_positives"} <= set(losses)
    modeler.eval()
    with torch.inference_mode():
        prediction = modeler.predict_step(images)
        singles = [modeler.predict_step(image[None]) for image in images]
    assert prediction.maps is not None
    assert prediction.reconstruction is not None
    assert prediction.maps.shape == (6, 1, 64, 96)
    assert prediction.reconstruction.shape == (6, 3, 64, 96)
    torch.testing.assert_close(torch.cat([single.scores for single in singles]), prediction.scores, rtol=1e-4, atol=1e-6)


def test_its_trainer_fits_it(images: Tensor) -> None:
    component = registry.models["draem"]
    assert component.spec.trainer == "gradient"
    trainer = registry.trainers["gradient"]
    config = validate(trainer.config_class(), {"epochs": 2}, "train")
    modeler = DRAEMModeler(SMALL)
    data = torch.utils.data.DataLoader([batch(image[None]) for image in images], batch_size=3, collate_fn=joined)
    history = trainer.build(config, device="cpu").fit(modeler, data, data)
    assert len(history.rows) == 2
    assert {"train_focal_loss", "val_loss", "val_synthetic_pixel_f1"} <= set(history.rows[0])
    assert not any("positives" in name or "negatives" in name for name in history.rows[0])
    # the held-out images get the same anomalies in every epoch
    torch.manual_seed(3)
    once = modeler.validation_step(batch(images))["loss"]
    torch.manual_seed(3)
    assert torch.equal(once, modeler.validation_step(batch(images))["loss"])


def test_the_f1_of_synthetic_pixels_is_that_of_all_batches_together() -> None:
    masks = torch.zeros(2, 1, 8, 8)
    masks[:, :, :4] = 1
    probability = torch.zeros(2, 1, 8, 8, requires_grad=True) + 0
    probability[..., :2] = 0.9  # a quarter of all pixels, half of them right
    shares = pixel_shares(probability, masks)
    assert {name: float(share) for name, share in shares.items()} == {
        "true_positives": 1 / 8,
        "false_positives": 1 / 8,
        "false_negatives": 3 / 8,
    }
    assert not any(share.requires_grad for share in shares.values())
    modeler = DRAEMModeler(SMALL)
    means = {"loss": 0.5, **{name: float(share) for name, share in shares.items()}}
    assert modeler.summarize(means) == {"loss": 0.5, "synthetic_pixel_f1": pytest.approx(1 / 3)}  # precision 1/2, recall 1/4
    assert modeler.summarize({"loss": 0.5, **dict.fromkeys(shares, 0.0)})["synthetic_pixel_f1"] == 0


def joined(items: list[Batch]) -> Batch:
    return batch(torch.cat([item.images for item in items]))


def test_a_turned_image_is_the_target(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    modeler = DRAEMModeler(replace(SMALL, rotation_probability=1.0, anomaly_probability=0.0))
    seen: list[Tensor] = []
    original = modeler.supervised_step

    def watched(target: Tensor, augmented: Tensor, masks: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        seen.extend((target, augmented, masks))
        return original(target, augmented, masks)

    monkeypatch.setattr(modeler, "supervised_step", watched)
    modeler.training_step(batch(images))
    target, augmented, masks = seen
    assert torch.equal(target, augmented)
    assert not masks.any()
    assert all(not torch.equal(one, other) for one, other in zip(target, images, strict=True))


def test_learning_rate_falls_twice() -> None:
    modeler = DRAEMModeler(SMALL)
    for epochs, falls in ((10, [8, 9]), (700, [560, 630]), (1, [])):
        optimizer, schedule = modeler.configure_optimizer(epochs)
        assert schedule is not None
        rates = []
        for _ in range(epochs):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        assert rates[0] == pytest.approx(1e-3)
        assert [epoch for epoch in range(1, epochs) if rates[epoch] < rates[epoch - 1]] == falls
        if falls:
            assert rates[-1] == pytest.approx(1e-3 / 25)


def test_a_saved_state_scores_the_same(images: Tensor) -> None:
    modeler = DRAEMModeler(SMALL)
    modeler.training_step(batch(images))  # moves the running means
    loaded = DRAEMModeler(SMALL)
    loaded.load_state({key: value.clone() for key, value in modeler.state_dict().items()})
    with torch.inference_mode():
        assert torch.equal(loaded.eval().predict_step(images).scores, modeler.eval().predict_step(images).scores)


def test_without_textures_a_training_modeler_says_so_once() -> None:
    with pytest.warns(UserWarning, match="model.textures") as caught:
        DRAEMModeler(SMALL, FITTING)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DRAEMModeler(SMALL)


def test_textures(tmp_path: Path, images: Tensor) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        DRAEMModeler(replace(SMALL, textures=str(tmp_path / "dtd")), FITTING)
    (tmp_path / "@eaDir").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "@eaDir" / "thumbnail.jpg")  # what a file server leaves is no texture
    with pytest.raises(DataError, match="no image"):
        DRAEMModeler(replace(SMALL, textures=str(tmp_path)), FITTING)
    DRAEMModeler(replace(SMALL, textures=str(tmp_path / "dtd")))  # a finished run needs none
    (tmp_path / "dotted").mkdir()
    Image.new("RGB", (30, 20), (255, 0, 0)).save(tmp_path / "dotted" / "one.jpg")
    modeler = DRAEMModeler(replace(SMALL, textures=str(tmp_path), anomaly_probability=1.0), FITTING)
    torch.manual_seed(0)
    augmented, masks = modeler.synthesize(images)
    changed = (augmented != images).any(dim=1, keepdim=True)
    assert masks.any()
    assert not (changed & (masks == 0)).any()


def test_refused_options() -> None:
    with pytest.raises(ConfigError, match="score_window=4"):
        DRAEMModeler(replace(SMALL, score_window=4))
    with pytest.raises(ConfigError, match="48x48"):
        DRAEMModeler(replace(SMALL, image_size=48))
    with pytest.raises(ConfigError, match="anomaly_probability"):
        validate(DRAEMConfig, {"anomaly_probability": "2"}, "model")


@pytest.mark.parametrize("preset", ["paper", "edge"])
def test_presets_are_valid(preset: str) -> None:
    component = registry.models["draem"]
    package, _, folder = component.spec.presets.partition(":")
    sections = yaml.safe_load((files(package) / folder / f"{preset}.yaml").read_text("utf-8"))
    config = validate(component.config_class(), sections["model"], "model")
    validate(registry.trainers["gradient"].config_class(), sections["train"], "train")
    if preset == "paper":
        assert config == DRAEMConfig()
        assert (sections["data"]["batch_size"], sections["train"]["epochs"]) == (8, 700)


def test_mixed_precision(images: Tensor) -> None:
    modeler = DRAEMModeler(SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = modeler.training_step(batch(images))
    assert losses["loss"].dtype == torch.float32
    assert losses["loss"].isfinite()
