"""The official code's answers, on its inputs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly_core import AnomalyError, ConfigError
from anomaly_patchcore.coreset import k_center_greedy
from anomaly_patchcore.patchcore.model import PatchCoreModel

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def golden():
    return {key: torch.from_numpy(value) for key, value in np.load(GOLDEN / "patchcore.npz").items()}


@pytest.fixture(scope="module")
def fitted(golden):
    dimension = golden["train_embedding"].shape[1]
    model = PatchCoreModel(pretrain_dim=int(golden.get("pretrain_dim", dimension)), target_dim=dimension)
    patches = model.embed([golden["train_layer2"], golden["train_layer3"]]).flatten(0, 2)
    torch.testing.assert_close(patches, golden["train_embedding"], rtol=1e-4, atol=1e-6)
    model.memory_bank = patches
    return model


def test_embeddings_scores_and_maps_are_the_originals(golden, fitted):
    features = [golden["test_layer2"], golden["test_layer3"]]
    torch.testing.assert_close(fitted.embed(features).flatten(0, 2), golden["test_embedding"], rtol=1e-4, atol=1e-6)
    maps = golden["anomaly_maps"].float()
    scores, ours = fitted(features, tuple(maps.shape[-2:]))
    torch.testing.assert_close(scores, golden["image_scores"].float(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours[:, 0], maps, rtol=1e-4, atol=1e-5)


def test_coreset_has_the_radius_and_the_set_of_the_exact_search():
    golden = np.load(GOLDEN / "kcenter.npz")
    points = torch.from_numpy(golden["points"])
    selected = golden["selected"]
    chosen = k_center_greedy(points.float(), len(selected), int(golden["first"]))
    radius = torch.cdist(points.double(), points[chosen].double()).amin(dim=1).max()
    assert float(radius) == pytest.approx(float(golden["radius"]), rel=1e-5)
    assert len(set(chosen.tolist()) & set(selected.tolist())) >= 0.99 * len(selected)


def test_coreset_takes_duplicates_last_and_each_once():
    points = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    chosen = k_center_greedy(points, 5)
    assert chosen[:3].tolist() == [0, 2, 4]
    assert sorted(chosen.tolist()) == [0, 1, 2, 3, 4]


def test_coreset_refuses_what_it_cannot_use():
    points = torch.rand(4, 2)
    for count, first in ((0, 0), (5, 0), (2, 4)):
        with pytest.raises(ConfigError, match="choose 1 to 4"):
            k_center_greedy(points, count, first)
    points[2, 1] = torch.nan
    with pytest.raises(AnomalyError, match="NaN"):
        k_center_greedy(points, 2)


def test_equation_7_only_lowers_scores_and_keeps_maps(golden, fitted):
    features, size = [golden["test_layer2"], golden["test_layer3"]], tuple(golden["anomaly_maps"].shape[-2:])
    plain, maps = fitted(features, size)
    fitted.reweight = True
    try:
        weighted, same = fitted(features, size)
    finally:
        fitted.reweight = False
    assert torch.all(weighted < plain)
    assert torch.all(weighted > 0)
    assert torch.equal(maps, same)
