"""PatchCore's whitened patches and its search near a patch's own place, against plain computations in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from anomaly_core import ConfigError, DataError
from anomaly_patchcore.padim.moments import Moments
from anomaly_patchcore.patchcore.config import PatchCoreConfig
from anomaly_patchcore.patchcore.model import PatchCoreModel
from anomaly_patchcore.patchcore.modeler import PatchCoreModeler
from anomaly_patchcore.patchcore.nearby import FAR, NearbySearch, penalties
from anomaly_patchcore.patchcore.store import PatchStore
from anomaly_patchcore.patchcore.whitening import whitening_of

SMALL = PatchCoreConfig(
    backbone="resnet18.tv_in1k", image_size=64, center_crop=None, layers=("layer2",), target_dim=16, pretrain_dim=16, sigma=2.0
)
IMAGES = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
OPTIONS: list[dict[str, Any]] = [
    {"whiten": True},
    {"whiten": True, "whiten_components": 5, "whiten_shrinkage": 0.0},
    {"neighbourhood": 1},
    {"whiten": True, "neighbourhood": 2, "neighbors": 3, "reweight": True},
]


def fitted(images: Tensor, **options: Any) -> PatchCoreModeler:
    torch.manual_seed(0)
    modeler = PatchCoreModeler(replace(SMALL, **options)).eval()
    with torch.inference_mode():
        for part in images.split(2):
            modeler.collect(part)
        modeler.build()
    return modeler


def moments(vectors: Tensor) -> Moments:
    of = Moments(1, vectors.shape[1])
    for part in vectors.split(70):
        of.add(part[None])
    return of


@pytest.fixture(scope="module")
def vectors() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(300, 8, generator=generator) @ torch.randn(8, 8, generator=generator) + 5


def test_whitened_patches_have_the_identity_as_covariance(vectors: Tensor) -> None:
    whitened = vectors @ whitening_of(moments(vectors), None, 0)
    torch.testing.assert_close(whitened.T.cov(correction=0), torch.eye(8), rtol=1e-3, atol=1e-3)
    kept = vectors @ whitening_of(moments(vectors), 3, 0)
    torch.testing.assert_close(kept, whitened[:, :3])


def test_shrinkage_draws_the_variances_to_their_mean(vectors: Tensor) -> None:
    variances = torch.linalg.eigvalsh(vectors.double().T.cov(correction=0)).flip(0)
    whitened = (vectors.double() @ whitening_of(moments(vectors), None, 0.25).double()).T.cov(correction=0)
    expected = variances / (0.75 * variances + 0.25 * variances.mean())
    torch.testing.assert_close(whitened.diag(), expected, rtol=1e-3, atol=1e-4)


def test_moments_without_some_vectors(vectors: Tensor) -> None:
    others = moments(vectors).without(vectors[None, :100])
    expected = whitening_of(moments(vectors[100:]), None, 0.1).double()
    actual = whitening_of(others, None, 0.1).double()
    torch.testing.assert_close(actual @ actual.T, expected @ expected.T, rtol=1e-3, atol=1e-4)


def test_patches_that_are_all_alike_cannot_be_whitened() -> None:
    with pytest.raises(DataError, match=r"alike.*model\.whiten=false"):
        whitening_of(moments(torch.ones(20, 4)), None, 0.1)
    with pytest.raises(DataError, match="NaN"):
        whitening_of(moments(torch.full((20, 4), torch.nan)), None, 0.1)


@pytest.mark.parametrize(("radius", "k"), [(0, 1), (1, 1), (2, 4), (20, 3)])
def test_search_nearby_equals_a_masked_search(radius: int, k: int) -> None:
    generator = torch.Generator().manual_seed(radius)
    bank, patches = torch.randn(90, 6, generator=generator), torch.randn(3, 5, 7, 6, generator=generator)
    places = torch.stack([torch.randint(5, (90,), generator=generator), torch.randint(7, (90,), generator=generator)], dim=1)
    places[places[:, 0] == 2] += torch.tensor([1, 0])  # no entry is of the third row
    distances, indices = NearbySearch(bank, places, radius).of_grids(patches, k)
    rows, columns = torch.arange(5).repeat_interleave(7), torch.arange(7).repeat(5)
    steps = torch.maximum((rows[:, None] - places[:, 0]).abs(), (columns[:, None] - places[:, 1]).abs())
    reach = steps.sort(dim=1).values[:, k - 1].clamp(min=radius)
    squared = torch.cdist(patches.double().flatten(1, 2), bank.double()).square().masked_fill(steps > reach[:, None], torch.inf)
    expected = squared.topk(k, dim=2, largest=False)
    torch.testing.assert_close(distances.double(), expected.values, rtol=1e-4, atol=1e-5)
    assert torch.equal(indices, expected.indices)
    assert ((penalties(places, 5, 7, radius, k) == FAR) == (steps > reach[:, None])).all()


@pytest.mark.parametrize("options", OPTIONS)
def test_scores_are_those_of_a_plain_computation(options: dict[str, Any]) -> None:
    modeler = fitted(IMAGES[:4], coreset_ratio=0.2, **options)
    model, k = modeler.model, options.get("neighbors", 1)
    with torch.inference_mode():
        patches, scored = modeler.embed(IMAGES[4:]), modeler.predict_step(IMAGES[4:])
        of_patches = model.score_patches(patches)[1].flatten(1)
    weights = model.whitening.double() if "whiten" in options else torch.eye(16, dtype=torch.float64)
    squared = torch.cdist(patches.double().flatten(1, 2) @ weights, model.memory_bank.double() @ weights).square()
    if "neighbourhood" in options:
        squared += penalties(model.places, 8, 8, options["neighbourhood"], k)
    expected = squared.topk(k, dim=2, largest=False).values.mean(dim=2)
    assert float(expected.max()) < FAR
    torch.testing.assert_close(of_patches.double(), expected, rtol=1e-3, atol=1e-4)
    assert bool((scored.scores <= of_patches.amax(dim=1) * 1.0001).all())
    plain = fitted(IMAGES[:4], coreset_ratio=0.2)
    assert torch.equal(plain.model.memory_bank, model.memory_bank), "the bank's patches are the same without the options"
    assert not torch.equal(plain.model.score_patches(patches)[1].flatten(1), of_patches)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit.trace:FutureWarning")
@pytest.mark.parametrize("options", OPTIONS)
def test_a_graph_scores_the_same(options: dict[str, Any]) -> None:
    modeler = fitted(IMAGES[:4], coreset_ratio=0.5, **options)
    with torch.inference_mode():
        patches = modeler.embed(IMAGES).clone()
    graph = torch.jit.trace(lambda patches: modeler.model.score(patches, (24, 24)), patches[:1], check_trace=False)
    torch.testing.assert_close(graph(patches), modeler.model.score(patches, (24, 24)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", OPTIONS)
@torch.inference_mode()
def test_an_image_is_left_out_of_bank_and_whitening(options: dict[str, Any]) -> None:
    """A bank of all patches without an image is the bank of the others."""
    torch.manual_seed(0)
    modeler = PatchCoreModeler(replace(SMALL, coreset_ratio=1.0, **options)).eval()
    others = fitted(torch.cat([IMAGES[:2], IMAGES[3:]]), coreset_ratio=1.0, **options)
    with modeler.fitting(True):
        for part in IMAGES.split(2):
            modeler.collect(part)
        modeler.build()
        whole = modeler.predict_step(IMAGES[2:3])
        without = modeler.predict_without(IMAGES[2:3], [torch.tensor([2])])
        torch.testing.assert_close(modeler.predict_step(IMAGES[2:3]).scores, whole.scores)
    torch.testing.assert_close(without.scores, others.predict_step(IMAGES[2:3]).scores, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(without.maps, others.predict_step(IMAGES[2:3]).maps, rtol=1e-3, atol=1e-4)
    assert float(without.score) > 2 * float(whole.score)
    after = modeler.predict_without(IMAGES[2:3], [torch.tensor([2])])  # a finished fit has the bank's own patches alone
    assert after.scores.isfinite().all()


@pytest.mark.parametrize("options", [*OPTIONS, {"whiten": True, "neighbourhood": 1, "memory_budget": "300KB"}])
@torch.inference_mode()
def test_a_loaded_memory_scores_the_same_and_takes_more_images(options: dict[str, Any]) -> None:
    modeler = fitted(IMAGES[:4], coreset_ratio=0.2, **options)
    torch.manual_seed(0)
    loaded = PatchCoreModeler(replace(SMALL, coreset_ratio=0.2, **options)).eval()
    loaded.load_state({name: tensor.clone() for name, tensor in modeler.state_dict().items()})
    before = loaded.predict_step(IMAGES)
    assert torch.equal(before.scores, modeler.predict_step(IMAGES).scores)
    size = len(loaded.model.memory_bank)
    loaded.reopen()
    loaded.collect(IMAGES[4:])
    loaded.build()
    assert len(loaded.model.memory_bank) >= size + int(2 * 64 * 0.2)
    assert torch.equal(loaded.model.memory_bank[:size], modeler.model.memory_bank)
    if "neighbourhood" in options:
        assert len(loaded.model.places) == len(loaded.model.memory_bank)
        assert torch.equal(loaded.model.places[:size], modeler.model.places)
    assert before.maps is not None
    assert float(loaded.predict_step(IMAGES[4:]).maps.mean()) < float(before.maps[4:].mean())  # type: ignore[union-attr]


class TwoProcesses:
    """Accelerate's interface to the second of two processes; ``sums`` and ``parts`` are the first one's, in the order asked."""

    num_processes, process_index = 2, 1

    def __init__(self, first: PatchCoreModeler) -> None:
        self.first = first
        store, of = first._store, first._moments
        rows = torch.cat([store.patches(), store.origins.float(), torch.zeros(len(store), 1)], dim=1)
        self.parts = iter([torch.tensor([first._collected]), torch.tensor([len(rows)]), torch.tensor([store.total]), rows])
        self.of = of

    def pad_across_processes(self, tensor: Tensor) -> Tensor:
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat([next(self.parts), tensor])

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        assert self.of is not None
        if tensor.ndim == 1:  # counts
            self.total = self.of.count + int(tensor)
            return tensor + self.of.count
        if tensor.ndim == 2 and not hasattr(self, "mean"):
            self.mean = tensor + self.of.mean() * (self.of.count / self.total)
            self.of._move(self.mean)
            return self.mean
        return tensor + (self.of._sums if tensor.ndim == 2 else self.of._products)


@torch.inference_mode()
def test_processes_share_whitening_and_places() -> None:
    options: dict[str, Any] = {"coreset_ratio": 1.0, "whiten": True, "neighbourhood": 1}
    parts = []
    for images in (IMAGES[:2], IMAGES[2:4]):
        torch.manual_seed(0)
        parts.append(PatchCoreModeler(replace(SMALL, **options)).eval())
        parts[-1].collect(images)
    parts[1].merge(TwoProcesses(parts[0]))
    parts[1].build()
    alone = fitted(IMAGES[:4], **options)
    assert torch.equal(parts[1].model.places, alone.model.places)
    torch.testing.assert_close(parts[1].predict_step(IMAGES).scores, alone.predict_step(IMAGES).scores, rtol=1e-3, atol=1e-4)


def test_an_index_of_all_entries_is_no_neighbourhood() -> None:
    pytest.importorskip("faiss")
    with pytest.raises(ConfigError, match=r"model\.search=ivf.*model\.search=exact"):
        PatchCoreModeler(replace(SMALL, neighbourhood=2, search="ivf"))


def test_a_model_is_built_with_places_of_a_store() -> None:
    model, store = PatchCoreModel(target_dim=4, neighbourhood=0), PatchStore(ratio=0.5)
    origins = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]], dtype=torch.int32)
    store.add(torch.eye(4), origins=origins)
    chosen = model.build_from(store)
    assert torch.equal(model.places, origins[chosen.picked, 1:])


@torch.inference_mode()
def test_blocks_of_a_transformer_are_layers() -> None:
    config = replace(SMALL, backbone="vit_tiny_patch16_224", image_size=(64, 96), layers=("blocks.1", 3), target_dim=None)
    modeler = PatchCoreModeler(replace(config, whiten=True)).eval()
    modeler.collect(torch.rand(2, 3, 64, 96))
    modeler.build()
    assert modeler.describe()["embedding_dim"] == 2 * 192
    assert modeler.predict_step(torch.rand(1, 3, 64, 96)).maps.shape == (1, 1, 64, 96)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="no whole number"):
        PatchCoreModeler(replace(config, image_size=70))
