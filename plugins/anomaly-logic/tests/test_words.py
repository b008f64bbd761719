"""Words against scikit-learn and a soft assignment in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from anomaly_core import RunError
from anomaly_logic.visual_words.words import Words


def fitted(features: Tensor, count: int = 4, softness: float = 1.0) -> Words:
    words = Words(features.shape[1])
    words.fit(features.half(), count, softness)
    return words


def test_features_are_standardised(layers: list[Tensor]) -> None:
    rows = fitted(layers[0]).standardised(layers[0]).transpose(0, 1).flatten(1).double()
    np.testing.assert_allclose(rows.mean(dim=1).numpy(), 0, atol=1e-3)
    np.testing.assert_allclose((rows.var(dim=1) * 3).numpy(), 1, rtol=1e-2)


def test_the_words_are_as_good_as_those_of_lloyds_algorithm(layers: list[Tensor]) -> None:
    words = fitted(layers[0])
    rows = words.standardised(layers[0]).permute(0, 2, 3, 1).flatten(0, 2).numpy()
    reference = KMeans(4, n_init=10, random_state=0).fit(rows).inertia_
    own = np.square(rows[:, None] - words.words.numpy()).sum(axis=2).min(axis=1).sum()
    assert reference * 0.999 < own < reference * 1.1
    assert float(words.temperature) == pytest.approx(own / len(rows), rel=0.01)


def test_shares_are_a_softmax_of_distances(layers: list[Tensor]) -> None:
    words = fitted(layers[0], softness=0.5)
    standardised = words.standardised(layers[0][:2])
    rows = standardised.permute(0, 2, 3, 1).double().numpy()
    squared = np.square(rows[..., None, :] - words.words.double().numpy()).sum(axis=-1)
    weights = np.exp(-squared / float(words.temperature))
    expected = weights / weights.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(words(standardised).permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)


def test_the_same_images_give_the_same_words(layers: list[Tensor]) -> None:
    torch.manual_seed(1)
    first = fitted(layers[0])
    torch.manual_seed(2)
    np.random.seed(3)
    assert torch.equal(first.words, fitted(layers[0]).words)


def test_a_channel_that_never_changes_and_too_few_cells() -> None:
    features = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    features[:, 1] = 7
    words = fitted(features, count=32)
    assert words.words.shape == (8, 3)  # no more than there are cells
    assert bool(words(words.standardised(features)).isfinite().all())
    with pytest.raises(RunError, match="Fit it first"):
        Words(3)(features)
