"""The networks: any size, what the latent values and the skips let through, what is drawn and what is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anomaly_autoencoder.ae.model import Autoencoder
from anomaly_autoencoder.blocks import pad_to
from anomaly_autoencoder.network import Network
from anomaly_autoencoder.vae.model import VariationalAutoencoder
from anomaly_core import ConfigError

WIDTHS = (4, 6, 8)
SKIPS = (2, 4)


def output(network: Network, images: Tensor) -> Tensor:
    result = network(images)
    return result if isinstance(result, Tensor) else result[0]


def built(kind: type[Network], size: tuple[int, int] = (40, 56), **options: object) -> Network:
    torch.manual_seed(0)
    return kind(size, **{"widths": WIDTHS, "latent_dim": 5, **options}).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Autoencoder, VariationalAutoencoder])
@pytest.mark.parametrize("skips", [(), SKIPS])
@pytest.mark.parametrize("bottleneck", ["vector", "map"])
@pytest.mark.parametrize("size", [(40, 56), (37, 51), (16, 11), (8, 64)])
def test_any_size_comes_back(kind: type[Network], skips: tuple[int, ...], bottleneck: str, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    result = output(built(kind, size, skips=skips, bottleneck=bottleneck), images)
    assert result.shape == images.shape
    assert bool(result.isfinite().all())


def test_padding_repeats_the_border_around_the_image() -> None:
    images = torch.rand(1, 3, 37, 50)
    larger, (rows, columns) = pad_to(images, 8)
    assert larger.shape[-2:] == (40, 56)
    assert torch.equal(larger[..., rows, columns], images)
    assert torch.equal(larger[..., 0, columns], images[..., 0, :])
    assert pad_to(torch.rand(1, 3, 40, 56), 8)[0].shape[-2:] == (40, 56)


def test_an_image_that_is_moved_by_a_whole_stride_is_reconstructed_alike() -> None:
    """No border, no padding reaches the middle: convolutions and the crop are aligned."""
    network = built(Autoencoder, skips=SKIPS, bottleneck="map")
    images = torch.rand(1, 3, 104, 104)
    moved = images.roll((8, 16), dims=(2, 3))
    with torch.inference_mode():
        first, second = output(network, images), output(network, moved)
    torch.testing.assert_close(first[..., 40:56, 40:56], second[..., 48:64, 56:72], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("skips", "through"), [((), False), (SKIPS, True)])
def test_skips_alone_pass_the_latent_values_by(skips: tuple[int, ...], through: bool) -> None:
    network = built(Autoencoder, skips=skips)
    for parameter in network.squeeze.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.inference_mode():
        dark, bright = output(network, torch.zeros(1, 3, 40, 56)), output(network, torch.ones(1, 3, 40, 56))
    assert bool((dark != bright).any()) == through


@pytest.mark.parametrize("stride", [4, 2])
def test_each_skip_is_used(stride: int) -> None:
    """Only the map of its own stride is joined in."""
    network = built(Autoencoder, skips=(stride,))
    images = torch.rand(1, 3, 40, 56)
    latents, features = network.encode(images)
    reference = network.decode(latents, features, images)
    for level, at in enumerate((2, 4)):
        changed = [feature + 1 if index == level else feature for index, feature in enumerate(features)]
        assert torch.equal(network.decode(latents, changed, images), reference) == (at != stride)


@pytest.mark.parametrize("skips", [(1,), (8,), (3,)])
def test_a_skip_that_does_not_exist(skips: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=rf"stride {skips[0]}, .* at 2, 4\."):
        built(Autoencoder, skips=skips)


def test_a_vector_belongs_to_one_size_and_a_map_to_any() -> None:
    other = torch.rand(1, 3, 48, 64)
    with pytest.raises(ConfigError, match="48x64 do not fit"):
        output(built(Autoencoder), other)
    assert output(built(Autoencoder, bottleneck="map"), other).shape == other.shape


@pytest.mark.parametrize("skips", [(), SKIPS])
def test_latent_values_are_drawn_in_train_mode_alone(skips: tuple[int, ...]) -> None:
    network = built(VariationalAutoencoder, skips=skips)
    images = torch.rand(2, 3, 40, 56)
    reconstruction, mean, log_variance = network(images)
    assert mean.shape == log_variance.shape == (2, 5, 1, 1)
    assert torch.equal(reconstruction, network(images)[0])
    network.train()
    torch.manual_seed(3)
    first, same_mean, _ = network(images)
    second = network(images)[0]
    torch.manual_seed(3)
    assert torch.equal(network(images)[0], first)
    assert torch.equal(same_mean, mean)
    assert not torch.equal(first, second)


def test_draws_have_the_learnt_mean_and_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    network = built(VariationalAutoencoder, (16, 16)).train()
    torch.nn.init.zeros_(network.squeeze.layer.weight)
    wanted = torch.cat([torch.arange(5.0), torch.tensor([0.25, 1.0, 4.0, 9.0, 0.01]).log()])
    network.squeeze.layer.bias.data.copy_(wanted)
    seen: list[Tensor] = []
    monkeypatch.setattr(network.unsqueeze, "forward", lambda latents: seen.append(latents) or torch.zeros(4000, 8, 2, 2))
    network(torch.zeros(4000, 3, 16, 16))
    latents = seen[0].flatten(1)
    torch.testing.assert_close(latents.mean(dim=0), wanted[:5], rtol=0, atol=0.2)
    torch.testing.assert_close(latents.var(dim=0), wanted[5:].exp(), rtol=0.15, atol=0)
