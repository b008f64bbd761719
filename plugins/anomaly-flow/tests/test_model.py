"""FastFlow's flows against the de-facto code's outputs, and against the definition of a likelihood."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_flow.fastflow.model import FastFlowModel, flow

KINDS = ["alternating", "conv3x3_only"]


def golden_model(golden: dict[str, Tensor], kind: str) -> tuple[FastFlowModel, list[Tensor]]:
    features = [golden[f"{kind}/x{level}"] for level in (0, 1)]
    model = FastFlowModel(
        [tuple(feature.shape[1:]) for feature in features],
        int(golden["flow_steps"]),
        float(golden["hidden_ratio"]),
        kind == "conv3x3_only",
        float(golden["clamp"]),
        norm=False,
    )
    for level, part in enumerate(model.flows):
        prefix = f"{kind}/flow{level}/"
        part.load_state_dict({key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)})
    return model.eval(), features


@pytest.mark.parametrize("kind", KINDS)
def test_golden(golden: dict[str, Tensor], kind: str) -> None:
    model, features = golden_model(golden, kind)
    with torch.no_grad():
        latents, log_dets = model(features)
        loss = model.loss(latents, log_dets)
        maps = model.anomaly_maps(latents, (32, 32))
    for level, latent in enumerate(latents):
        torch.testing.assert_close(latent, golden[f"{kind}/z{level}"], rtol=1e-4, atol=1e-5)
    assert float(loss) == pytest.approx(float(golden[f"{kind}/loss"]), rel=1e-4)
    torch.testing.assert_close(maps, golden[f"{kind}/anomaly_map"], rtol=1e-4, atol=1e-6)


def randomised(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.5 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("conv3x3_only", [False, True])
def test_log_determinant_is_that_of_the_jacobian(conv3x3_only: bool) -> None:
    torch.manual_seed(0)
    model = randomised(flow((5, 2, 3), steps=3, conv3x3_only=conv3x3_only)).double()
    point = torch.randn(1, 5, 2, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x)[0], point).reshape(30, 30)
    reported = model(point)[1]
    assert abs(float(reported.detach())) > 0.1
    torch.testing.assert_close(reported.detach()[0], torch.linalg.slogdet(jacobian).logabsdet)
    torch.testing.assert_close(model(model(point)[0], rev=True)[0], point)


def test_loss_is_the_negative_log_likelihood_less_its_constant(golden: dict[str, Tensor]) -> None:
    model, features = golden_model(golden, "alternating")
    latents, log_dets = model(features)
    dimensions = sum(latent[0].numel() for latent in latents)
    normal = torch.distributions.Normal(0.0, 1.0)
    images = [
        sum(normal.log_prob(latent[i]).sum() + log_det[i] for latent, log_det in zip(latents, log_dets, strict=True))
        for i in (0, 1)
    ]
    expected = -sum(images) / 2 - 0.5 * dimensions * math.log(2 * math.pi)
    torch.testing.assert_close(model.loss(latents, log_dets), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("conv3x3_only", "kernels"), [(False, [3, 1, 3, 1, 3]), (True, [3] * 5)])
def test_subnets(conv3x3_only: bool, kernels: list[int]) -> None:
    part = flow((9, 4, 6), steps=5, hidden_ratio=0.5, conv3x3_only=conv3x3_only)
    assert [block.subnet[0].kernel_size[0] for block in part] == kernels
    first, activation, last = part[1].subnet
    assert isinstance(activation, nn.ReLU)
    # 9 channels are split into 5 and 4; a scale and a shift for each of the 4
    assert (first.in_channels, first.out_channels, last.out_channels) == (5, 2, 8)
    assert flow((4, 2, 2), steps=1, hidden_ratio=0.01)[0].subnet[0].out_channels == 1


def test_permutations_follow_torchs_seed_alone() -> None:
    def drawn(torch_seed: int, numpy_seed: int) -> Tensor:
        torch.manual_seed(torch_seed)
        np.random.seed(numpy_seed)
        return flow((16, 2, 2), steps=2)[1].w_perm

    assert torch.equal(drawn(1, 1), drawn(1, 2))
    assert not torch.equal(drawn(1, 1), drawn(2, 1))
    block = flow((16, 2, 2), steps=1)[0]
    forth, back = block.w_perm[..., 0, 0], block.w_perm_inv[..., 0, 0]
    assert torch.equal(forth @ back, torch.eye(16))
    assert not block.w_perm.requires_grad
    assert not block.w_perm_inv.requires_grad


def test_norms() -> None:
    shapes = [(6, 4, 3), (8, 2, 2)]
    features = [torch.randn(2, *shape) * 5 + 3 for shape in shapes]
    model = FastFlowModel(shapes, flow_steps=1)
    assert [tuple(norm.weight.shape) for norm in model.norms] == shapes
    latents, _ = model(features)
    expected = FastFlowModel(shapes, flow_steps=1, norm=False)
    expected.flows.load_state_dict(model.flows.state_dict())
    by_hand = [F.layer_norm(feature, shape) for feature, shape in zip(features, shapes, strict=True)]
    torch.testing.assert_close(latents, expected(by_hand)[0])
    fixed = FastFlowModel(shapes, flow_steps=1, trainable_norm=False)
    assert not list(fixed.norms.parameters())
    fixed.flows.load_state_dict(model.flows.state_dict())
    torch.testing.assert_close(fixed(features)[0], latents)


def test_flows_compute_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    model = randomised(FastFlowModel([(6, 4, 4)], flow_steps=2))
    features = [torch.randn(2, 6, 4, 4)]
    plain = model.loss(*model(features))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model.loss(*model(features))
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, plain)
