"""Leave-one-out of the memories, against memories that never saw the image."""

from __future__ import annotations

import math

import pytest
import torch

from anomaly_core import DataError
from anomaly_patchcore.padim.config import PaDiMConfig
from anomaly_patchcore.padim.model import PaDiMModel
from anomaly_patchcore.padim.modeler import PaDiMModeler
from anomaly_patchcore.padim.moments import Moments
from anomaly_patchcore.patchcore.config import PatchCoreConfig
from anomaly_patchcore.patchcore.left_out import LeftOut, SearchWithout
from anomaly_patchcore.patchcore.modeler import PatchCoreModeler
from anomaly_patchcore.patchcore.store import PatchStore
from anomaly_patchcore.search import BankSearch, nearest

GEOMETRY = {"backbone": "resnet18.tv_in1k", "image_size": 64, "center_crop": None}
IMAGES = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def fitted(modeler, images, batch=4):
    torch.manual_seed(0)
    with torch.inference_mode():
        for part in images.split(batch):
            modeler.eval().collect(part)
        modeler.build()
    return modeler


def patchcore(**options):
    torch.manual_seed(0)
    return PatchCoreModeler(PatchCoreConfig(layers=("layer2",), target_dim=32, **GEOMETRY, **options))


def numbers(*groups):
    return [torch.tensor(group) for group in groups]


@torch.inference_mode()
def test_patchcore_without_an_image_has_the_patches_of_the_others():
    modeler = fitted(patchcore(coreset_ratio=1.0), IMAGES)
    others = fitted(patchcore(coreset_ratio=1.0), torch.cat([IMAGES[:2], IMAGES[4:]]))
    assert modeler.leaves_out == math.inf
    without = modeler.predict_without(IMAGES[2:3], numbers([2, 3]))
    torch.testing.assert_close(without.scores, others.predict_step(IMAGES[2:3]).scores)
    torch.testing.assert_close(without.maps, others.predict_step(IMAGES[2:3]).maps)
    assert without.score > 1e-3 > modeler.predict_step(IMAGES[2:3]).score  # whose bank has the very patches


@torch.inference_mode()
def test_patchcore_leaves_each_image_of_a_batch_its_own_out():
    modeler = fitted(patchcore(coreset_ratio=0.3), IMAGES)
    together = modeler.predict_without(IMAGES, numbers(*([i] for i in range(6))))
    for i in range(6):
        alone = modeler.predict_without(IMAGES[i : i + 1], numbers([i]))
        torch.testing.assert_close(together[i : i + 1].scores, alone.scores)
        torch.testing.assert_close(together[i : i + 1].maps, alone.maps)
    whole = modeler.predict_step(IMAGES)
    assert (together.scores >= whole.scores).all()
    assert len(modeler.model.memory_bank) == int(0.3 * 6 * 64)
    torch.testing.assert_close(modeler.predict_step(IMAGES).scores, whole.scores)  # the bank is whole again


@pytest.mark.parametrize("options", [{}, {"projection_dim": 8}, {"memory_budget": "300KB"}, {"bank_dtype": "float16"}])
@torch.inference_mode()
def test_while_it_is_fitted_the_bank_gets_back_what_it_loses(options):
    modeler = patchcore(coreset_ratio=0.05, **options)
    with modeler.fitting(True):
        fitted(modeler, IMAGES)
        left_out = modeler._left_out
        assert left_out is not None
        size = len(modeler.model.memory_bank)
        for i in range(6):
            with modeler.model.without(*left_out.without(torch.tensor([i]))):
                bank = modeler.model._without.bank
            assert len(bank) == size
            patches = modeler.embed(IMAGES[[j for j in range(6) if j != i]]).flatten(0, 2)
            assert float(nearest(bank, patches)[0].max()) < 1e-6  # none of its own
        regained = modeler.predict_without(IMAGES, numbers(*([i] for i in range(6)))).scores
    assert modeler._left_out is None
    lost = modeler.predict_without(IMAGES, numbers(*([i] for i in range(6)))).scores
    refitted = [fitted(patchcore(coreset_ratio=0.05, **options), torch.cat([IMAGES[:i], IMAGES[i + 1 :]])) for i in range(6)]
    exact = torch.cat([m.predict_step(IMAGES[i : i + 1]).scores for i, m in enumerate(refitted)])
    assert (regained - exact).mean().abs() < (lost - exact).mean()


@pytest.mark.parametrize("options", [{}, {"neighbors": 3}, {"collect_dtype": "float16"}, {"reweight": True}])
@torch.inference_mode()
def test_patches_that_are_held_score_as_those_that_are_searched_again(options):
    modeler = patchcore(coreset_ratio=0.1, **options)
    with modeler.fitting(True):
        fitted(modeler, IMAGES)
        left_out = modeler._left_out
        assert left_out is not None
        owners = left_out._owners_of_bank[left_out._nearest[1][:, : modeler.config.neighbors]]
        assert (owners == left_out._owners[:, None]).any()  # some neighbours are lost
        groups = numbers([0], [1, 2], [1, 2], [3], [4], [5])
        held = modeler.predict_without(IMAGES, groups)
        left_out._scores = False
        searched = modeler.predict_without(IMAGES, groups)
    torch.testing.assert_close(held.scores, searched.scores, rtol=0, atol=0)
    torch.testing.assert_close(held.maps, searched.maps, rtol=0, atol=0)


@torch.inference_mode()
def test_a_bank_of_one_image_is_rebuilt_from_the_others():
    modeler = patchcore(coreset_ratio=0.001)
    with modeler.fitting(True):
        fitted(modeler, IMAGES[:2])
        assert len(modeler.model.memory_bank) == 1
        assert modeler.leaves_out == math.inf
        assert modeler.predict_without(IMAGES[:2], numbers([0], [1])).scores.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"memory_budget": "330KB"}, {"search": "hnsw"}])
@torch.inference_mode()
def test_each_entry_of_the_bank_knows_its_image(options):
    if options.get("search"):
        pytest.importorskip("faiss")
    modeler = fitted(patchcore(coreset_ratio=0.25, **options), IMAGES)
    patches = modeler.embed(IMAGES).flatten(1, 2)
    for number in range(6):
        own = modeler.model.memory_bank[modeler._owners == number]
        assert not len(own) or float(nearest(own, patches[number])[0].max()) < 1e-9
    assert len(modeler._owners) == len(modeler.model.memory_bank)
    assert modeler.predict_without(IMAGES[:1], numbers([0])).score >= modeler.predict_step(IMAGES[:1]).score


def test_an_image_of_which_a_budget_kept_nothing_takes_nothing_away():
    points = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
    owners, picked = torch.arange(30, dtype=torch.int32) // 10, torch.tensor([3, 14, 25])
    left_out = LeftOut(points, points, owners, picked)
    lost, regained = left_out.without(torch.tensor([7]))
    assert not lost.any()
    assert not len(regained)
    lost, regained = left_out.without(torch.tensor([2, 7]))
    assert lost.tolist() == [False, False, True]
    assert len(regained) == 1


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("lost", [0, 1, 60, 198, 200])  # of 200; of 198, fewer than four remain
@pytest.mark.parametrize("regained", [0, 1, 9])
@pytest.mark.parametrize("known", [None, 4, 6])
def test_a_search_without_some_entries_finds_what_a_search_in_the_rest_does(k, lost, regained, known):
    generator = torch.Generator().manual_seed(3)
    bank, others = torch.randn(200, 6, generator=generator), torch.randn(regained, 6, generator=generator)
    gone = torch.zeros(200, dtype=torch.bool)
    gone[bank[:, 0].argsort()[:lost]] = True  # neighbours of each other
    queries = torch.cat([torch.randn(70, 6, generator=generator), bank])
    queries[7] = torch.nan
    if known:
        found, of_found = nearest(queries, bank, 6)
        known = found.index_fill(1, torch.arange(known, 6), math.inf), of_found.index_fill(1, torch.arange(known, 6), 0)
    search = SearchWithout(BankSearch(bank), gone, others, known)
    assert len(search.bank) == 200 - lost + regained
    if not len(search.bank):
        return
    distances, indices = search.of_images(queries[None], k)
    expected = nearest(queries, torch.cat([bank[~gone], others]), k)
    torch.testing.assert_close(distances[0], expected[0], equal_nan=True, rtol=0, atol=0)
    finite = torch.arange(len(queries)) != 7
    assert torch.equal(indices[0][finite], expected[1][finite])


@torch.inference_mode()
def test_patchcore_says_when_nothing_remains():
    modeler = fitted(patchcore(coreset_ratio=0.3), IMAGES[:1])
    assert modeler.leaves_out == 0
    with pytest.raises(DataError, match=r"one group of images alone"):
        modeler.predict_without(IMAGES[:1], numbers([0]))


def test_a_thinned_store_keeps_the_origins_with_their_patches():
    points = torch.randn(600, 4, generator=torch.Generator().manual_seed(1))
    owners = torch.arange(600, dtype=torch.int32) // 50
    store = PatchStore(100 * (4 * 4 + 8), seed=0, ratio=0.05)
    origins = torch.stack([owners, owners + 1, owners + 2], dim=1)
    for rows, own in zip(points.split(70), origins.split(70), strict=True):
        store.add(rows, origins=own)
    assert len(store) < 600 == store.total
    places = (store.patches()[:, None] == points[None]).all(dim=2).float().argmax(dim=1)
    assert torch.equal(origins[places], store.origins)


@pytest.mark.parametrize(("count", "dim", "regularization"), [(40, 12, 0.01), (6, 12, 0.01), (200, 8, 0.5), (3, 5, 0.1)])
def test_padim_leaves_one_out_in_closed_form(count, dim, regularization):
    generator = torch.Generator().manual_seed(count)
    mix = torch.randn(9, dim, dim, generator=generator)
    vectors = torch.randn(9, count, dim, generator=generator) @ mix + 3 * torch.randn(9, 1, dim, generator=generator)

    def model(kept, regularization):
        of_kept = PaDiMModel([dim], None, regularization)
        moments = Moments(9, dim)
        moments.add(vectors[:, kept])
        of_kept.build(moments, (3, 3))
        return of_kept

    embedding = vectors.permute(1, 2, 0).reshape(count, dim, 3, 3)[:, torch.arange(dim)]
    whole = model(list(range(count)), regularization)
    assert torch.equal(whole.selected, torch.arange(dim))
    left_out = whole.distances_without(embedding)
    for i in range(min(count, 8)):
        others = model([j for j in range(count) if j != i], regularization * (count - 1) / (count - 2))
        torch.testing.assert_close(left_out[i], others.distances(embedding[i : i + 1])[0], rtol=2e-3, atol=1e-3)
    assert (left_out >= whole.distances(embedding)).all()


@pytest.mark.filterwarnings("ignore:PaDiM saw")
@torch.inference_mode()
def test_padim_without_an_image_scores_it_higher():
    torch.manual_seed(0)
    modeler = fitted(PaDiMModeler(PaDiMConfig(layers=("layer2",), n_features=8, **GEOMETRY)), IMAGES)
    assert modeler.leaves_out == 1
    without = modeler.predict_without(IMAGES, numbers(*([i] for i in range(6))))
    assert (without.scores > modeler.predict_step(IMAGES).scores).all()
    assert without.maps.shape == (6, 1, 64, 64)
