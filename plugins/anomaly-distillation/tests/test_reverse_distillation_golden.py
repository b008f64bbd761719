"""Reverse distillation's network part against the original's outputs (hq-deng/RD4AD, commit 6554076)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Adam

from anomaly_distillation.reverse_distillation.model import (
    ReverseDistillationModel,
    anomaly_map,
    level_losses,
    level_maps,
)
from anomaly_distillation.reverse_distillation.modeler import BETAS

VARIANTS = ["bottleneck", "basic"]
BLOCKS_OF_BOTTLENECK = {"bottleneck": 1, "basic": 2}


Near = Callable[[Tensor, Tensor, float], None]


def golden_model(golden: Any, kind: str) -> tuple[ReverseDistillationModel, list[Tensor]]:
    encoded = [golden[f"{kind}/encoder{level}"] for level in range(3)]
    channels = [level.shape[1] for level in encoded]
    blocks = golden[f"{kind}/decoder_layers"].tolist()
    model = ReverseDistillationModel(channels, blocks, BLOCKS_OF_BOTTLENECK[kind], kind, share=0.5)
    model.bottleneck.load_state_dict(golden.state(f"{kind}/bottleneck/"))
    model.decoder.load_state_dict(golden.state(f"{kind}/decoder/"))
    return model.eval(), encoded


@pytest.mark.parametrize("kind", VARIANTS)
def test_features_losses_and_maps(rd4ad: Any, near: Near, kind: str) -> None:
    model, encoded = golden_model(rd4ad, kind)
    size = (int(rd4ad["map_size"]),) * 2
    with torch.no_grad():
        near(model.bottleneck(encoded), rd4ad[f"{kind}/eval_embedding"], 1e-5)
        decoded = model(encoded)
        for level, rebuilt in enumerate(decoded):
            near(rebuilt, rd4ad[f"{kind}/eval_decoder{level}"], 1e-5)
        assert float(sum(level_losses(encoded, decoded))) == pytest.approx(float(rd4ad[f"{kind}/eval_loss"]), rel=1e-5)
        [joined] = level_losses(encoded, decoded, "concatenated")
        assert float(joined) == pytest.approx(float(rd4ad[f"{kind}/loss_concat"]), rel=1e-5)
        levels = level_maps(encoded, decoded, size)
        near(torch.cat([level[:1] for level in levels], dim=1), rd4ad[f"{kind}/layer_maps"], 1e-5)
        near(anomaly_map(levels, "sum", 0)[:, 0], rd4ad[f"{kind}/map_sum"], 1e-5)
        near(anomaly_map(levels, "product", 0)[0, 0], rd4ad[f"{kind}/map_product"], 1e-5)
        smoothed = anomaly_map(levels, "sum", 4)
        near(smoothed[:, 0], rd4ad[f"{kind}/map_smoothed"], 1e-5)
        near(smoothed.amax(dim=(1, 2, 3)), rd4ad[f"{kind}/image_scores"], 1e-5)


@pytest.mark.parametrize("kind", VARIANTS)
def test_gradients_and_four_steps(rd4ad: Any, near: Near, kind: str) -> None:
    model, encoded = golden_model(rd4ad, kind)
    model.train()
    optimizer = Adam(model.parameters(), lr=0.005, betas=BETAS)
    losses = []
    for step in range(4):
        loss = torch.stack(level_losses(encoded, model(encoded))).sum()
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            last = model.bottleneck.bn_layer[-1]
            norm = last.bn3 if kind == "bottleneck" else last.bn2
            near(model.decoder.layer1[0].conv1.weight.grad, rd4ad[f"{kind}/train_grad_decoder_first"], 1e-4)
            near(norm.weight.grad, rd4ad[f"{kind}/train_grad_bottleneck_last_bn"], 1e-4)
        optimizer.step()
        losses.append(loss.detach())
    expected = rd4ad[f"{kind}/train_losses"]
    near(losses[0], expected[0], 1e-5)
    near(torch.stack(losses), expected, 2e-3)  # each step multiplies what float32 rounds


def test_the_original_s_unused_tensors_are_passed_over(rd4ad: Any) -> None:
    model, _ = golden_model(rd4ad, "basic")
    extra = {"conv4.weight": torch.zeros(1), "bn4.running_mean": torch.zeros(1)}
    model.bottleneck.load_state_dict({**rd4ad.state("basic/bottleneck/"), **extra})
    with pytest.raises(RuntimeError, match="conv5"):
        model.bottleneck.load_state_dict({**rd4ad.state("basic/bottleneck/"), "conv5.weight": torch.zeros(1)})


def test_the_paper_s_loss_is_the_mean_over_positions() -> None:
    torch.manual_seed(0)
    encoded, decoded = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    by_hand = [
        1 - encoded[b, :, y, x] @ decoded[b, :, y, x] / (encoded[b, :, y, x].norm() * decoded[b, :, y, x].norm())
        for b in range(2)
        for y in range(3)
        for x in range(4)
    ]
    [loss] = level_losses([encoded], [decoded], "positions")
    torch.testing.assert_close(loss, torch.stack(by_hand).mean())
    [whole] = level_losses([encoded], [decoded])
    assert abs(float(whole) - float(loss)) > 1e-3
