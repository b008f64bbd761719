"""SubspaceAD's moments against numpy's, and as a modeler: without an image, in several processes, extended, turned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anomaly_core import ConfigError, DataError, ModelContext, RunError
from anomaly_dino.subspace.config import SubspaceConfig
from anomaly_dino.subspace.model import SubspaceModel, small_blur
from anomaly_dino.subspace.modeler import SubspaceModeler
from anomaly_dino.subspace.moments import GatheredMoments

Fit = Callable[..., SubspaceModeler]


@pytest.fixture
def fit(images: Tensor, small: dict[str, Any]) -> Fit:
    """Fits on some of the images; without turned copies unless they are asked for."""

    def fitted(
        chosen: Tensor = images, expected: int | None = 6, categories: tuple[str, ...] = (), **more: Any
    ) -> SubspaceModeler:
        torch.manual_seed(0)
        config = SubspaceConfig(**{**small, "rotations": 0, **more})
        modeler = SubspaceModeler(config, ModelContext(pretrained=False, categories=categories)).eval()
        modeler.expected = expected
        with torch.inference_mode():
            for part in chosen.split(4):
                modeler.collect(part)
            modeler.build()
        return modeler

    return fitted


def vectors(offset: float = 0.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    scale = torch.rand(8, generator=generator)
    return [torch.randn(count, 8, generator=generator) * scale + offset for count in (5, 1, 9, 7)]


@pytest.mark.parametrize("offset", [0.0, 1000.0], ids=["centred", "far from zero"])
def test_moments_are_numpys(offset: float) -> None:
    parts, gathered = vectors(offset), GatheredMoments(4)
    for part in parts:
        gathered.add(part)
    rows = torch.cat(parts).double().numpy()
    assert gathered.total is not None
    np.testing.assert_allclose(gathered.total.mean(), rows.mean(axis=0), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(gathered.total.covariance(), np.cov(rows, rowvar=False), rtol=1e-9, atol=1e-12)
    assert gathered.separable
    left = torch.cat([parts[0], parts[3]]).double().numpy()
    np.testing.assert_allclose(gathered.without([1, 2]).covariance(), np.cov(left, rowvar=False), rtol=1e-8, atol=1e-10)


def test_too_many_images_are_not_kept_each() -> None:
    gathered = GatheredMoments(10**9)
    for part in vectors():
        gathered.add(part)
    assert not gathered.separable


@pytest.mark.parametrize("expected", [4, None])
def test_processes_gather_what_one_gathers(expected: int | None, together: Callable[[int], Any]) -> None:
    parts, one = vectors(), GatheredMoments(expected)
    for part in parts:
        one.add(part)
    shares = [parts[:1], [], parts[1:]]

    def process(accelerator: Any) -> GatheredMoments:
        mine = GatheredMoments(expected)
        for part in shares[accelerator.process_index]:
            mine.add(part)
        mine.merge(accelerator, 8, torch.device("cpu"))
        return mine

    assert one.total is not None
    for merged in together(3).run(process):
        assert merged.total is not None
        torch.testing.assert_close(merged.total.covariance(), one.total.covariance())
        assert (merged.images, merged.separable) == (4, expected == 4)
        if expected:
            torch.testing.assert_close(merged.without([2]).covariance(), one.without([2]).covariance())


def test_an_image_is_left_out_exactly(images: Tensor, fit: Fit) -> None:
    whole = fit()
    assert whole.leaves_out > 1
    with torch.inference_mode():
        together = whole.predict_without(images[:3], [torch.tensor([0]), torch.tensor([1]), torch.tensor([2])])
        for i in range(3):
            others = fit(torch.cat([images[:i], images[i + 1 :]]))
            expected = others.predict_step(images[i : i + 1])
            torch.testing.assert_close(together.scores[i : i + 1], expected.scores, rtol=1e-3, atol=0)
        assert (together.scores > whole.predict_step(images[:3]).scores).all()
    assert fit(expected=None).leaves_out == 0, "nobody said how many would come, so that none is kept by itself"


def test_extended_it_is_what_all_images_give(images: Tensor, fit: Fit) -> None:
    extended, whole = fit(images[:4]), fit()
    with torch.inference_mode():
        extended.reopen()
        extended.collect(images[4:])
        extended.build()
        expected = whole.predict_step(images).scores
        torch.testing.assert_close(extended.predict_step(images).scores, expected, rtol=1e-2, atol=0)
    assert extended.describe()["fitted_patches"] == whole.describe()["fitted_patches"] == 6 * 16 * 24


def test_a_saved_state_scores_the_same(images: Tensor, fit: Fit, small: dict[str, Any]) -> None:
    modeler = fit()
    loaded = SubspaceModeler(SubspaceConfig(**small, rotations=0)).eval()
    loaded.load_state({key: value.clone() for key, value in modeler.state_dict().items()})
    with torch.inference_mode():
        assert torch.equal(loaded.predict_step(images).scores, modeler.predict_step(images).scores)
    assert loaded.describe() == modeler.describe()


@pytest.mark.parametrize("score", ["reconstruction", "mahalanobis", "euclidean", "cosine"])
def test_what_is_odd_scores_higher(images: Tensor, fit: Fit, score: str) -> None:
    modeler = fit(score=score, image_score="max")
    odd = images.clone()
    odd[:, :, 20:40, 30:60] = 1.0
    with torch.inference_mode():
        normal, anomalous = modeler.predict_step(images), modeler.predict_step(odd)
    assert normal.maps is not None and normal.maps.shape == (6, 1, 64, 96)
    assert (anomalous.scores > normal.scores).all()


def test_few_images_are_turned_and_many_are_not(fit: Fit, images: Tensor) -> None:
    patches = 16 * 24
    assert fit(images[:1], expected=1, rotations=None).describe()["fitted_patches"] == 31 * patches
    assert fit(images[:1], expected=17, rotations=None).describe()["fitted_patches"] == patches
    upright = fit(images[:1], expected=1, rotations=None, categories=("transistor",))
    assert upright.describe()["fitted_patches"] == patches
    assert fit(images[:2], rotations=3).describe()["fitted_patches"] == 2 * 4 * patches


def test_images_that_are_added_are_turned_as_the_first_ones(fit: Fit, images: Tensor) -> None:
    for expected, copies in ((1, 30), (17, 0)):
        modeler = fit(images[:1], expected=expected, rotations=None)
        modeler.expected = None
        with torch.inference_mode():
            modeler.reopen()
            modeler.collect(images[1:2])
            modeler.build()
        assert modeler.describe()["fitted_patches"] == 2 * (1 + copies) * 16 * 24


def test_a_blur_mirrors_at_the_outer_pixels() -> None:
    maps = torch.rand(1, 1, 5, 6)
    expected = torch.zeros(5, 6)
    weights = torch.exp(-0.5 * (torch.tensor([-1.0, 0.0, 1.0]) / 4) ** 2)
    weights = weights / weights.sum()
    for y in range(5):
        for x in range(6):
            for down in (-1, 0, 1):
                for across in (-1, 0, 1):
                    row, column = abs(y + down), abs(x + across)
                    row, column = min(row, 8 - row), min(column, 10 - column)
                    expected[y, x] += weights[down + 1] * weights[across + 1] * maps[0, 0, row, column]
    torch.testing.assert_close(small_blur(maps, 4.0, 3)[0, 0], expected)


def test_kernel_pca_of_some_patches(images: Tensor, fit: Fit, small: dict[str, Any]) -> None:
    modeler = fit(kernel="rbf", kernel_patches=300, variance=0.9)
    assert modeler.describe()["kernel_patches"] == 300
    assert modeler.leaves_out == 0
    odd = images.clone()
    odd[:, :, 20:40, 30:60] = 1.0
    loaded = SubspaceModeler(SubspaceConfig(**small, rotations=0, kernel="rbf")).eval()
    loaded.load_state({key: value.clone() for key, value in modeler.state_dict().items()})
    with torch.inference_mode():
        assert (modeler.predict_step(odd).scores > modeler.predict_step(images).scores).all()
        assert torch.equal(loaded.predict_step(odd).scores, modeler.predict_step(odd).scores)
    with pytest.raises(RunError, match="cannot be extended"):
        modeler.reopen()
    with pytest.raises(ConfigError, match="score of its own"):
        fit(kernel="rbf", score="cosine")


def test_errors(images: Tensor, fit: Fit, small: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="no training image"):
        SubspaceModeler(SubspaceConfig(**small)).build()
    with pytest.raises(RunError, match="Fit it first"):
        SubspaceModeler(SubspaceConfig(**small)).eval().predict_step(images)
    with pytest.raises(ConfigError, match=r"192 dimensions leaves nothing beside it.*model\.pca_dim"):
        fit(pca_dim=192)
    with pytest.raises(ConfigError, match="drops all"):
        fit(pca_dim=3, drop_k=3)
    with pytest.raises(ConfigError, match="blur_size=4 is even"):
        SubspaceModeler(SubspaceConfig(**small, blur_size=4))
    with pytest.raises(DataError, match="NaN or infinity"):
        fit(torch.full((1, 3, 64, 96), torch.nan))
    with pytest.raises(DataError, match="without any variation"):
        moments = GatheredMoments()
        moments.add(torch.ones(9, 4))
        assert moments.total is not None
        SubspaceModel().build(moments.total)
