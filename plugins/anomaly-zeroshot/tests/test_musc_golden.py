"""The official code's answers, on its inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anomaly_zeroshot.musc.model import MuScModel, aggregated, nearest, normalised, rescored

Golden = dict[str, Tensor]


@pytest.fixture(scope="module")
def golden() -> Golden:
    with np.load(Path(__file__).parent / "golden" / "musc.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


@pytest.fixture(scope="module")
def maps(golden: Golden) -> list[Tensor]:
    """Both layers' features as maps, without the class token."""
    tokens = [golden[f"tokens{layer}"][:, 1:] for layer in range(2)]
    side = round(tokens[0].shape[1] ** 0.5)
    return [normalised(part.transpose(1, 2).unflatten(2, (side, side))) for part in tokens]


def close(ours: Tensor, theirs: Tensor, relative: float = 1e-5) -> None:
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=relative * float(theirs.abs().max()))


def fitted(maps: list[Tensor], **options: object) -> MuScModel:
    model = MuScModel(len(maps), rscin=(), **options)  # type: ignore[arg-type]
    model.build(maps)
    return model


@pytest.mark.parametrize("r", [1, 3, 5])
def test_neighbourhoods(golden: Golden, maps: list[Tensor], r: int) -> None:
    ours = torch.stack([aggregated(part, r) for part in maps], dim=2)
    close(ours, golden[f"r{r}/aggregated"])


@pytest.mark.parametrize("r", [1, 3, 5])
@pytest.mark.parametrize("layer", [0, 1])
def test_mutual_scores_of_a_layer(golden: Golden, maps: list[Tensor], r: int, layer: int) -> None:
    model = fitted([maps[layer]], neighbourhoods=(r,))
    scores, itself = model.patch_scores([maps[layer]])
    close(scores.flatten(1), golden[f"r{r}/msm_layer{layer}"])
    assert torch.equal(itself, torch.eye(8, dtype=torch.bool))  # each was recognised


def test_the_last_layers_slow_answer(golden: Golden, maps: list[Tensor]) -> None:
    scores, _ = fitted([maps[1]], neighbourhoods=(5,)).patch_scores([maps[1][:1]])
    close(scores.flatten(), golden["msm_slow_r5_lastlayer_image0"])


def test_maps_and_image_scores(golden: Golden, maps: list[Tensor]) -> None:
    model = fitted(maps)
    close(model.patch_scores(maps)[0].flatten(1), golden["patch_scores"])
    side = int(golden["image_size"])
    scores, anomaly_maps = model(maps, None, (side, side))
    close(anomaly_maps, golden["anomaly_maps"])
    close(scores, golden["image_scores_raw"])


def test_image_scores_by_similar_images(golden: Golden, maps: list[Tensor]) -> None:
    raw, tokens = golden["image_scores_raw"].float(), golden["cls_tokens"]
    for name, ks in (("rscin_123", (1, 2, 3)), ("rscin_1_4_5", (1, 4, 5))):
        close(rescored(raw, tokens, raw, tokens, torch.eye(8, dtype=torch.bool), ks), golden[name])
    side = int(golden["image_size"])
    model = MuScModel(2)
    model.build(maps, tokens, (side, side))
    close(model.raw, golden["image_scores_raw"])
    close(model(maps, tokens, (side, side))[0], golden["rscin_123"])


@pytest.mark.parametrize(("name", "interval"), [("scores_0_30", (0.0, 0.3)), ("scores_10_50", (0.1, 0.5))])
def test_intervals(golden: Golden, name: str, interval: tuple[float, float]) -> None:
    features = golden["msm_only/features"]
    distances = torch.stack([torch.cdist(image.expand_as(features), features).amin(dim=2).T for image in features])
    scores = MuScModel(1, lowest=interval).mutual(distances, torch.eye(len(features), dtype=torch.bool))
    close(scores, golden[f"msm_only/{name}"])


def test_nearest_distances_are_those_of_all_pairs(maps: list[Tensor]) -> None:
    patches = torch.nn.functional.normalize(aggregated(maps[0], 3), dim=-1)
    expected = torch.stack([torch.cdist(patches, other[None]).amin(dim=2) for other in patches], dim=2)
    distances = nearest(maps[0], maps[0], 3)
    torch.testing.assert_close(distances.square(), expected.square(), atol=1e-5, rtol=0)
