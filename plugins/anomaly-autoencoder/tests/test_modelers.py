"""The four methods as a run drives them, on small images."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from anomaly_autoencoder.config import AutoencoderConfig, SkipConfig
from anomaly_autoencoder.modeler import ReconstructionModeler
from anomaly_autoencoder.vae.config import VanillaVAEConfig
from anomaly_autoencoder.vae.modeler import VAEModeler
from anomaly_core import Batch, ConfigError, GradientModeler, Sample, registry, validate
from anomaly_trainers import GradientTrainConfig

METHODS = ["vanilla_ae", "unet_ae", "vanilla_vae", "unet_vae"]
VARIATIONAL = METHODS[2:]
SMALL: dict[str, Any] = {
    "image_size": (48, 64),
    "widths": (8, 12, 16),
    "bottleneck": "map",
    "latent_dim": 4,
    "mse_weight": 1.0,
    "ssim_weight": 0.1,
    "map_error_weight": 1.0,
    "map_ssim_weight": 0.2,
    "sigma": 2.0,
    "learning_rate": 5e-3,
}


def built(name: str, seed: int = 0, **options: Any) -> ReconstructionModeler:
    more = {"skips": (2, 4)} if name.startswith("unet") else {}
    more |= {"beta": 0.01} if name in VARIATIONAL else {}
    torch.manual_seed(seed)
    config = validate(registry.models[name].config_class(), {**SMALL, **more, **options}, "model")
    return registry.models[name].build(config)  # type: ignore[no-any-return]


def batch(images: Tensor) -> Batch:
    count = len(images)
    return Batch(images, torch.zeros(count), None, torch.ones(count, dtype=torch.bool), [Sample(Path("x"))] * count)


def trained(modeler: ReconstructionModeler, images: Tensor, epochs: int) -> list[float]:
    optimizer, schedule = modeler.configure_optimizer(epochs)
    modeler.train()
    losses = []
    for epoch in range(1, epochs + 1):
        modeler.start_epoch(epoch, epochs)
        loss = modeler.training_step(batch(images))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        losses.append(float(loss.detach()))
    modeler.eval()
    return losses


@pytest.mark.parametrize("name", METHODS)
def test_training_lowers_the_loss_and_a_blot_scores_higher(name: str, images: Tensor, tmp_path: Path) -> None:
    modeler = built(name)
    assert isinstance(modeler, GradientModeler)
    losses = trained(modeler, images, epochs=25)
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    odd = images.clone()
    odd[:, :, 16:28, 36:48] = torch.tensor([0.9, 0.1, 0.1]).view(3, 1, 1)
    with torch.inference_mode():
        normal, anomalous = modeler.predict_step(images), modeler.predict_step(odd)
        single = [modeler.predict_step(image[None]) for image in odd]
    assert anomalous.maps is not None
    assert anomalous.reconstruction is not None
    assert anomalous.maps.shape == (6, 1, 48, 64)
    assert anomalous.reconstruction.shape == images.shape
    assert 0 <= float(anomalous.reconstruction.min()) <= float(anomalous.reconstruction.max()) <= 1
    assert (anomalous.scores > normal.scores).all()
    peaks = anomalous.maps.flatten(1).argmax(dim=1)
    assert ((peaks // 64 - 22).abs() < 10).all()
    assert ((peaks % 64 - 42).abs() < 10).all()
    torch.testing.assert_close(torch.cat([part.scores for part in single]), anomalous.scores, rtol=1e-4, atol=1e-6)

    save_file(modeler.state_dict(), tmp_path / "model.safetensors")
    loaded = built(name, seed=1).eval()
    loaded.load_state(load_file(tmp_path / "model.safetensors"))
    with torch.inference_mode():
        assert torch.equal(loaded.predict_step(odd).scores, anomalous.scores)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_tells_the_loss_and_its_parts(name: str, images: Tensor) -> None:
    modeler = built(name).train()
    parts = modeler.training_step(batch(images))
    variational = {"kl_loss", "beta"} if name in VARIATIONAL else set()
    assert set(parts) == {"loss", "mse_loss", "l1_loss", "ssim_loss", "psnr", "ssim"} | variational
    weighed = parts["mse_loss"] + 0.1 * parts["ssim_loss"]
    weighed = weighed + parts["beta"] * parts["kl_loss"] if variational else weighed
    torch.testing.assert_close(parts["loss"], weighed)
    parts["loss"].backward()
    assert all(bool((parameter.grad != 0).any()) for parameter in modeler.parameters() if parameter.grad is not None)
    assert all(parameter.grad is not None for parameter in modeler.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_is_of_the_clean_images(name: str, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise goes in, and the image without it is what comes out of a perfect network."""
    modeler = built(name, noise_strength=0.3, ssim_weight=0.0).train()
    seen: list[Tensor] = []

    def perfect(corrupted: Tensor) -> Any:
        seen.append(corrupted)
        zeros = torch.zeros(6, 1, 1, 1)
        return (images, zeros, zeros) if name in VARIATIONAL else images

    monkeypatch.setattr(modeler.model, "forward", perfect)
    assert float(modeler.training_step(batch(images))["mse_loss"]) == 0
    assert not torch.equal(seen[0], images)
    modeler.predict_step(images)
    assert torch.equal(seen[1], images)


@pytest.mark.parametrize("name", ["unet_ae", "unet_vae"])
def test_validation_repeats_itself_with_its_seed(name: str, images: Tensor) -> None:
    modeler = built(name).eval()
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(modeler.validation_step(batch(images))["loss"])
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])  # other blots


@pytest.mark.parametrize("name", VARIATIONAL)
def test_beta_warms_up_and_validation_has_all_of_it(name: str, images: Tensor) -> None:
    modeler = built(name, beta=0.4, beta_warmup_epochs=4)
    assert isinstance(modeler, VAEModeler)
    told = []
    for epoch in (1, 2, 4, 9):
        modeler.start_epoch(epoch, 10)
        told.append(float(modeler.train().training_step(batch(images))["beta"]))
        assert float(modeler.eval().validation_step(batch(images))["beta"]) == pytest.approx(0.4)
    assert told == pytest.approx([0.1, 0.2, 0.4, 0.4])
    modeler.start_epoch(1, 10)
    assert float(modeler.training_step(batch(images))["beta"]) == pytest.approx(0.1)
    without = built(name, beta=0.4)
    without.start_epoch(1, 10)
    assert float(without.train().training_step(batch(images))["beta"]) == pytest.approx(0.4)


def test_a_variational_score_is_always_the_same(images: Tensor) -> None:
    modeler = built("vanilla_vae", noise_strength=0.0).eval()
    with torch.inference_mode():
        assert torch.equal(modeler.predict_step(images).scores, modeler.predict_step(images).scores)
    assert torch.equal(modeler.validation_step(batch(images))["loss"], modeler.validation_step(batch(images))["loss"])
    modeler.train()
    assert not torch.equal(modeler.training_step(batch(images))["loss"], modeler.training_step(batch(images))["loss"])


def test_optimizer_and_schedule() -> None:
    modeler = built("vanilla_ae", learning_rate=0.02, weight_decay=0.3, schedule="cosine")
    optimizer, schedule = modeler.configure_optimizer(10)
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.Adam)
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.3)
    assert schedule is not None
    rates = []
    for _ in range(10):
        optimizer.step()
        schedule.step()
        rates.append(group["lr"])
    assert rates[4] == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert built("vanilla_ae").configure_optimizer(10)[1] is None


@pytest.mark.parametrize("size", [(50, 70), (33, 47), 11])
@pytest.mark.parametrize("name", METHODS)
def test_any_image_size(name: str, size: int | tuple[int, int]) -> None:
    modeler = built(name, image_size=size, bottleneck="vector")
    height, width = modeler.input_spec.output_size
    images = torch.rand(2, 3, height, width)
    assert bool(modeler.training_step(batch(images))["loss"].isfinite())
    prediction = modeler.eval().predict_step(images)
    assert prediction.maps is not None
    assert prediction.maps.shape == (2, 1, height, width)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 10}, "SSIM's window of 11x11"),
        ({"center_crop": (10, 40)}, "10x40 are smaller"),
        ({"mse_weight": 0, "ssim_weight": 0}, "model.mse_weight"),
        ({"map_error_weight": 0, "map_ssim_weight": 0}, "model.map_error_weight"),
        ({"skips": (16,)}, "model.skips"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built("unet_ae", **options)


def sections(name: str, preset: str) -> dict[str, dict[str, Any]]:
    package, _, folder = registry.models[name].spec.presets.partition(":")
    loaded: dict[str, dict[str, Any]] = yaml.safe_load((files(package) / folder / f"{preset}.yaml").read_text("utf-8"))
    return loaded


@pytest.mark.parametrize("name", METHODS)
def test_presets(name: str) -> None:
    kind = registry.models[name].config_class()
    paper, edge = (sections(name, preset) for preset in ("paper", "edge"))
    config = validate(kind, paper["model"], "model")
    assert isinstance(config, AutoencoderConfig)
    assert (config.image_size, config.latent_dim, config.bottleneck, config.norm) == (128, 100, "vector", False)
    assert (config.learning_rate, config.weight_decay) == (2e-4, 1e-5)
    assert validate(GradientTrainConfig, paper["train"], "train").epochs == 200
    for section in (paper, edge):
        modeler = registry.models[name].build(validate(kind, section["model"], "model"))
        assert modeler.predict_step(torch.rand(1, 3, 128, 128)).scores.shape == (1,)


def test_defaults_of_each_kind() -> None:
    kinds = {name: registry.models[name].config_class() for name in METHODS}
    assert [issubclass(kind, SkipConfig) for kind in kinds.values()] == [False, True, False, True]
    assert [issubclass(kind, VanillaVAEConfig) for kind in kinds.values()] == [False, False, True, True]
    assert [kind().noise_strength for kind in kinds.values()] == [0, 0.2, 0, 0.2]
    changed = replace(kinds["unet_vae"](), skips=(2,), beta=0.1)
    assert (changed.skips, changed.beta) == ((2,), 0.1)
