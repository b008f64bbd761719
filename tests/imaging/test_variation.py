"""data.augment: varied copies of training images, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import ConfigError, DataConfig, ImageReader, InputSpec, RunConfig, registry, run_experiment
from anomaly_core.base.data import SampleDataset
from anomaly_core.config.resolve import validate
from anomaly_core.imaging.roi import FILL
from anomaly_core.imaging.tiles import Tiling
from anomaly_core.imaging.variation import Variation
from tiny.data import Tree, write_tree

SIDE = 48


def variation(augment: str, copies: int = 1, seed: int = 0) -> Variation:
    found = Variation.from_config(validate(DataConfig, {"augment": augment, "augment_copies": copies}, "data"), seed)
    assert found is not None
    return found


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth picture without dark places."""
    coarse = np.random.default_rng(0).integers(60, 120, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def test_brightness_is_one_factor_for_the_whole_picture(picture: np.ndarray) -> None:
    factors = []
    for number in range(50):
        ratio = variation("brightness:0.5").copy(picture, number) / picture
        assert ratio.max() - ratio.min() < 0.03
        factors.append(float(ratio.mean()))
    assert 1 / 1.5 - 0.01 < min(factors) < 0.8 and 1.3 < max(factors) < 1.51


def test_a_shift_moves_whole_pixels_and_mirrors_the_border(picture: np.ndarray) -> None:
    moved = {}
    mirrored = np.pad(picture, ((5, 5), (5, 5), (0, 0)), mode="symmetric")
    for number in range(40):
        copy = variation("shift:0.1").copy(picture, number)
        for down in range(-5, 6):
            for across in range(-5, 6):
                if (copy == mirrored[5 - down : 5 - down + SIDE, 5 - across : 5 - across + SIDE]).all():
                    moved[number] = (across, down)
    assert len(moved) == 40 and len(set(moved.values())) > 20


def test_a_rotation_is_bilinear_about_the_centre_without_dark_corners(picture: np.ndarray) -> None:
    for number in range(20):
        copy = variation("rotate:30").copy(picture, number)
        assert copy.shape == picture.shape and copy.min() >= picture.min() - 1, "black corners"
    single = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    single[23:25, 23:25] = 200
    turned = variation("rotate:30").copy(single, 1).sum(axis=-1)
    rows, columns = np.indices((SIDE, SIDE))
    assert [float((axis * turned).sum() / turned.sum()) for axis in (rows, columns)] == pytest.approx([23.5, 23.5], abs=0.1)
    oblong = np.random.default_rng(1).integers(90, 110, (20, 90, 3), dtype=np.uint8)
    assert variation("rotate:180,shift:0.5").copy(oblong, 0).min() >= 90


@pytest.mark.parametrize("text", ["rotate:181", "shift:0.6", "brightness:0", "brightness:10"])
def test_a_reach_that_is_not_possible_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"data.augment='{text}': expected more than 0"):
        variation(text)


@pytest.mark.parametrize("text", ["colour", "rotate:-5", "rotate=5", "rotate:five"])
def test_what_is_no_variation_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.augment="):
        variation(text)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    write_tree(tmp_path / "cloth", 8, 2, 2, side=SIDE)
    return Tree(DataConfig(root=str(tmp_path), name="tree"), seed=1)


def pixels(tree: Tree, batch_size: int, workers: int, seed: int = 0) -> torch.Tensor:
    tree.config.batch_size, tree.config.num_workers = batch_size, workers
    loader = tree.loader(tree.train_samples("cloth"), InputSpec((32, 32)), variation=variation("brightness,rotate", 2, seed))
    return torch.cat([batch.images for batch in loader])


def test_copies_depend_on_the_seed_alone(tree: Tree) -> None:
    first = pixels(tree, 5, 0)
    assert len(first) == 3 * 8
    plain = torch.cat([batch.images for batch in tree.loader(tree.train_samples("cloth"), InputSpec((32, 32)))])
    assert first[::3].equal(plain), "each image stays as it is, before its copies"
    assert len({image.numpy().tobytes() for image in first}) == len(first)
    assert first.equal(pixels(tree, 16, 0)) and first.equal(pixels(tree, 5, 2))
    assert not first[1::3].equal(pixels(tree, 5, 0, seed=1)[1::3])


def test_each_tile_has_its_copies(tree: Tree) -> None:
    samples, spec, tiling = tree.train_samples("cloth")[:2], InputSpec((16, 16)), Tiling((24, 24), 0)
    varied = SampleDataset(samples, spec, tiling, variation=variation("shift"))
    plain = SampleDataset(samples, spec, tiling)
    assert (len(varied), len(plain)) == (16, 8)
    assert torch.cat([varied[i].images for i in range(0, 16, 2)]).equal(torch.cat([one.images for one in plain]))


def test_what_is_ignored_stays_as_it_is_in_copies(tree: Tree) -> None:
    reader = ImageReader.from_config(DataConfig(ignore="0,0,24,48"))
    dataset = SampleDataset(
        tree.train_samples("cloth"), InputSpec((48, 48)), reader=reader, variation=variation("brightness,rotate")
    )
    for one in (dataset[0], dataset[1]):
        assert (one.images[..., :24] == FILL / 255).all() and one.images[..., 24:].unique().numel() > 99


def test_a_method_without_a_memory_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    gradient = next(name for name in registry.models if registry.trainers[registry.models[name].spec.trainer].load().shuffles)
    overrides = {"data.augment": "brightness", "base.output": str(tmp_path / "runs"), "data.root": str(tmp_path / "tree")}
    write_tree(tmp_path / "tree" / "cloth", 4, 1, 1, side=SIDE)
    with pytest.raises(ConfigError, match=r"data\.augment adds copies to a memory, and '.*' has none"):
        run_experiment(RunConfig.create(model=gradient, data="folder", overrides=overrides))
    assert not (tmp_path / "runs").exists()
