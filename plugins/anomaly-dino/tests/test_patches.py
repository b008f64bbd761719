"""One grid of patches from layers of transformers and of convolutional networks; scores of their values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from anomaly_core import ConfigError, RunConfig
from anomaly_dino.anomalydino.config import AnomalyDINOConfig
from anomaly_dino.anomalydino.modeler import AnomalyDINOModeler
from anomaly_dino.patches import averaged, combined
from anomaly_dino.rotation import rotated
from anomaly_dino.scores import image_scores

TINY = "vit_tiny_patch16_224"


def test_groups_are_averaged_and_then_concatenated() -> None:
    layers = [torch.rand(2, 3, 4, 6) for _ in range(4)]
    assert torch.equal(combined(layers, "mean"), torch.stack(layers).mean(dim=0))
    assert torch.equal(combined(layers, "concat"), torch.cat(layers, dim=1))
    expected = torch.cat([layers[0], torch.stack(layers[1:]).mean(dim=0)], dim=1)
    assert torch.equal(combined(layers, (1, 3)), expected)


def test_the_finest_layer_sets_the_grid() -> None:
    fine, coarse = torch.rand(1, 2, 8, 8), torch.rand(1, 5, 4, 4)
    grid = combined([coarse, fine], "concat")
    assert grid.shape == (1, 7, 8, 8)
    assert torch.equal(grid[:, 5:], fine)
    assert torch.equal(grid[:, :5], F.interpolate(coarse, (8, 8), mode="bilinear", align_corners=False))


def test_layers_that_have_no_mean() -> None:
    with pytest.raises(ConfigError, match="2, 5 channels have no mean"):
        combined([torch.rand(1, 2, 4, 4), torch.rand(1, 5, 4, 4)])
    with pytest.raises(ConfigError, match=r"model\.combine=2,2 groups 4 layers"):
        combined([torch.rand(1, 2, 4, 4)] * 3, (2, 2))


def test_neighbours_beyond_the_border_do_not_count() -> None:
    assert torch.equal(averaged(torch.ones(1, 2, 4, 4), 3), torch.ones(1, 2, 4, 4))


def modeler(**options: Any) -> AnomalyDINOModeler:
    torch.manual_seed(0)
    return AnomalyDINOModeler(AnomalyDINOConfig(**options)).eval()


def test_a_transformer_sees_whole_patches() -> None:
    cut = modeler(backbone=TINY, layers=("blocks.2",), image_size=(70, 100))
    whole = modeler(backbone=TINY, layers=("blocks.2",), image_size=(64, 96))
    whole.load_state(cut.state_dict())
    images = torch.rand(1, 3, 70, 100)
    with torch.inference_mode():
        assert torch.equal(cut.patches(images), whole.patches(images[..., :64, :96]))
        for part in (cut, whole):
            part.collect(images if part is cut else images[..., :64, :96])
            part.build()
        assert cut.predict_step(images).maps.shape == (1, 1, 70, 100)  # type: ignore[union-attr]


def test_raw_or_normalised_tokens() -> None:
    options = {"backbone": TINY, "layers": ("blocks.1", "blocks.2"), "image_size": 32}
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        normalised, raw = (modeler(**options, final_norm=norm).patches(images) for norm in (True, False))
    assert normalised.shape == raw.shape == (1, 192, 2, 2)
    assert not torch.allclose(normalised, raw)


def test_options_that_would_be_ignored() -> None:
    with pytest.raises(ConfigError, match="even"):
        modeler(backbone=TINY, layers=("blocks.1",), pool_size=2)
    with pytest.raises(ConfigError, match=r"combine.*mean|have no mean"):
        modeler(backbone="resnet18.tv_in1k", layers=("layer1", "layer2"), image_size=32).patches(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("how", ["mtop1p", "mtop5", "p99", "max", "mean"])
@pytest.mark.parametrize("side", [1, 3, 30])
def test_image_scores_are_numpys(how: str, side: int) -> None:
    values = torch.rand(2, side, side)
    for ours, row in zip(image_scores(values, how).tolist(), values.flatten(1).numpy(), strict=True):  # type: ignore[arg-type]
        falling = np.sort(row)[::-1]
        expected = {
            "mtop1p": falling[: max(1, len(row) // 100)].mean(),
            "mtop5": falling[:5].mean(),
            "p99": np.percentile(row, 99),
            "max": falling[0],
            "mean": row.mean(),
        }[how]
        assert ours == pytest.approx(float(expected), rel=1e-5)


def test_a_quarter_turn_is_counter_clockwise() -> None:
    images = torch.rand(1, 3, 9, 9)
    assert torch.allclose(rotated(images, torch.tensor([90.0])), images.rot90(1, (2, 3)), atol=1e-5)
    black = rotated(torch.ones(1, 3, 9, 9), torch.tensor([45.0]), mode="nearest", border="zeros")
    assert black[0, 0, 0, 0] == 0
    assert black[0, 0, 4, 4] == 1


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("subspace", "paper"),
        ("subspace", "edge"),
        ("anomalydino", "paper"),
        ("anomalydino", "edge"),
        ("anomalydino", "accurate"),
    ],
)
def test_presets_are_valid(name: str, preset: str) -> None:
    model: Any = RunConfig.create(model=name, data="sample", preset=preset).model
    assert model.backbone.startswith("tf_efficientnet_lite0" if preset == "edge" else "vit_")
