"""The transformers' feature maps against timm's networks, run block by block by hand."""

from __future__ import annotations

from functools import cache

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_core import ConfigError
from anomaly_features import TransformerExtractor, is_transformer

MODELS = ["deit_tiny_distilled_patch16_224", "vit_tiny_patch16_224", "cait_xxs24_224"]
BLOCK = 4


@cache
def network(name: str) -> nn.Module:
    """The whole network with weights that make every block and every token count."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = timm.create_model(name).eval()
        for key, parameter in made.named_parameters():
            if "gamma" in key or key.endswith("norm.weight"):
                nn.init.uniform_(parameter, 0.5, 1.5)
            elif parameter.ndim == 1 or "token" in key or "embed" in key:
                nn.init.normal_(parameter, std=0.5)
            else:
                nn.init.normal_(parameter, std=2 * parameter[0].numel() ** -0.5)
    return made.requires_grad_(False)


class Weights:
    """The core's Backbones, without a file."""

    def load(self, name: str) -> dict[str, Tensor]:
        return {key: value.clone() for key, value in network(name.partition(".")[0]).state_dict().items()}


def extractor(name: str, layers: tuple[int | str, ...] = (BLOCK,), size: tuple[int, int] = (224, 224)) -> TransformerExtractor:
    return TransformerExtractor(name, layers, size, Weights())  # type: ignore[arg-type]


def by_hand(name: str, images: Tensor, block: int, without: str = "") -> Tensor:
    """Patches after ``block``, through the norm; ``without`` one of the tokens before them."""
    net = network(name)
    cfg = timm.get_pretrained_cfg(name)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.mean, cfg.std))
    tokens = net.patch_embed((images - mean) / std)
    grid = images.shape[-2] // 16, images.shape[-1] // 16
    before = [] if name.startswith("cait") else [key for key in ("cls_token", "dist_token") if hasattr(net, key)]
    tokens = torch.cat([*(getattr(net, key).expand(len(images), -1, -1) for key in before), tokens], dim=1) + net.pos_embed
    kept = [i for i in range(tokens.shape[1]) if i >= len(before) or before[i] != without]
    tokens = tokens[:, kept]
    for i in range(block + 1):
        tokens = net.blocks[i](tokens)
    tokens = net.norm(tokens)[:, -grid[0] * grid[1] :]  # (B, N, C) -> (B, C, h, w)
    return tokens.transpose(1, 2).unflatten(2, grid)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def far(a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) > 1e-2


@pytest.mark.parametrize("name", MODELS)
def test_features_are_those_of_the_block(name: str, images: Tensor) -> None:
    features = extractor(name)(images)
    assert len(features) == 1
    torch.testing.assert_close(features[0], by_hand(name, images, BLOCK), rtol=1e-4, atol=1e-5)
    # what a mistake would look like
    assert far(features[0], by_hand(name, images, BLOCK - 1))
    assert far(features[0], by_hand(name, images, BLOCK + 1))
    for token in ("cls_token", "dist_token"):
        if not name.startswith("cait") and hasattr(network(name), token):
            assert far(features[0], by_hand(name, images, BLOCK, without=token))


@pytest.mark.parametrize("name", MODELS)
def test_features_are_timms_own_intermediates(name: str, images: Tensor) -> None:
    cfg = timm.get_pretrained_cfg(name)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.mean, cfg.std))
    expected = network(name).forward_intermediates((images - mean) / std, indices=[2, 7], norm=True, intermediates_only=True)
    features = extractor(name, ("blocks.7", 2))(images)
    torch.testing.assert_close(features, expected[::-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_position_embeddings_are_resampled_to_the_image(name: str) -> None:
    small = extractor(name, size=(64, 96))
    assert small.shapes == [(192, 4, 6)]
    assert small(torch.rand(1, 3, 64, 96))[0].shape == (1, 192, 4, 6)
    whole, own = network(name).pos_embed, small.network.pos_embed
    prefix = whole.shape[1] - 14 * 14
    assert torch.equal(own[:, :prefix], whole[:, :prefix])
    maps = whole[:, prefix:].transpose(1, 2).unflatten(2, (14, 14))
    resized = F.interpolate(maps, (4, 6), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    torch.testing.assert_close(own[:, prefix:], resized)


@pytest.mark.parametrize("name", MODELS)
def test_frozen_and_no_larger_than_needed(name: str, images: Tensor) -> None:
    made = extractor(name)
    made.train()
    assert not any(module.training for module in made.modules())
    assert not any(parameter.requires_grad for parameter in made.parameters())
    blocks = {int(key.split(".")[2]) for key in made.state_dict() if key.startswith("network.blocks.")}
    assert blocks == set(range(BLOCK + 1))
    assert not [key for key in made.state_dict() if "head" in key or "token_only" in key]
    empty = TransformerExtractor(name, (BLOCK,), (224, 224))
    empty.load_state_dict(made.state_dict())
    assert torch.equal(empty(images)[0], made(images)[0])


def test_which_networks_are_transformers() -> None:
    assert all(is_transformer(name) for name in [*MODELS, "deit_base_distilled_patch16_384", "cait_m48_448"])
    assert not any(is_transformer(name) for name in ["resnet18.tv_in1k", "tf_efficientnet_lite0"])
    with pytest.raises(ConfigError, match="deit_tinny"):
        is_transformer("deit_tinny")


def test_errors() -> None:
    with pytest.raises(ConfigError, match="100x224 pixels"):
        TransformerExtractor(MODELS[0], (BLOCK,), (100, 224))
    for layer in (12, "layer2", -1):
        with pytest.raises(ConfigError, match=rf"no layer {layer!r}.*blocks.0 to blocks.11"):
            TransformerExtractor(MODELS[0], (layer,), (224, 224))
