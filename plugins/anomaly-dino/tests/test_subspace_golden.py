"""SubspaceAD against the original's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anomaly_dino.patches import combined
from anomaly_dino.scores import image_scores
from anomaly_dino.subspace.kernel import KernelSubspace
from anomaly_dino.subspace.model import SubspaceModel
from anomaly_dino.subspace.moments import GatheredMoments, Moments
from anomaly_features import upsample

FITS = {"ev99": SubspaceModel(0.99), "ev90": SubspaceModel(0.9), "k3": SubspaceModel(pca_dim=3)}
SCORES = ["reconstruction", "mahalanobis", "euclidean", "cosine"]


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "golden" / "subspacead.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays if arrays[key].dtype.kind != "U"}


def close(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """Relative to the greatest absolute value."""
    atol = tolerance * float(theirs.double().abs().max())
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=0, atol=atol)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Relative to the greatest absolute value."""
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())


def grid(tokens: Tensor) -> Tensor:
    """(B, h, w, D) -> (B, D, h, w)."""
    return tokens.permute(0, 3, 1, 2)


def built(golden: dict[str, Tensor], fit: str, **options: Any) -> SubspaceModel:
    chosen: dict[str, dict[str, Any]] = {"ev99": {"variance": 0.99}, "ev90": {"variance": 0.9}, "k3": {"pca_dim": 3}}
    model = SubspaceModel(**{**chosen[fit], **options})
    gathered = GatheredMoments()
    for image in golden["train_tokens"]:
        gathered.add(image.flatten(0, 1))
    assert gathered.total is not None
    model.build(gathered.total)
    return model


@pytest.mark.parametrize(
    ("key", "combine"), [("test_tokens", "mean"), ("test_tokens_concat", "concat"), ("test_tokens_group", (2, 2))]
)
def test_layers_become_one_grid(golden: dict[str, Tensor], key: str, combine: object) -> None:
    layers = golden["layers"].tolist() if key != "test_tokens_group" else [-1, -2, -3, -4]  # groups "-1,-2;-3,-4"
    first = 1 + int(golden["num_register_tokens"])
    maps = [golden["hidden_test"][layer][:, first:].unflatten(1, golden["grid"].tolist()) for layer in layers]
    ours = combined([grid(layer) for layer in maps], combine)  # type: ignore[arg-type]
    close(ours, grid(golden[key]), 1e-5)


def test_train_tokens(golden: dict[str, Tensor]) -> None:
    first = 1 + int(golden["num_register_tokens"])
    maps = [grid(golden["hidden_train"][i][:, first:].unflatten(1, (8, 8))) for i in golden["layers"].tolist()]
    close(combined(maps), grid(golden["train_tokens"]), 1e-5)


@pytest.mark.parametrize("fit", FITS)
def test_subspace(golden: dict[str, Tensor], fit: str) -> None:
    model = built(golden, fit)
    rank = int(golden[f"{fit}/k"])
    assert int(model.rank) == rank
    close(model.mean, golden[f"{fit}/mean"], 1e-5)
    close(model.variances[:rank], golden[f"{fit}/eigenvalues"], 1e-5)
    components = model.basis[:, :rank]
    close(components @ components.T, golden[f"{fit}/projector"], 1e-5)
    theirs = golden[f"{fit}/components"]
    signs = (components.double() * theirs).sum(dim=0).sign()  # defined up to their sign
    close(components * signs, theirs, 1e-5)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("score", [*SCORES, "reconstruction_drop1"])
def test_patch_scores(golden: dict[str, Tensor], fit: str, score: str) -> None:
    kind, _, dropped = score.partition("_drop")
    model = built(golden, fit, score=kind, drop_k=int(dropped or 0))
    close(model.patch_scores(grid(golden["test_tokens"])), golden[f"{fit}/score_{score}"], 1e-4)


@pytest.mark.parametrize("fit", FITS)
def test_image_scores(golden: dict[str, Tensor], fit: str) -> None:
    model, res = built(golden, fit), int(golden["res"])
    _, maps = model(grid(golden["test_tokens"]), (res, res))
    if fit == "ev99":
        close(maps[:, 0], golden["ev99/map_final"], 1e-4)
    for how in ("max", "p99", "mtop5", "mtop1p", "mean"):
        close(image_scores(maps, how), golden[f"{fit}/image_{how}"], 1e-4)  # type: ignore[arg-type]


def test_maps(golden: dict[str, Tensor]) -> None:
    model, res = built(golden, "ev99"), int(golden["res"])
    scores = model.patch_scores(grid(golden["test_tokens"]))
    close(upsample(scores[:, None], (res, res))[0], golden["ev99/map_resized"], 1e-4)
    close(model.maps(scores, (60, 84))[0, 0], golden["ev99/map_nonsquare"], 1e-4)


def test_a_foreground_has_the_mean_of_what_is_kept(golden: dict[str, Tensor]) -> None:
    """The original divides by the number of all patches; ours divides by that of those kept, and so gives other figures."""
    saliency = golden["foreground/saliency"]
    thresholds = saliency.flatten(1).double().quantile(0.15, dim=1)
    kept = golden["train_tokens"][saliency >= thresholds[:, None, None]].double()
    ours = Moments.around(kept.mean(dim=0))
    ours.add(kept)
    torch.testing.assert_close(ours.mean(), kept.mean(dim=0))
    torch.testing.assert_close(ours.covariance(), kept.T.cov())
    assert difference(ours.mean(), golden["foreground/mean"]) > 0.05

    everything = saliency.numel()  # the wrong divisor, of the mean and of the scatter around it
    mean = kept.sum(dim=0) / everything
    close(mean, golden["foreground/mean"], 1e-5)
    wrong = Moments.around(mean)
    wrong.add(kept)
    wrong.count, wrong.sums = everything, torch.zeros_like(mean)
    model = SubspaceModel(0.99)
    model.build(wrong)
    assert int(model.rank) == int(golden["foreground/k"])
    close(model.variances[: int(model.rank)], golden["foreground/eigenvalues"], 1e-5)
    scores = model.patch_scores(grid(golden["test_tokens"]))
    close(scores, golden["foreground/score_reconstruction"], 1e-4)


def test_kernel_pca(golden: dict[str, Tensor]) -> None:
    kernel = KernelSubspace(pca_dim=int(golden["kernel_pca/k"]))
    kernel.build(golden["train_tokens"].flatten(0, 2))
    scores = kernel(golden["test_tokens"].flatten(0, 2))
    close(scores.view(2, 8, 8), golden["kernel_pca/score"], 1e-5)
