"""The noise that a network learns to remove."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_autoencoder.corruption import add_blots


def test_strength_share_and_seed(images: Tensor) -> None:
    many = images.repeat(20, 1, 1, 1)
    torch.manual_seed(0)
    blotted = add_blots(many, 0.4, (4, 8), 0.25)
    torch.manual_seed(0)
    assert torch.equal(blotted, add_blots(many, 0.4, (4, 8), 0.25))
    changed = (blotted != many).any(dim=1)
    torch.testing.assert_close(changed.float().mean(dim=(1, 2)), torch.full((120,), 0.25), rtol=0, atol=0.01)
    noise = (blotted - many).movedim(1, -1)[changed]
    assert abs(float(noise.mean())) < 0.05
    assert 0.25 < float(noise.std()) < 0.4  # interpolation between the cells takes some of it
    assert len({tuple(flags.flatten().tolist()) for flags in changed}) == 120  # elsewhere in every image


def test_blots_are_smooth_and_as_large_as_their_cells() -> None:
    torch.manual_seed(0)
    grey = torch.zeros(8, 3, 64, 80)

    def roughness(cell: int) -> float:
        noise = add_blots(grey, 1.0, (cell,), 1.0)
        return float(noise.diff(dim=-1).square().mean() / noise.square().mean())

    assert roughness(16) < 0.5 * roughness(8) < 0.25 * roughness(4)


def test_the_whole_image_and_images_smaller_than_a_cell() -> None:
    assert bool((add_blots(torch.zeros(2, 3, 11, 13), 0.1, (32,), 1.0) != 0).all())
