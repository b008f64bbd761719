"""SuperSimpleNet against the official code's outputs: every key of the golden file."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anomaly_simplenet.supersimplenet.losses import losses
from anomaly_simplenet.supersimplenet.model import SuperSimpleNetModel, joined_features, smooth_map
from anomaly_simplenet.supersimplenet.noise import OnDefects, at_features, perlin_noise, with_noise


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    """Relative to the largest absolute value."""
    atol = tolerance * float(theirs.double().abs().max())
    torch.testing.assert_close(ours.detach().double(), theirs.double(), rtol=tolerance, atol=atol)


def part(golden: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}


def original(golden: dict[str, Tensor], stop_grad: bool = True) -> SuperSimpleNetModel:
    """With the original's weights, under the original's names."""
    model = SuperSimpleNetModel(golden["features"].shape[1], 24, 128, stop_grad)
    weights = {f"feature_adaptor.{key}": value for key, value in part(golden, "adaptor/").items()}
    model.load_state_dict(weights | {f"discriminator.{key}": value for key, value in part(golden, "discriminator/").items()})
    return model.eval()


def test_scoring(golden: dict[str, Tensor]) -> None:
    model = original(golden)
    features = joined_features([golden["layer2"], golden["layer3"]])
    close(features, golden["features"])
    close(model.feature_adaptor(features), golden["adapted"])
    map_logits, scores = model(features)
    close(map_logits, golden["map_logits"])
    close(scores, golden["score_logits"])
    close(scores.sigmoid(), golden["score_probability"])
    maps = smooth_map(map_logits, tuple(golden["image_size"].tolist()))
    close(maps, golden["anomaly_map"])
    close(maps.amax(dim=(1, 2, 3)), golden["map_max_score"])


@pytest.mark.parametrize("number", [0, 1])
def test_perlin_noise(number: int, golden: dict[str, Tensor]) -> None:
    unit, cells, expected = (golden[f"perlin{number}/{key}"] for key in ("angles_unit", "res", "noise"))
    side = int(cells.max()) + 1
    angles = torch.full((1, side, side), math.nan)  # corners that this image has not
    angles[0, : unit.shape[0], : unit.shape[1]] = 2 * math.pi * unit
    close(perlin_noise(angles, cells[None], tuple(expected.shape))[0], expected)


@pytest.mark.parametrize(
    ("name", "on_defects"),
    [("unsup", "everywhere"), ("no_overlap", "beside"), ("no_bad", "never"), ("no_perlin", "everywhere")],
)
def test_noise(name: str, on_defects: OnDefects, golden: dict[str, Tensor]) -> None:
    mask, label, noise, places = (golden[f"generator/{key}"] for key in ("mask", "label", "noise", "perlin"))
    if name == "no_perlin":
        places = torch.arange(4).view(4, 1, 1, 1).expand_as(places) >= 2
    ours = with_noise(golden["adapted"], mask.bool(), label.bool(), noise, places.bool(), on_defects)
    close(ours[0], golden[f"generator/{name}/features"])
    assert torch.equal(ours[1].long(), golden[f"generator/{name}/mask"])
    assert torch.equal(ours[2].long(), golden[f"generator/{name}/label"])


@pytest.mark.parametrize("name", ["unsup", "no_perlin", "all_normal"])
def test_losses_and_their_gradients(name: str, golden: dict[str, Tensor]) -> None:
    case = part(golden, f"loss/{name}/")
    map_logits, score_logits = (case[key].clone().requires_grad_() for key in ("map_logits", "score_logits"))
    ours = losses(map_logits, score_logits, case["mask"].bool(), case["label"].bool())
    for key, golden_key in (("loss", "total"), ("focal_map", "focal_map"), ("focal_score", "focal_score")):
        close(ours[key], case[golden_key])
    ours["loss"].backward()
    assert map_logits.grad is not None and score_logits.grad is not None
    close(map_logits.grad, case["grad_map"])
    close(score_logits.grad, case["grad_score"])


def test_masks_come_down(golden: dict[str, Tensor]) -> None:
    expected = golden["mask_downsample/result"]
    assert torch.equal(at_features(golden["mask_downsample/mask"][:, None], (12, 12)).float(), expected)


@pytest.mark.parametrize("stop", [True, False])
def test_the_gradient_of_the_score_ends_before_the_map_or_not(stop: bool, golden: dict[str, Tensor]) -> None:
    discriminator = original(golden, stop).train().discriminator
    map_logits, scores = discriminator(golden["generator/unsup/features"])
    close(scores, golden[f"stop_grad_{int(stop)}/score_logits_train"])
    close(map_logits, golden["stop_grad_map_logits_train"])
    scores.sum().backward()
    gradient, expected = discriminator.seg[0].weight.grad, golden[f"stop_grad_{int(stop)}/grad_seg0_of_sum_score"]
    if stop:
        assert gradient is None and not expected.any()
    else:
        close(gradient, expected, 1e-3)
