"""``sample``: deterministic, written once, honest masks, and no toy."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from anomaly_core import DataError
from anomaly_datasets import plugin
from anomaly_datasets.config import SampleConfig
from anomaly_datasets.sample import KINDS, LOGICAL, SCENES, SampleData, spoil

SMALL = {"size": 64, "train_count": 3, "good_count": 2, "bad_count": 6}


def sample(root, **options):
    return SampleData(SampleConfig(name="sample", root=str(root), num_workers=0, **options), 0, plugin.SAMPLE)


def files(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.float32)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    first, second = (sample(tmp_path / name, **SMALL).ensure() for name in "ab")
    assert files(first) == files(second)
    other = sample(tmp_path / "a", sample_seed=1, **SMALL).ensure()
    assert other != first and files(other) != files(first)
    more = sample(tmp_path / "a", **{**SMALL, "train_count": 4}).ensure()
    assert (more / "nut/train/good/002.png").read_bytes() == (first / "nut/train/good/002.png").read_bytes()


def test_counts_masks_and_categories(tmp_path):
    data = sample(tmp_path, **SMALL)
    assert data.categories() == ["fabric", "wood", "nut", "circuit", "kit"]
    assert len({kind for kinds in KINDS.values() for kind in kinds}) >= 4
    for category in data.categories():
        assert len(data.train_samples(category)) == 3
        test = data.test_samples(category)
        assert [sum(s.label == label for s in test) for label in (0, 1)] == [2, 6]
        for item in test:
            assert (item.mask_path is not None) == (item.label == 1)
            assert pixels(item.path).shape == (64, 64, 3)
            if item.mask_path and item.defect not in LOGICAL.get(category, ()):
                assert set(np.unique(pixels(item.mask_path))) == {0, 255}


PAINTED = [(category, kind) for category, kinds in KINDS.items() for kind in kinds if kind not in LOGICAL.get(category, ())]


@pytest.mark.parametrize(("category", "kind"), PAINTED)
def test_a_mask_is_where_the_picture_changed(category, kind):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        scene = SCENES[category](rng, 128)
        picture, mask = spoil(rng, scene, kind)
        change = np.abs(picture - scene.picture).max(axis=-1)
        assert change[mask].mean() > 0.05  # visible
        assert (change > 0.15)[~mask].mean() < 0.01  # and nowhere else
        assert 0 < mask.mean() < 0.2


def test_pictures_are_generated_once_and_other_trees_refused(tmp_path):
    data = sample(tmp_path, **SMALL)
    tree = data.ensure()
    times = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    assert sample(tmp_path, **SMALL).ensure() == tree
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == times
    assert [item.name for item in tmp_path.iterdir()] == [tree.name]
    (tree / "sample.json").write_text("{}")
    with pytest.raises(DataError, match=r"sample\.json"):
        data.categories()


def test_two_at_once_leave_one_whole_tree(tmp_path):
    errors = []

    def work():
        try:
            sample(tmp_path, **SMALL).ensure()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(list(tmp_path.iterdir())) == 1


def test_a_root_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"data\.root=DIR"):
        sample(tmp_path / "file", **SMALL).categories()


def test_it_is_no_toy(tmp_path):
    data = sample(tmp_path, size=128, train_count=24, good_count=6, bad_count=15)
    found = {}
    for category in data.categories():
        mean = np.mean([pixels(item.path) for item in data.train_samples(category)], axis=0)
        test = data.test_samples(category)
        distance = np.stack([np.linalg.norm(pixels(item.path) - mean, axis=-1) for item in test])
        truth = np.stack([pixels(item.mask_path) > 0 if item.mask_path else np.zeros(mean.shape[:2], bool) for item in test])
        found[category] = roc_auc_score(truth.ravel(), distance.ravel())
    assert sum(value < 0.80 for value in found.values()) >= 2, found
