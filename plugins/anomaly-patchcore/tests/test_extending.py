"""More images for a finished memory: PatchCore's bank and PaDiM's Gaussians, beside a fit on all images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from anomaly_core import MemoryModeler, RunError
from anomaly_patchcore.coreset import k_center_continued, k_center_greedy
from anomaly_patchcore.padim.config import PaDiMConfig
from anomaly_patchcore.padim.extending import reopened
from anomaly_patchcore.padim.modeler import PaDiMModeler
from anomaly_patchcore.padim.moments import Moments
from anomaly_patchcore.patchcore.config import PatchCoreConfig
from anomaly_patchcore.patchcore.modeler import PatchCoreModeler
from anomaly_patchcore.search import nearest

pytestmark = pytest.mark.filterwarnings("ignore:PaDiM saw")

SMALL: dict[str, Any] = {"backbone": "resnet18.tv_in1k", "image_size": (64, 96), "center_crop": None, "sigma": 2.0}
BANK = PatchCoreConfig(**SMALL, pretrain_dim=24, target_dim=32, coreset_ratio=0.2, projection_dim=16)
GAUSSIANS = PaDiMConfig(**SMALL, layers=("layer1", "layer2"), n_features=24)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Six images of noise, and two of them brighter."""
    images = torch.rand(6, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    return torch.cat([images, images[:2] / 3 + 0.6])


def fitted(modeler: MemoryModeler, images: Tensor) -> MemoryModeler:
    with torch.inference_mode():
        for part in images.split(2):
            modeler.collect(part)
        modeler.build()
    return modeler


def loaded(kind: type[PatchCoreModeler] | type[PaDiMModeler], config: object, images: Tensor) -> MemoryModeler:
    """A modeler of the images as a finished run gives it: its state in a new one, made under the same seed."""
    torch.manual_seed(3)
    state = {name: tensor.clone() for name, tensor in fitted(kind(config).eval(), images).state_dict().items()}  # type: ignore[arg-type]
    torch.manual_seed(3)
    modeler = kind(config).eval()  # type: ignore[arg-type]
    modeler.load_state(state)
    return modeler


def scores(modeler: MemoryModeler, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return modeler.predict_step(images).scores


@pytest.mark.parametrize(
    "options",
    [{}, {"projection_dim": None}, {"memory_budget": "200KB"}, {"bank_dtype": "float16"}, {"coreset_ratio": 1.0}],
    ids=lambda options: "".join(options) or "usual",
)
def test_a_bank_grows_by_the_new_images_share(images: Tensor, options: dict[str, Any]) -> None:
    config = replace(BANK, **options)
    modeler = loaded(PatchCoreModeler, config, images[:6])
    assert isinstance(modeler, PatchCoreModeler)
    bank, radius, before = modeler.model.memory_bank.clone(), float(modeler.model.coreset_radius), scores(modeler, images)
    modeler.reopen()
    assert torch.equal(scores(modeler, images), before), "it scores as before until it is built again"
    fitted(modeler, images[6:])
    grown = modeler.model.memory_bank
    assert torch.equal(grown[: len(bank)], bank)
    assert grown.dtype == bank.dtype
    share = int(2 * 96 * config.coreset_ratio)
    assert share <= len(grown) - len(bank) <= 2 * 96
    assert bool((scores(modeler, images) <= before + 1e-6).all()), "no image's score rises"
    with torch.inference_mode():
        patches = modeler.embed(images).flatten(0, 2)
        bound = float(modeler.model.coreset_radius) * 1.001 + (1e-2 if grown.dtype == torch.float16 else 1e-6)
        distances = nearest(modeler.model.project(patches), modeler.model.project(grown.float()))[0][:, 0].sqrt()
        assert float(distances.max()) <= bound, "the radius covers the patches of the first images and of the new ones"
        assert "memory_budget" in options or float(modeler.model.coreset_radius) <= radius or config.coreset_ratio == 1
        assert (modeler.held_out_step(images) == {}) == (not float(modeler.model.coreset_radius))


def test_new_images_are_as_near_as_to_a_bank_of_all(images: Tensor) -> None:
    extended = loaded(PatchCoreModeler, BANK, images[:6])
    new = scores(extended, images[6:])
    extended.reopen()
    fitted(extended, images[6:])
    at_once = loaded(PatchCoreModeler, BANK, images)
    greatest = scores(at_once, images).max()
    assert bool((new > 2 * greatest).all()), "the brighter images were odd"
    assert bool((scores(extended, images) < 1.5 * greatest).all())


def test_nothing_new_changes_nothing(images: Tensor) -> None:
    modeler = loaded(PatchCoreModeler, BANK, images[:6])
    bank = modeler.state_dict()["model.memory_bank"].clone()
    modeler.reopen()
    modeler.build()
    assert torch.equal(modeler.state_dict()["model.memory_bank"], bank)
    all_again = loaded(PatchCoreModeler, replace(BANK, coreset_ratio=1.0), images[:6])
    all_again.reopen()
    fitted(all_again, images[:6])
    assert len(all_again.state_dict()["model.memory_bank"]) == 6 * 96, "patches that it has do not join twice"


def test_gaussians_are_those_of_all_images(images: Tensor) -> None:
    extended = loaded(PaDiMModeler, GAUSSIANS, images[:6])
    extended.reopen()
    fitted(extended, images[6:])
    at_once = loaded(PaDiMModeler, GAUSSIANS, images)
    assert extended.describe() == at_once.describe()
    torch.testing.assert_close(scores(extended, images), scores(at_once, images), rtol=1e-4, atol=0)
    states = extended.state_dict(), at_once.state_dict()
    torch.testing.assert_close(states[0]["model.mean"], states[1]["model.mean"], rtol=1e-5, atol=1e-6)


def test_moments_come_back(images: Tensor) -> None:
    modeler = loaded(PaDiMModeler, GAUSSIANS, images)
    assert isinstance(modeler, PaDiMModeler)
    with torch.inference_mode():
        vectors = modeler.embed(images).flatten(2).permute(2, 0, 1)
    exact = Moments(len(vectors), vectors.shape[2])
    exact.add(vectors)
    back = reopened(modeler.model)
    scatter = exact.scatter()
    assert back.count == 8
    assert float((back.scatter() - scatter).abs().max()) < 1e-5 * float(scatter.abs().max())
    with pytest.raises(RunError, match="no distributions"):
        modeler.predict_step(images)


@pytest.mark.parametrize(("kind", "config"), [(PatchCoreModeler, BANK), (PaDiMModeler, GAUSSIANS)])
def test_what_is_not_fitted_cannot_be_opened_again(kind: type[MemoryModeler], config: object) -> None:
    with pytest.raises(RunError, match="Fit it first"):
        kind(config).reopen()  # type: ignore[arg-type]


def test_a_search_that_goes_on_picks_what_one_search_picks() -> None:
    points = torch.randn(500, 5, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    whole = k_center_greedy(points, 60)
    squared = nearest(points, points[whole[:20]])[0][:, 0]
    assert torch.equal(k_center_continued(points, squared, 40), whole[20:])
    assert not len(k_center_continued(points, torch.zeros(500), 40)), "all are picked"
    assert len(k_center_continued(points[:3].repeat(4, 1), torch.ones(12), 12)) == 3, "copies are picked once"
