"""EfficientAD's network part against the public re-implementation's outputs (nelson1425/EfficientAD, commit fcab514)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from anomaly_distillation.efficientad.model import (
    QUANTILES,
    EfficientADModel,
    channel_statistics,
    quantile,
    whole_map,
)
from anomaly_distillation.efficientad.networks import SHAPES, Shape

Near = Callable[[Tensor, Tensor, float], None]
DIVISOR = 16
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def image(golden: Any, name: str) -> Tensor:
    """Normalised, (1, 3, 256, 256)."""
    return ((golden[f"image/{name}"].permute(2, 0, 1) / 255 - MEAN) / STD)[None]


@pytest.fixture(scope="module")
def model(efficientad: Any) -> EfficientADModel:
    features = int(efficientad["out_channels"])
    shape = Shape(False, SHAPES["S"].width // DIVISOR, features, SHAPES["S"].latent // DIVISOR)
    built = EfficientADModel(shape, (256, 256))
    for part in ("teacher", "student", "autoencoder"):
        getattr(built, part).load_state_dict(efficientad.state(f"{part}/"))
    built.teacher_mean, built.teacher_std = efficientad["teacher_mean"], efficientad["teacher_std"]
    return built.eval()


def test_networks(model: EfficientADModel, efficientad: Any, near: Near) -> None:
    features = int(efficientad["out_channels"])
    with torch.no_grad():
        near(model.teacher(image(efficientad, "train0"))[:, :2], efficientad["teacher_out_train0"], 1e-5)
        student = model.student(image(efficientad, "test"))
        near(student[:, [0, features]], efficientad["student_out_test"], 1e-5)
        near(model.autoencoder(image(efficientad, "test"))[:, :2], efficientad["autoencoder_out_test"], 1e-5)


def test_statistics_of_the_teacher(model: EfficientADModel, efficientad: Any, near: Near) -> None:
    images = (image(efficientad, f"train{i}") for i in range(3))
    with torch.no_grad():
        mean, std = channel_statistics(map(model.teacher, images), int(efficientad["out_channels"]))
    near(mean, efficientad["teacher_mean"], 1e-5)
    near(std, efficientad["teacher_std"], 1e-5)


@pytest.mark.parametrize("penalised", [True, False])
def test_losses_and_gradients(model: EfficientADModel, efficientad: Any, near: Near, penalised: bool) -> None:
    prefix = "with_penalty" if penalised else "no_penalty"
    images = [image(efficientad, name) for name in ("train0", "augmented", "penalty")]
    losses = model.losses(*images[: 3 if penalised else 2])
    values = {name: float(value.detach()) for name, value in losses.items()}
    names = {"loss_hard": "hard", "loss_autoencoder": "ae", "loss_student_autoencoder": "stae", "loss": "total"}
    if penalised:
        names["loss_penalty"] = "penalty"
        st = values["loss_hard"] + values["loss_penalty"]
    else:
        st = values["loss_hard"]
    assert set(losses) == set(names)
    assert st == pytest.approx(float(efficientad[f"{prefix}/loss_st"]), rel=1e-5)
    for name, theirs in names.items():
        assert values[name] == pytest.approx(float(efficientad[f"{prefix}/loss_{theirs}"]), rel=1e-5)
    with torch.no_grad():
        student = model.student(images[0])[:, : model.features]
        limit = quantile((model.taught(images[0]) - student).square().flatten(), 0.999)
    assert float(limit) == pytest.approx(float(efficientad[f"{prefix}/d_hard"]), rel=1e-5)
    if penalised:
        model.zero_grad()
        losses["loss"].backward()
        near(model.student[-1].bias.grad, efficientad[f"{prefix}/grad_student_last_bias"], 1e-4)
        near(model.autoencoder[-1].bias.grad, efficientad[f"{prefix}/grad_autoencoder_last_bias"], 1e-4)
        assert all(parameter.grad is None for parameter in model.teacher.parameters())


def test_quantiles_and_maps(model: EfficientADModel, efficientad: Any, near: Near) -> None:
    with torch.no_grad():
        raw = [
            torch.cat(maps).flatten()
            for maps in zip(*(model.maps(image(efficientad, f"valid{i}")) for i in range(2)), strict=True)
        ]
        model.quantiles = torch.stack([torch.stack([quantile(values, share) for share in QUANTILES]) for values in raw])
        theirs = [[efficientad[f"q_{part}_{end}"] for end in ("start", "end")] for part in ("st", "ae")]
        near(model.quantiles, torch.tensor(theirs), 1e-5)
        test = image(efficientad, "test")
        local, of_whole = model.maps(test)
        near(local, efficientad["raw/st"], 1e-5)
        near(of_whole, efficientad["raw/ae"], 1e-5)
        near((local + of_whole) / 2, efficientad["raw/combined"], 1e-5)
        for part, name in enumerate(("st", "ae")):
            low, high = model.quantiles[part]
            near(0.1 * ((local, of_whole)[part] - low) / (high - low), efficientad[f"normalised/{name}"], 1e-5)
        combined = model(test)
        near(combined, efficientad["normalised/combined"], 1e-5)
        size = tuple(efficientad["original_size_hw"].tolist())
        whole = whole_map(combined, size)
        near(whole[0, 0], efficientad["final_map"], 1e-5)
        assert float(whole.max()) == pytest.approx(float(efficientad["image_score"]), rel=1e-5)


def test_without_quantiles_the_maps_are_added_as_they_are(efficientad: Any) -> None:
    torch.manual_seed(0)
    fresh = EfficientADModel(Shape(False, 4, 6, 4), (64, 96)).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        local, of_whole = fresh.maps(images)
        torch.testing.assert_close(fresh(images), (local + of_whole) / 2)
        assert local.shape[-2:] == (8, 16)
