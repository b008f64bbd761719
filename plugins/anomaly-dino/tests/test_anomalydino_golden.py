"""AnomalyDINO against the original's answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly_dino.anomalydino.batched import batched_distances
from anomaly_dino.anomalydino.model import AnomalyDINOModel
from anomaly_dino.foreground import foreground_mask
from anomaly_dino.rotation import rotated
from anomaly_dino.scores import image_scores


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "golden" / "anomalydino.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


def close(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """Relative to the greatest absolute value."""
    atol = tolerance * float(theirs.double().abs().max())
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=0, atol=atol)


def patches(golden: dict[str, Tensor], key: str) -> Tensor:
    """(B, h * w, D) -> (B, D, h, w)."""
    height, width = golden["grid"].tolist()
    return golden[key].unflatten(-2, (height, width)).movedim(-1, -3)


def fitted(golden: dict[str, Tensor], variant: str) -> AnomalyDINOModel:
    metric, neighbors = ("l2" if variant == "l2" else "cosine"), (3 if variant == "knn3" else 1)
    model = AnomalyDINOModel(metric, neighbors)  # type: ignore[arg-type]
    rows = model.rows(patches(golden, "ref"))
    model.memory_bank = rows[golden["mask/ref"].flatten()] if variant == "masked_ref" else rows
    return model


@pytest.mark.parametrize("variant", ["default", "masked", "masked_ref", "l2", "knn3"])
def test_distances_scores_and_maps(golden: dict[str, Tensor], variant: str) -> None:
    model = fitted(golden, variant)
    test, mask = patches(golden, "test"), (golden["mask/test"] if variant.startswith("masked") else None)
    height, width = golden["image_shape"][:2].tolist()
    scores, maps = model(test, (height, width), mask)
    close(model.patch_scores(test, mask), golden[f"{variant}/distances"], 1e-5)
    close(scores, golden[f"{variant}/image_scores"], 1e-5)
    if f"{variant}/anomaly_maps" in golden:
        close(maps[:, 0], golden[f"{variant}/anomaly_maps"], 1e-5)


def test_masks(golden: dict[str, Tensor]) -> None:
    """Of the features as they are: the sign of the component and both of its sides are among them."""
    assert torch.equal(foreground_mask(patches(golden, "test")), golden["mask/test"])
    assert torch.equal(foreground_mask(patches(golden, "ref")), golden["mask/ref"])
    corner = patches({**golden, "corner": golden["mask/corner_features"][None]}, "corner")
    assert torch.equal(foreground_mask(corner)[0], golden["mask/corner"])


def test_the_morphology_of_the_original_runs_along_the_list_of_patches(golden: dict[str, Tensor]) -> None:
    ours = foreground_mask(patches(golden, "test"), morphology="grid")
    assert not torch.equal(ours, golden["mask/test"])


def test_the_greatest_hundredth(golden: dict[str, Tensor]) -> None:
    close(image_scores(golden["top1/distances"][None])[0], golden["top1/score"], 1e-6)


def test_rotations(golden: dict[str, Tensor]) -> None:
    """OpenCV's fixed point: 2 grey levels."""
    image = golden["rotate/image"].permute(2, 0, 1).float()
    angles = golden["rotate/angles"]
    ours = rotated(image.expand(len(angles), -1, -1, -1), angles, half=True).round()
    theirs = golden["rotate/augmented"].permute(0, 3, 1, 2).float()
    assert float((ours - theirs).abs().max()) <= 2
    assert torch.equal(ours[0], image)


def test_batched_without_normal_images(golden: dict[str, Tensor]) -> None:
    """Each image is among those that judge, and recognised."""
    patches = F.normalize(golden["batched/features"], dim=2)
    distances = batched_distances(patches, patches, float(golden["batched/quantile"]))
    close(distances, golden["batched/distances"], 1e-5)
    close(image_scores(distances), golden["batched/image_scores"], 1e-5)
