"""What a data module does with the samples that a data set names: splits, loaders, kept images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anomaly_core import BaseDataModule, ConfigError, DataConfig, DataError, InputSpec, Sample
from tiny.config import TreeConfig
from tiny.data import Tree, write_tree


class Listed(BaseDataModule):
    """A data set whose training part holds an anomalous image."""

    def categories(self) -> list[str]:
        return ["x"]

    def train_samples(self, category: str) -> list[Sample]:
        return [Sample(Path(f"{index}.png"), int(index == 2)) for index in range(5)]

    def test_samples(self, category: str) -> list[Sample]:
        return []


def test_an_anomalous_image_in_train_is_neither_fitted_nor_held_out() -> None:
    fit, held = Listed(DataConfig(holdout=0.25)).split("x")
    assert len(fit) + len(held) == 4
    assert all(sample.label == 0 for sample in (*fit, *held))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Six normal training images, two good and two bad test images."""
    return Tree(TreeConfig(name="tree", root=str(write_tree(tmp_path / "cloth")), holdout=0.34, batch_size=4), seed=3)


def test_the_seed_draws_what_is_held_out(tree: Tree) -> None:
    fit, held_out = tree.split("cloth")
    assert (len(fit), len(held_out)) == (4, 2)
    assert {sample.path for sample in (*fit, *held_out)} == {sample.path for sample in tree.train_samples("cloth")}
    assert (fit, held_out) == tree.split("cloth")
    draws = {tuple(sample.path.name for sample in Tree(tree.config, seed).split("cloth")[1]) for seed in range(20)}
    assert len(draws) > 5


@pytest.mark.parametrize(
    ("holdout", "fewest", "expected"), [(0.0, 1, (6, 0)), (0.01, 1, (5, 1)), (0.9, 1, (1, 5)), (0.9, 4, (4, 2))]
)
def test_what_a_method_needs_is_not_held_out(holdout: float, fewest: int, expected: tuple[int, int], tree: Tree) -> None:
    tree.config.holdout = holdout
    assert tuple(map(len, tree.split("cloth", fewest))) == expected


def test_too_few_images_are_an_error_and_none_may_be_enough(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 6 normal training images, and the method needs 7"):
        tree.split("cloth", 7)
    empty = Tree(TreeConfig(name="tree", root=str(write_tree(tmp_path / "bare", train=0))))
    (tmp_path / "bare" / "train" / "good").mkdir(parents=True)
    with pytest.raises(DataError, match="'bare' of 'tree' has no normal training image"):
        empty.split("bare")
    assert empty.split("bare", 0) == ([], [])


def test_a_category_that_is_not_there_is_named_with_those_that_are(tree: Tree) -> None:
    tree.config.category = ["silk"]
    with pytest.raises(ConfigError, match=r"'tree' has no category 'silk' under .* Choose one of: cloth"):
        tree.chosen_categories()
    tree.config.category = ["cloth", "cloth"]
    assert tree.chosen_categories() == ["cloth"]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_images_labels_and_masks(workers: int, tree: Tree) -> None:
    tree.config.num_workers = workers
    samples = tree.test_samples("cloth")
    samples[1] = Sample(samples[1].path, 1)  # anomalous, and nobody has drawn its mask
    (batch,) = tree.loader(samples, InputSpec((16, 24)))
    assert (batch.images.shape, batch.images.dtype) == ((4, 3, 16, 24), torch.float32)
    assert 0 <= float(batch.images.min()) < float(batch.images.max()) <= 1
    assert batch.labels.tolist() == [1, 1, 0, 0]
    assert batch.masks is not None and batch.masks.dtype == torch.bool
    assert batch.masks.flatten(1).any(dim=1).tolist() == [True, False, False, False]
    assert batch.has_mask.tolist() == [True, False, True, True]
    assert batch.samples == samples


def test_the_order_of_training_is_the_seeds_for_any_number_of_workers(tree: Tree) -> None:
    orders = []
    for workers in (0, 2):
        tree.config.num_workers = workers
        loader = tree.loader(tree.train_samples("cloth"), InputSpec((8, 8)), shuffle=True)
        orders.append([[sample.path.name for batch in loader for sample in batch.samples] for _ in range(2)])
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1] and sorted(orders[0][0]) == sorted(orders[0][1])


class Grouped(Listed):
    """Three views of each of eight parts, and two images of no part."""

    def train_samples(self, category: str) -> list[Sample]:
        views = [Sample(Path(f"{part}-{view}.png"), 0, extra={"group": part}) for part in range(8) for view in range(3)]
        return [*views, Sample(Path("a.png"), 0), Sample(Path("b.png"), 0)]


def test_images_of_one_group_are_held_out_together() -> None:
    halves = set()
    for seed in range(5):
        fit, held = Grouped(DataConfig(holdout=0.25), seed).split("x")
        assert len(fit) + len(held) == 26 and 6 <= len(held) <= 9
        assert not {s.extra.get("group", s.path) for s in fit} & {s.extra.get("group", s.path) for s in held}
        halves.add(frozenset(held))
    assert len(halves) > 1
    fit, held = Grouped(DataConfig(holdout=0.9)).split("x", 25)  # at most one is left over: no group fits
    assert [sample.extra for sample in held] == [{}] and len(fit) == 25


def test_nothing_is_known_of_the_pixels_of_an_unlabelled_image(tree: Tree) -> None:
    samples = tree.test_samples("cloth")
    (batch,) = tree.loader([samples[0], Sample(samples[1].path)], InputSpec((16, 24)))
    assert batch.labels.tolist() == [1, -1] and batch.has_mask.tolist() == [True, False]
