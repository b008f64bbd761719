"""The official code's answers, on its inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anomaly_dino.dinomaly.model import DinomalyModel, grouped, loss, point_distance, smooth
from anomaly_dino.dinomaly.training import StableAdamW, rate

Golden = dict[str, Tensor]


@pytest.fixture(scope="module")
def golden() -> Golden:
    with np.load(Path(__file__).parent / "golden" / "dinomaly.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


@pytest.fixture(scope="module")
def blocks(golden: Golden) -> list[Tensor]:
    """The encoder's outputs."""
    return [golden[f"encoder_block{number}"] for number in range(2, 10)]


def build(golden: Golden, groups: int = 2) -> DinomalyModel:
    """With the original's weights, and no dropout."""
    side, prefix = int(golden["side"]), 1 + int(golden["num_register_tokens"])
    size = int(golden["map_resize"])
    model = DinomalyModel(16, int(golden["num_heads"]), 8, groups, prefix, (side, side), 0.0, (size, size))
    model.load_state_dict(
        {name.replace("/", "."): value for name, value in golden.items() if name.startswith(("bottleneck/", "decoder/"))}
    )
    return model


def close(ours: Tensor, theirs: Tensor, relative: float = 1e-5) -> None:
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.detach(), theirs, rtol=0, atol=relative * float(theirs.abs().max()))


def test_bottleneck_and_attention(golden: Golden, blocks: list[Tensor]) -> None:
    model = build(golden)
    close(torch.stack(grouped(blocks, 2)).mean(dim=0), golden["bottleneck_input"])
    close(model.bottleneck[0](golden["bottleneck_input"]), golden["bottleneck_output"])
    close(model.decoder[0].attn(golden["attention0_input"]), golden["attention0_output"])
    tokens = golden["bottleneck_output"]
    for number, block in enumerate(model.decoder):
        tokens = block(tokens)
        if number in (0, 3, 7):
            close(tokens, golden[f"decoder_block{number}"])


def test_groups(golden: Golden, blocks: list[Tensor]) -> None:
    encoded, decoded = build(golden)(grouped(blocks, 2))
    for number in range(2):
        close(encoded[number], golden[f"en{number}"])
        close(decoded[number], golden[f"de{number}"])
    encoded, decoded = build(golden, 1)(grouped(blocks, 1))
    close(encoded[0], golden["one_group_en"])
    close(decoded[0], golden["one_group_de"])
    value = loss(*build(golden, 8)(grouped(blocks, 8))).detach()
    assert float(value) == pytest.approx(float(golden["per_layer_loss"]), rel=1e-4)


@pytest.mark.parametrize("p", [None, 0.0, 0.45, 0.9])
def test_loss_and_its_gradient(golden: Golden, p: float | None) -> None:
    name = "loss_plain" if p is None else f"loss_p{p}"
    encoded = [golden[f"en{number}"] for number in range(2)]
    decoded = [golden[f"de{number}"].clone().requires_grad_() for number in range(2)]
    value = loss(encoded, decoded, p)
    assert float(value.detach()) == pytest.approx(float(golden[f"{name}/value"]), rel=1e-4)
    value.backward()
    for number, part in enumerate(decoded):
        assert part.grad is not None
        close(part.grad, golden[f"{name}/grad{number}"])


def test_maps_and_scores(golden: Golden) -> None:
    encoded, decoded = ([golden[f"{part}{number}"] for number in range(2)] for part in ("en", "de"))
    size = (int(golden["map_in_size"]),) * 2
    enlarged = [
        torch.nn.functional.interpolate(point_distance(e, d)[:, None], size, mode="bilinear", align_corners=True)
        for e, d in zip(encoded, decoded, strict=True)
    ]
    for number in range(2):
        close(enlarged[number], golden[f"layer_map{number}"])
    close(torch.stack(enlarged).mean(dim=0), golden["map_mean"])
    close(smooth(golden["map_resized"]), golden["map_smoothed"])
    dot = torch.zeros(1, 1, 5, 5)
    dot[..., 2, 2] = 1
    close(smooth(dot)[0, 0], golden["gaussian_kernel"])
    scores, maps = build(golden).score(encoded, decoded, size)
    close(scores, golden["score_top1pct"])
    assert maps.shape == (2, 1, *size)
    close(golden["map_smoothed"].amax(dim=(1, 2, 3)), golden["score_max"])


def test_optimiser(golden: Golden) -> None:
    parameters = [torch.nn.Parameter(golden[f"optim_{name}0"].clone()) for name in "wv"]
    optimizer = StableAdamW(parameters, lr=float(golden["optim_lr"]))
    for step in range(6):
        for parameter, name in zip(parameters, "wv", strict=True):
            parameter.grad = golden[f"optim_grad_{name}"][step].clone()
        optimizer.step()
        for parameter, name in zip(parameters, "wv", strict=True):
            close(parameter, golden[f"optim_{name}"][step])


def test_schedule(golden: Golden) -> None:
    total, warm_up = int(golden["schedule_total"]), int(golden["schedule_warmup"])
    ours = torch.tensor([2e-3 * rate(step, total, warm_up, 0.1) for step in range(len(golden["schedule_lr"]))])
    close(ours, golden["schedule_lr"])
    assert ours[0] == 0  # the first step changes nothing


def test_training(golden: Golden, blocks: list[Tensor]) -> None:
    model = build(golden).train()
    optimizer = StableAdamW(model.parameters(), lr=2e-3)
    for step, p in enumerate(golden["train_p"].tolist()):
        value = loss(*model(grouped(blocks, 2)), p)
        optimizer.zero_grad()
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        assert float(value.detach()) == pytest.approx(float(golden["train_losses"][step]), rel=2e-3)
        assert float(norm) == pytest.approx(float(golden["train_grad_norms"][step]), rel=1e-2)
