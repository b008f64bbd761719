"""Each data set's samples on a miniature tree with its quirks, through the loader where decoding matters."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from anomaly_core import ConfigError, DataError, InputSpec, read_mask
from anomaly_datasets import plugin
from anomaly_datasets.btad import BTADData
from anomaly_datasets.config import BTADConfig, ELPVConfig, FolderConfig, MVTecConfig, VisAConfig
from anomaly_datasets.elpv import ELPVData
from anomaly_datasets.folder import FolderData
from anomaly_datasets.mvtec import MVTecData
from anomaly_datasets.visa import VisAData

INPUT = InputSpec((16, 24))


def mvtec(root):
    return MVTecData(MVTecConfig(name="mvtec", root=str(root), num_workers=0), 0, plugin.MVTEC)


def visa(root):
    return VisAData(VisAConfig(name="visa", root=str(root), num_workers=0), 0, plugin.VISA)


def btad(root):
    return BTADData(BTADConfig(name="btad", root=str(root), num_workers=0), 0, plugin.BTAD)


def folder(**options):
    return FolderData(FolderConfig(name="folder", num_workers=0, **options), 0, plugin.FOLDER)


def names(samples):
    return [sample.path.name for sample in samples]


def test_mvtec_reads_its_layout_in_natural_order(mvtec_tree):
    data = mvtec(mvtec_tree)
    assert data.categories() == ["bottle", "grid"]
    assert names(data.train_samples("bottle")) == ["1.png", "2.png", "10.png"]
    test = data.test_samples("grid")
    assert [(s.label, s.defect, s.mask_path is not None) for s in test] == [
        (1, "broken", True),
        (1, "broken", False),
        (0, "good", False),
    ]
    (batch,) = data.loader(test, INPUT)
    assert batch.images.shape == (3, 3, 16, 24)
    assert batch.masks.sum(dim=(1, 2, 3)).tolist() == [16, 0, 0]
    assert batch.has_mask.tolist() == [True, False, True]  # the anomalous image without its mask says nothing


def test_a_category_without_test_images_is_named(mvtec_tree):
    (mvtec_tree / "tile" / "train" / "good").mkdir(parents=True)
    with pytest.raises(DataError, match=r"tile.test"):
        mvtec(mvtec_tree).test_samples("tile")
    with pytest.raises(DataError, match=r"tile.train.good.*holds no image"):
        mvtec(mvtec_tree).train_samples("tile")


def test_visa_masks_hold_class_indices_and_sizes_differ(visa_tree):
    data = visa(visa_tree)
    assert data.categories() == ["candle"]  # listed in the split and not there: capsules
    assert len(data.train_samples("candle")) == 2
    test = data.test_samples("candle")
    assert [(s.label, s.defect, s.mask_path is not None) for s in test] == [
        (0, "good", False),
        (1, "anomaly", True),
        (1, "anomaly", False),
    ]
    assert sum(pixel > 0 for pixel in read_mask(test[1].mask_path).tobytes()) == 32  # both classes
    (batch,) = data.loader(test, INPUT)
    assert batch.masks[1].sum() == 32  # and the rotated JPEG has the size of its mask
    assert batch.has_mask.tolist() == [True, True, False]


def test_visa_after_the_conversion(mvtec_tree):
    data = visa(mvtec_tree)
    assert data.categories() == ["bottle", "grid"]
    assert len(data.test_samples("bottle")) == 3
    (mvtec_tree / "1cls").mkdir()
    (mvtec_tree / "bottle").rename(mvtec_tree / "1cls" / "bottle")
    assert visa(mvtec_tree).categories() == ["bottle"]


def test_visa_names_an_image_that_the_split_lists_in_vain(visa_tree):
    (visa_tree / "candle/Data/Images/Normal/0001.JPG").unlink()
    with pytest.raises(DataError, match=r"0001\.JPG"):
        visa(visa_tree).train_samples("candle")


@pytest.mark.parametrize("inner", ["", "BTech_Dataset_transformed"])
def test_btad_matches_masks_by_stem_and_labels_by_folder(btad_tree, inner):
    data = btad(btad_tree / inner)
    assert data.categories() == ["01", "02"]
    bad = [s for s in data.test_samples("01") if s.label == 1]
    assert [(s.path.name, s.mask_path.name) for s in bad] == [("0000.bmp", "0000.png"), ("0001.bmp", "0001.png")]
    good = [s for s in data.test_samples("02") if s.label == 0]
    assert [s.defect for s in good] == ["good"]
    (batch,) = data.loader(bad, INPUT)
    assert batch.labels.tolist() == [1, 1]  # although the second mask is empty
    assert batch.masks.sum(dim=(1, 2, 3)).tolist() == [16, 0]
    assert batch.has_mask.all()


@pytest.mark.parametrize(
    ("build", "name", "parts"),
    [
        (mvtec, "mvtec", ("www.mvtec.com", "CC BY-NC-SA 4.0", "ground_truth")),
        (visa, "visa", ("github.com/amazon-science", "CC BY 4.0", "1cls.csv")),
        (btad, "btad", ("VT-ADL", "CC BY-NC-SA 4.0", "test/{ok,ko}")),
    ],
)
def test_a_missing_root_says_all_that_is_needed(tmp_path, build, name, parts):
    with pytest.raises(DataError) as error:
        build(tmp_path / "nowhere").categories()
    for part in (*parts, str(tmp_path / "nowhere"), f"$ANOMALY_DATA/{name}", "data.root=DIR"):
        assert part in str(error.value)


def test_the_root_defaults_to_the_environment(monkeypatch, mvtec_tree):
    monkeypatch.setenv("ANOMALY_DATA", str(mvtec_tree.parent))
    assert MVTecData(MVTecConfig(name="mvtec"), 0, plugin.MVTEC).categories() == ["bottle", "grid"]


# elpv


def test_elpv_is_what_was_published_and_split_by_itself():
    pytest.importorskip("elpv_dataset")
    by_seed = [ELPVData(ELPVConfig(name="elpv"), seed, plugin.ELPV) for seed in (0, 1)]
    data = by_seed[0]
    assert data.categories() == ["mono", "poly"]
    for category, normal, odd in (("mono", 588, 313), ("poly", 920, 402)):
        train, test = data.train_samples(category), data.test_samples(category)
        assert len(train) == round(0.7 * normal)
        assert [sum(s.label == label for s in test) for label in (0, 1)] == [normal - len(train), odd]
        assert not {s.path for s in train} & {s.path for s in test}
        assert train[0].path.is_file() and train == by_seed[1].train_samples(category)
    other = ELPVData(ELPVConfig(name="elpv", split_seed=1), 0, plugin.ELPV)
    assert other.train_samples("mono") != data.train_samples("mono")
    everything = ELPVData(ELPVConfig(name="elpv", ambiguous=True), 0, plugin.ELPV)
    counts = [len(everything.train_samples(c)) + len(everything.test_samples(c)) for c in ("mono", "poly")]
    assert sum(counts) == 2624


def test_elpv_from_another_folder_and_a_damaged_table(tmp_path, picture):
    lines = [f"images/{i}.png  {p}  mono" for i, p in enumerate(["0.0", "0.0", "1.0", "0.3333333333333333"])]
    for index in range(4):
        picture(tmp_path / "images" / f"{index}.png", mode="L")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    data = ELPVData(ELPVConfig(name="elpv", root=str(tmp_path), train_share=0.5), 0, plugin.ELPV)
    assert data.categories() == ["mono"]
    assert [len(data.train_samples("mono")), len(data.test_samples("mono"))] == [1, 2]
    (tmp_path / "labels.csv").write_text("images/0.png zero mono")
    with pytest.raises(DataError, match="probability"):
        ELPVData(ELPVConfig(name="elpv", root=str(tmp_path)), 0, plugin.ELPV).categories()


def test_elpv_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r'pip install "anomaly-datasets\[elpv\]"'):
        ELPVData(ELPVConfig(name="elpv"), 0, plugin.ELPV).categories()


# folder


def test_folder_reads_categories_or_one_category(mvtec_tree, monkeypatch):
    assert folder(root=str(mvtec_tree)).categories() == ["bottle", "grid"]
    one = folder(root=str(mvtec_tree / "grid"))
    assert one.categories() == ["grid"]
    assert len(one.train_samples("grid")) == len(one.test_samples("grid")) == 3
    monkeypatch.chdir(mvtec_tree / "grid")
    here = folder(root=".")
    assert here.categories() == ["grid"] and len(here.train_samples("grid")) == 3


def test_folder_follows_symlinks(mvtec_tree, tmp_path):
    (tmp_path / "linked").symlink_to(mvtec_tree / "bottle")
    data = folder(root=str(tmp_path / "linked"))
    assert data.categories() == ["linked"] and len(data.test_samples("linked")) == 3


@pytest.fixture
def plain(tmp_path, picture, mask):
    """ok with ten images, nok with three of which two have masks of either name, and one 16-bit."""
    for index in range(10):
        picture(tmp_path / "ok" / f"{index}.png")
    picture(tmp_path / "nok" / "a.jpg")
    picture(tmp_path / "nok" / "b.png", mode="I;16", value=128)
    picture(tmp_path / "nok" / "c.png", mode="L")
    mask(tmp_path / "masks" / "a.png")
    mask(tmp_path / "masks" / "b_mask.png", values=(1,))
    return tmp_path


def test_folder_from_plain_folders(plain):
    options = {"normal": str(plain / "ok"), "abnormal": str(plain / "nok"), "masks": str(plain / "masks")}
    data = folder(**options)
    assert data.categories() == [plain.name]  # not "ok", which says what kind of images they are
    train, test = data.train_samples("ok"), data.test_samples("ok")
    assert len(train) == 8 and [s.label for s in test] == [0, 0, 1, 1, 1]
    assert not {s.path for s in train} & {s.path for s in test}
    (batch,) = data.loader(test, INPUT)
    assert batch.has_mask.tolist() == [True, True, True, True, False]
    assert batch.masks.sum(dim=(1, 2, 3)).tolist() == [0, 0, 16, 16, 0]
    assert torch.allclose(batch.images[3], torch.tensor(128 / 255))  # 16 bits scaled, not clipped
    assert FolderData(FolderConfig(name="folder", **options), 7, None).train_samples("ok") == train  # not the run's seed
    own = folder(normal=str(plain / "ok"), normal_test=str(plain / "nok"))
    assert len(own.train_samples("ok")) == 10 and {s.label for s in own.test_samples("ok")} == {0}


def test_folder_errors_name_the_folder(plain):
    (plain / "empty").mkdir()
    for options in (
        {"normal": "empty"},
        {"normal": "ok", "abnormal": "empty"},
        {"normal": "ok", "abnormal": "nok", "masks": "empty"},
    ):
        data = folder(**{key: str(plain / value) for key, value in options.items()})
        with pytest.raises(DataError, match=r"empty.*holds no (image|mask)"):
            data.train_samples("x"), data.test_samples("x")
    with pytest.raises(ConfigError, match=r"data\.normal"):
        folder(abnormal=str(plain / "nok")).categories()
    with pytest.raises(DataError, match=r"data\.normal=DIR"):
        folder(root=str(plain)).categories()


def test_plugin_configs_and_commands_import_no_torch():
    code = (
        "import sys, anomaly_datasets.plugin, anomaly_datasets.config, anomaly_datasets.facts, anomaly_datasets.commands;"
        "sys.exit(str({'torch', 'torchvision', 'numpy'} & set(sys.modules)) if 'torch' in sys.modules else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
