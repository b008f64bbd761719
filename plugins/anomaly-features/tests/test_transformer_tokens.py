"""The transformers' raw outputs, tokens and embeddings against timm's networks, run block by block by hand."""

from __future__ import annotations

from functools import cache

import pytest
import timm
import torch
from torch import Tensor, nn

from anomaly_features import BackboneError, ExtractorOptions, FeatureCache, TransformerExtractor, is_transformer

DINOV2, DINOV3, CLIP = "vit_small_patch14_reg4_dinov2", "vit_tiny_patch16_dinov3_qkvb", "vit_xsmall_patch16_clip_224"
PREFIX = {DINOV2: 5, DINOV3: 5, CLIP: 1, "cait_xxs24_224": 0}
BLOCK = 3


def size(name: str) -> tuple[int, int]:
    return (56, 84) if "patch14" in name else (64, 96)


@cache
def network(name: str) -> nn.Module:
    """The whole network at this size, with weights that make every block and every token count."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = timm.create_model(name, img_size=size(name)).eval()
        for key, parameter in made.named_parameters():
            if parameter.ndim == 1 or "token" in key or "pos_embed" in key:
                nn.init.uniform_(parameter, 0.2, 1.0)
    return made.requires_grad_(False)


class Weights:
    def __init__(self, without: str = "") -> None:
        self.without = without

    def load(self, name: str) -> dict[str, Tensor]:
        state = network(name.partition(".")[0]).state_dict()
        return {key: value.clone() for key, value in state.items() if key != self.without}


def extractor(name: str, *layers: int, **options: bool) -> TransformerExtractor:
    return TransformerExtractor(name, layers or (BLOCK,), size(name), Weights(), **options)  # type: ignore[arg-type]


def images(name: str) -> Tensor:
    return torch.rand(2, 3, *size(name), generator=torch.Generator().manual_seed(0))


def by_hand(name: str, blocks: int) -> Tensor:
    """All tokens after so many blocks."""
    net, cfg = network(name), timm.get_pretrained_cfg(name)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.mean, cfg.std))
    tokens = net.patch_embed((images(name) - mean) / std)
    if name.startswith("cait"):
        tokens, rope = tokens + net.pos_embed, {}
    else:
        tokens = net._pos_embed(tokens)
        tokens, rope = (tokens[0], {"rope": tokens[1]}) if isinstance(tokens, tuple) else (tokens, {})
        tokens = net.norm_pre(tokens)
    for block in net.blocks[:blocks]:
        tokens = block(tokens, **rope)
    return tokens


@pytest.mark.parametrize("name", PREFIX)
def test_raw_tokens_are_the_blocks_outputs(name: str) -> None:
    made = extractor(name, BLOCK, 1, norm=False, tokens=True)
    last, first = made(images(name))
    torch.testing.assert_close(last, by_hand(name, BLOCK + 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first, by_hand(name, 2), rtol=1e-4, atol=1e-5)
    channels, height, width = made.shapes[0]
    assert made.prefix == PREFIX[name]
    assert last.shape == (2, made.prefix + height * width, channels)
    assert not [key for key in made.state_dict() if key.startswith("network.norm.")]  # not even loaded


@pytest.mark.parametrize("name", PREFIX)
def test_maps_are_the_tokens_without_those_before_them(name: str) -> None:
    for norm in (False, True):
        (maps,), (tokens,) = (extractor(name, norm=norm, tokens=tokens)(images(name)) for tokens in (False, True))
        assert torch.equal(maps.flatten(2).transpose(1, 2), tokens[:, PREFIX[name] :])
    normed = network(name).norm(by_hand(name, BLOCK + 1))
    torch.testing.assert_close(tokens, normed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PREFIX)
def test_the_embedding_is_what_timm_makes_of_the_image(name: str) -> None:
    made = extractor(name, BLOCK, norm=False, embedding=True)
    maps, embedding = made(images(name))
    cfg = timm.get_pretrained_cfg(name)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.mean, cfg.std))
    normalised = (images(name) - mean) / std
    whole = network(name)
    expected = whole(normalised) if name == CLIP else whole.forward_head(whole.forward_features(normalised), pre_logits=True)
    torch.testing.assert_close(embedding, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(maps, extractor(name, norm=False)(images(name))[0])


def test_features_differ_by_what_was_asked_for() -> None:
    asked = [{}, {"norm": False}, {"tokens": True}, {"embedding": True}]
    assert len({extractor(CLIP, **options).identity() for options in asked}) == 4  # or a cache would mix them up


def test_tokens_are_cached() -> None:
    made = extractor(DINOV3, norm=False, tokens=True, embedding=True)
    computed = made(images(DINOV3))
    made.cache = FeatureCache(2**20)
    made(images(DINOV3))
    cached = made(images(DINOV3).flip(0))
    assert made.cache.hits == 2
    assert all(torch.equal(a, b.flip(0)) for a, b in zip(computed, cached, strict=True))


@pytest.mark.parametrize("name", [DINOV2, DINOV3])
def test_an_engine_computes_tokens(name: str) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("anomaly_export")
    options = ExtractorOptions(engine="openvino")
    made = TransformerExtractor(name, (1,), size(name), Weights(), options, norm=False, tokens=True, embedding=True)  # type: ignore[arg-type]
    for computed, expected in zip(made(images(name)), made.features(images(name)), strict=True):
        torch.testing.assert_close(computed, expected, rtol=1e-3, atol=1e-3)


def test_rotary_transformers_are_transformers() -> None:
    assert all(map(is_transformer, [DINOV2, DINOV3, CLIP, "vit_small_patch16_dinov3", "eva02_tiny_patch14_224"]))


def test_weights_without_the_projection_are_refused() -> None:
    with pytest.raises(BackboneError, match=r"head\.weight"):
        TransformerExtractor(CLIP, (0,), size(CLIP), Weights("head.weight"), embedding=True)  # type: ignore[arg-type]
    TransformerExtractor(CLIP, (0,), size(CLIP), Weights("head.weight"))  # type: ignore[arg-type]  # needed by nothing else
