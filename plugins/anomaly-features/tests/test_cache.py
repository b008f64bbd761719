"""The cache of frozen features: the same answers, computed once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from anomaly_features import FeatureCache, FrozenNetwork, fingerprints


class Counting(FrozenNetwork):
    """Two levels of features, and how many images they were computed for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Conv2d(3, 4, 3, padding=1)
        self.requires_grad_(False)
        self.computed = 0

    def features(self, images: Tensor) -> list[Tensor]:
        self.computed += len(images)
        first = self.network(images)
        return [first, nn.functional.avg_pool2d(first, 2)]


@pytest.fixture
def images() -> Tensor:
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("on_disk", [False, True])
def test_each_image_is_computed_once_in_any_company(images: Tensor, tmp_path: Path, on_disk: bool) -> None:
    network = Counting()
    plain = network(images)
    network.computed = 0
    network.cache = FeatureCache(2**20, tmp_path if on_disk else None)
    for order in (torch.arange(4), torch.tensor([5, 1, 0, 4]), torch.tensor([3, 3, 2]), torch.arange(6)):
        for level, expected in zip(network(images[order]), plain, strict=True):
            torch.testing.assert_close(level, expected[order], rtol=1e-6, atol=1e-7)
    assert network.computed == 6
    assert (network.cache.hits, network.cache.misses) == (4 + 2 + 3 + 6 - 4, 6)


def test_a_single_bit_makes_another_image(images: Tensor) -> None:
    changed = images.clone()
    changed[2, 1, 3, 3] = torch.nextafter(changed[2, 1, 3, 3], torch.tensor(2.0))
    before, after = fingerprints(images), fingerprints(changed)
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False, True, True, True]
    swapped = images.flip(-1)
    assert not set(before) & set(fingerprints(swapped))
    assert fingerprints(images[3:5]) == before[3:5]
    assert fingerprints(images[:0]) == []


def test_a_black_image_of_another_size_is_another_image() -> None:
    prints = [fingerprints(torch.zeros(1, 3, *size))[0] for size in ((8, 8), (16, 16), (4, 16), (16, 4))]
    assert len(set(prints)) == 4


def test_what_exceeds_the_budget_is_computed_again(images: Tensor) -> None:
    network = Counting()
    one = 4 * (64 + 16) * 4
    network.cache = FeatureCache(2 * one + one // 2)
    network(images)
    assert network.cache.used == 2 * one
    network(images)
    assert network.computed == 6 + 4


def test_another_process_finds_what_is_on_disk_and_other_weights_do_not(images: Tensor, tmp_path: Path) -> None:
    first, second, other = Counting(), Counting(), Counting()
    assert first.identity() == second.identity()
    with torch.no_grad():
        other.network.bias += 1
    assert first.identity() != other.identity()
    other = Counting()
    other.layers = (1, 2)
    assert first.identity() != other.identity()
    for network in (first, second):
        network.cache = FeatureCache(2**20, tmp_path / network.identity())
        network(images)
    assert (first.computed, second.computed) == (6, 0)
    torn = next(tmp_path.rglob("*.safetensors"))
    torn.write_bytes(torn.read_bytes()[:40])
    second(images)
    assert second.computed == 1


def test_a_network_that_is_trained_is_never_cached(images: Tensor) -> None:
    network = Counting()
    network.frozen = False
    network.cache = FeatureCache(2**20)
    network(images)
    network(images)
    assert network.computed == 12
    assert network.train().training
    network.frozen = True
    assert not network.train().training
