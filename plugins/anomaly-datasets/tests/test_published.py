"""Published sets of surfaces: each one's samples on a miniature tree with its quirks."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_core import ConfigError, DataError, InputSpec, read_mask, registry
from anomaly_datasets import plugin
from anomaly_datasets.config import DAGMConfig, DeepPCBConfig, DTDConfig, KSDD2Config, MagneticTileConfig, MPDDConfig
from anomaly_datasets.dagm import DAGMData
from anomaly_datasets.deep_pcb import DeepPCBData
from anomaly_datasets.dtd import DTDData
from anomaly_datasets.facts import FACTS
from anomaly_datasets.ksdd2 import KSDD2Data
from anomaly_datasets.magnetic_tile import MagneticTileData
from anomaly_datasets.mpdd import MPDDData

INPUT = InputSpec((16, 24))
REAL = Path(__file__).parents[4] / "shared" / "data"  # beside the checkout


def names(samples):
    return [sample.path.name for sample in samples]


# magnetic_tile


def tiles(root, **options):
    return MagneticTileData(MagneticTileConfig(name="magnetic_tile", root=str(root), num_workers=0, **options), 0, None)


def test_magnetic_tile_divides_the_good_ones_by_itself(tile_tree):
    data = tiles(tile_tree)
    assert data.categories() == ["magnetic_tile"]
    train, test = data.train_samples("magnetic_tile"), data.test_samples("magnetic_tile")
    assert len(train) == 8 and [s.label for s in test].count(0) == 4  # of 12: the share 650 of 952
    assert not {s.path for s in train} & {s.path for s in test} and all(s.path.suffix == ".jpg" for s in train + test)
    assert [(s.path.parents[1].name, s.defect) for s in test if s.label] == [
        ("MT_Blowhole", "Blowhole"),
        ("MT_Crack", "Crack"),
        ("MT_Uneven", "Uneven"),
    ]
    assert len(tiles(tile_tree, train_count=3).train_samples("magnetic_tile")) == 3
    assert tiles(tile_tree, split_seed=1).train_samples("magnetic_tile") != train


def test_magnetic_tile_borders_of_masks_are_smoothed_and_a_black_one_is_anomalous(tile_tree):
    data = tiles(tile_tree)
    bad = [s for s in data.test_samples("magnetic_tile") if s.label]
    (batch,) = data.loader(bad, INPUT)
    assert batch.masks.sum(dim=(1, 2, 3)).tolist() == [16, 16, 0]  # not the 16 pixels below half
    assert batch.labels.tolist() == [1, 1, 1] and batch.has_mask.all()


def test_magnetic_tile_exposures_shift_the_test_and_not_the_training(tile_tree):
    same, shifted = tiles(tile_tree, exposures=[1]), tiles(tile_tree, exposures=[1], test_exposures=[6])
    assert same.train_samples("magnetic_tile") == shifted.train_samples("magnetic_tile")
    assert len(same.train_samples("magnetic_tile")) == 4
    assert {s.path.name[:4] for s in same.test_samples("magnetic_tile")} == {"exp1"}
    test = shifted.test_samples("magnetic_tile")
    assert {s.path.name[:4] for s in test} == {"exp6"} and [s.label for s in test].count(0) == 6


def test_magnetic_tile_keeps_the_images_of_a_tile_together(tile_tree):
    data = tiles(tile_tree, by_tile=True)  # of each pair of numbers, (0, 1), (2, 3), ...: exposures 6, 1 | 6, 1 | ...
    train, test = data.train_samples("magnetic_tile"), data.test_samples("magnetic_tile")
    tile = [{(int(s.path.stem[9:]) + 1) // 2 for s in part if s.label == 0} for part in (train, test)]
    assert tile[0] | tile[1] == set(range(7)) and not tile[0] & tile[1]  # exposure 6 of 1 follows exposure 1 of it
    fit, held_out = tiles(tile_tree, by_tile=True, holdout=0.4).split("magnetic_tile")
    number = [{(int(s.path.stem[9:]) + 1) // 2 for s in part} for part in (fit, held_out)]
    assert held_out and not number[0] & number[1]
    one = tiles(tile_tree, by_tile=True, exposures=[1], test_exposures=[6])
    assert {s.path for s in one.train_samples("magnetic_tile")} <= {s.path for s in train}
    assert {s.path.stem[:4] for s in one.train_samples("magnetic_tile")} == {"exp1"}
    assert {s.path for s in one.test_samples("magnetic_tile")} <= {s.path for s in test}


def test_magnetic_tile_names_what_is_wrong(tile_tree, tmp_path, picture):
    with pytest.raises(ConfigError, match=r"data\.test_exposures.*exposure 3.*1, 6"):
        tiles(tile_tree, test_exposures=[3]).test_samples("magnetic_tile")
    with pytest.raises(ConfigError, match=r"data\.train_count=7 is more than the 6 good images.*data\.exposures"):
        tiles(tile_tree, exposures=[1], train_count=7).train_samples("magnetic_tile")
    picture(tile_tree / "MT_Free" / "Imgs" / "mine.jpg")
    with pytest.raises(DataError, match=r"mine\.jpg.*exp<E>_num_<N>"):
        tiles(tile_tree).train_samples("magnetic_tile")
    with pytest.raises(DataError, match="abin24"):
        MagneticTileData(MagneticTileConfig(name="magnetic_tile", root=str(tmp_path)), 0, plugin.MAGNETIC_TILE).categories()


# deep_pcb


def boards(root, **options):
    return DeepPCBData(DeepPCBConfig(name="deep_pcb", root=str(root), num_workers=0, **options), 0, None)


@pytest.mark.parametrize("inner", ["", "PCBData"])
def test_deep_pcb_never_divides_a_pair(board_tree, inner):
    data = boards(board_tree / inner)
    assert data.categories() == ["deep_pcb"]
    train, test = data.train_samples("deep_pcb"), data.test_samples("deep_pcb")
    assert len(train) == 4 and [s.label for s in test] == [0, 0, 1, 1]
    pairs = [{name.partition("_")[0] for name in names(part)} for part in (train, test)]
    assert not pairs[0] & pairs[1] and {s.defect for s in test} == {"good", "tested"}


def test_deep_pcb_follows_the_published_lists(board_tree):
    lines = [f"group00041/00041/0004100{i}.jpg group00041/00041_not/0004100{i}.txt\n" for i in range(4)]
    (board_tree / "PCBData" / "trainval.txt").write_text("".join(lines[:1]))
    (board_tree / "PCBData" / "test.txt").write_text("".join(lines[2:]))
    data = boards(board_tree)
    with pytest.warns(UserWarning, match="3 pairs of DeepPCB are in neither"):
        assert names(data.train_samples("deep_pcb")) == ["00041000_temp.jpg"]
    assert names(data.test_samples("deep_pcb"))[2:] == ["00041002_test.jpg", "00041003_test.jpg"]


def test_deep_pcb_masks_are_boxes(board_tree):
    first = next(s for s in boards(board_tree).test_samples("deep_pcb") if s.label)
    mask = np.asarray(read_mask(first.mask_path))
    assert mask.shape == (16, 24) and mask[2:6, 4:10].all() and np.count_nonzero(mask) == 24 + 1
    with Image.open(first.path) as image:
        assert image.mode == "L"


@pytest.mark.parametrize("text", ["", "4 2 10 6", "4 2 25 6 1", "10 2 4 6 1", "a b c d e"])
def test_deep_pcb_boxes_that_are_none(board_tree, text):
    sample = next(s for s in boards(board_tree).test_samples("deep_pcb") if s.label)
    sample.mask_path.path.write_text(text)
    with pytest.raises(DataError, match=r"must be x1 y1 x2 y2 type"):
        read_mask(sample.mask_path)


def test_deep_pcb_says_which_groups_are_there(board_tree):
    assert boards(board_tree).shortfall().startswith("2 of 11 groups (00041, 44000); not there: 12000, ")
    (board_tree / "PCBData" / "group44000" / "44000" / "44000000_temp.jpg").unlink()
    with pytest.raises(DataError, match=r"1 tested boards have no template.*44000000_test"):
        boards(board_tree).train_samples("deep_pcb")


# mpdd, dagm, ksdd2, dtd


def test_mpdd_has_the_layout_of_mvtec(mvtec_tree):
    (mvtec_tree / "bottle").rename(mvtec_tree / "tubes")
    data = MPDDData(MPDDConfig(name="mpdd", root=str(mvtec_tree), num_workers=0), 0, None)
    assert data.categories() == ["grid", "tubes"] and len(data.train_samples("tubes")) == 3
    assert [s.mask_path is not None for s in data.test_samples("tubes")] == [True, False, False]


def textures(root):
    return DAGMData(DAGMConfig(name="dagm", root=str(root), num_workers=0), 0, None)


def test_dagm_trains_on_normal_images_alone(dagm_tree):
    data = textures(dagm_tree)
    assert data.categories() == ["Class1", "Class10"]
    assert names(data.train_samples("Class1")) == ["0006.PNG", "0007.PNG", "0008.PNG"]
    test = data.test_samples("Class10")
    assert [(s.label, s.mask_path is not None) for s in test] == [(1, True), (1, False), (0, False), (0, False)]
    (batch,) = data.loader(test, INPUT)
    assert batch.has_mask.tolist() == [True, False, True, True]  # what is only listed has an unknown mask
    (dagm_tree / "DAGM_KaggleUpload").mkdir()
    (dagm_tree / "Class1").rename(dagm_tree / "DAGM_KaggleUpload" / "Class1")
    assert textures(dagm_tree).categories() == ["Class1"]


def test_dagm_without_its_labels_is_refused(dagm_tree):
    (dagm_tree / "Class1" / "Test" / "Label").rename(dagm_tree / "elsewhere")
    with pytest.raises(DataError, match=r"Class1.Test.Label.*which images are defective"):
        textures(dagm_tree).test_samples("Class1")
    with pytest.raises(DataError, match="Class<N>"):
        textures(dagm_tree / "elsewhere").categories()


def kolektor(root):
    return KSDD2Data(KSDD2Config(name="ksdd2", root=str(root), num_workers=0), 0, None)


def test_ksdd2_reads_the_label_off_the_mask(ksdd2_tree, picture):
    picture(ksdd2_tree / "train" / "10001 (copy).png")
    data = kolektor(ksdd2_tree)
    with pytest.warns(UserWarning, match=r"1 files of .*train.* left out.*10001 \(copy\)\.png"):
        assert names(data.train_samples("ksdd2")) == ["10000.png", "10001.png", "10002.png"]
    test = data.test_samples("ksdd2")
    assert [s.label for s in test] == [0, 0, 0, 1]
    (batch,) = data.loader(test, INPUT)
    assert batch.masks.flatten(1).any(dim=1).tolist() == [False, False, False, True]


def test_ksdd2_without_a_mask_has_no_label(ksdd2_tree):
    (ksdd2_tree / "test" / "20001_GT.png").unlink()
    with pytest.raises(DataError, match=r"20001\.png.*no mask '20001_GT\.png'"):
        kolektor(ksdd2_tree).test_samples("ksdd2")


def describable(root, **options):
    return DTDData(DTDConfig(name="dtd", root=str(root), num_workers=0, **options), 0, None)


@pytest.mark.parametrize("inner", ["", "dtd"])
def test_dtd_is_one_texture_against_the_rest(dtd_tree, inner):
    data = describable(dtd_tree / inner)
    assert data.categories() == ["banded", "polka-dotted", "woven"]
    assert names(data.train_samples("polka-dotted")) == ["polka-dotted_0000.jpg", "polka-dotted_0001.jpg"]
    test = data.test_samples("woven")
    assert [(s.label, s.defect, s.category) for s in test] == [
        (0, "good", "woven"),
        (1, "banded", "woven"),
        (1, "polka-dotted", "woven"),
    ]
    assert names(describable(dtd_tree, split=2).test_samples("woven"))[0] == "woven_0001.jpg"


def test_dtd_names_a_list_that_misleads(dtd_tree):
    (dtd_tree / "dtd" / "images" / "woven" / "woven_0002.jpg").unlink()
    with pytest.raises(DataError, match=r"1 images of .*test1\.txt.*woven_0002"):
        describable(dtd_tree).test_samples("woven")
    (dtd_tree / "dtd" / "labels" / "test1.txt").write_text("woven/../../../etc/passwd\n")
    with pytest.raises(DataError, match="leads out of the folder"):
        describable(dtd_tree).test_samples("woven")
    (dtd_tree / "dtd" / "labels" / "test1.txt").unlink()
    with pytest.raises(DataError, match=r"cannot read the list .*test1\.txt"):
        describable(dtd_tree).test_samples("woven")


@pytest.mark.parametrize("name", ["magnetic_tile", "deep_pcb", "mpdd", "dagm", "ksdd2", "dtd"])
def test_what_is_registered_is_what_is_known(name, tmp_path):
    spec = getattr(plugin, name.upper())
    assert name in FACTS and spec.homepage and spec.license
    module = getattr(importlib.import_module(spec.target.partition(":")[0]), spec.target.partition(":")[2])
    config = getattr(importlib.import_module(spec.config.partition(":")[0]), spec.config.partition(":")[2])
    with pytest.raises(DataError, match=rf"no {name} data set under .*{re.escape(spec.homepage)}"):
        module(config(name=name, root=str(tmp_path / "nowhere")), 0, spec).categories()


# where the real ones are


@pytest.mark.parametrize(
    ("name", "folder", "counts"),
    [("magnetic_tile", "magnetic-tile", (650, 302, 392)), ("deep_pcb", "deep-pcb", (358, 179, 179))],
)
def test_the_real_ones(name, folder, counts):
    if not (REAL / folder).is_dir():
        pytest.skip(f"no copy of {name} on this machine")
    if name not in registry.datasets:
        pytest.skip("the entry points of another installation")
    component = registry.datasets[name]
    data = component.build(component.config_class()(name=name, root=str(REAL / folder)), spec=component.spec)
    labels = [sample.label for sample in data.test_samples(name)]
    assert (len(data.train_samples(name)), labels.count(0), labels.count(1)) == counts
