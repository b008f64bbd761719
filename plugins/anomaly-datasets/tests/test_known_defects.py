"""data.abnormal_train: known defects from folders, from a list, and from a data set's own training part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly_core import ANOMALOUS, ConfigError, DataConfig, RunConfig, Sample, build_data, validate
from anomaly_datasets.config import FolderConfig, MagneticTileConfig
from anomaly_datasets.folder import FolderData
from anomaly_datasets.magnetic_tile import MagneticTileData


def pictures(folder: Path, count: int, mask: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = np.random.default_rng([len(folder.as_posix()), index]).integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray((pixels > 128).astype(np.uint8) * 255 if mask else pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five good images, three bad ones to test on, two known ones, and masks of a bad and of a known one."""
    pictures(tmp_path / "good", 5)
    pictures(tmp_path / "bad" / "scratch", 3)
    pictures(tmp_path / "known" / "dent", 2)
    pictures(tmp_path / "masks" / "scratch", 1, mask=True)
    pictures(tmp_path / "masks" / "dent", 1, mask=True)
    return tmp_path


def folder(root: Path, **options: Any) -> FolderData:
    places = {"normal": str(root / "good"), "abnormal": str(root / "bad"), "masks": str(root / "masks")}
    return FolderData(validate(FolderConfig, {"name": "folder", **places, **options}, "data"))


def places(samples: list[Sample], root: Path) -> list[str]:
    return sorted(sample.path.relative_to(root).as_posix() for sample in samples if sample.label == ANOMALOUS)


def test_a_folder_of_known_defects_trains_with_its_masks(root: Path) -> None:
    data = folder(root, abnormal_train=str(root / "known"))
    (category,) = data.categories()
    known = [sample for sample in data.train_samples(category) if sample.label == ANOMALOUS]
    assert places(known, root) == ["known/dent/0.png", "known/dent/1.png"]
    assert [sample.mask_path is not None for sample in known] == [True, False]
    assert {sample.defect for sample in known} == {"dent"}
    assert places(data.test_samples(category), root) == [f"bad/scratch/{i}.png" for i in range(3)]
    fit, held_out = data.split(category)
    assert all(sample.label == 0 for sample in (*fit, *held_out))


def test_a_known_folder_among_the_bad_ones_does_not_test(root: Path) -> None:
    pictures(root / "bad" / "dent", 2)
    data = folder(root, abnormal_train=str(root / "bad" / "dent"))
    (category,) = data.categories()
    assert places(data.train_samples(category), root) == ["bad/dent/0.png", "bad/dent/1.png"]
    assert places(data.test_samples(category), root) == [f"bad/scratch/{i}.png" for i in range(3)]


def test_a_tree_takes_its_train_folder_of_defects(root: Path, tmp_path: Path) -> None:
    tree = tmp_path / "caps"
    for part, count in (("train/good", 4), ("train/crack", 2), ("test/good", 1), ("test/crack", 1)):
        pictures(tree / part, count)
    options = {"name": "folder", "root": str(tree), "abnormal_train": str(tree / "train" / "crack")}
    data = FolderData(validate(FolderConfig, options, "data"))
    with pytest.warns(UserWarning, match=r"data\.abnormal_train=DIR"):
        samples = data.train_samples("caps")
    assert places(samples, tree) == ["train/crack/0.png", "train/crack/1.png"]


def test_a_list_names_them_by_its_split(root: Path) -> None:
    rows = ["path,label,mask,split", *(f"good/{i}.png,good,," for i in range(5)), "bad/scratch/0.png,scratch,,"]
    rows += ["known/dent/0.png,dent,masks/dent/0.png,train", "known/dent/1.png,dent,,train"]
    (root / "parts.csv").write_text("\n".join(rows))
    data = FolderData(validate(FolderConfig, {"name": "folder", "list": str(root / "parts.csv")}, "data"))
    (category,) = data.categories()
    known = [sample for sample in data.train_samples(category) if sample.label == ANOMALOUS]
    assert [sample.mask_path is not None for sample in known] == [True, False]
    assert places(data.test_samples(category), root) == ["bad/scratch/0.png"]
    options = {"name": "folder", "list": str(root / "parts.csv"), "abnormal_train": str(root / "known")}
    with pytest.raises(ConfigError, match="the split train"):
        FolderData(validate(FolderConfig, options, "data")).train_samples(category)


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("0.25", 0.25), (".5", 0.5), ("known", "known"), ("a,b", ["a", "b"])])
def test_a_number_is_no_folder(text: str, value: Any) -> None:
    assert validate(FolderConfig, {"abnormal_train": text}, "data").abnormal_train == value


def test_a_folder_may_be_called_like_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "3").mkdir()
    assert validate(FolderConfig, {"abnormal_train": "3"}, "data").abnormal_train == "3"


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("0.25", 0.25), ("0", 0)])
def test_other_data_sets_take_a_number(text: str, value: Any) -> None:
    assert validate(DataConfig, {"abnormal_train": text}, "data").abnormal_train == value


@pytest.mark.parametrize("text", ["-1", "1.5", "known"])
def test_and_nothing_else(text: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.abnormal_train"):
        validate(DataConfig, {"abnormal_train": text}, "data")


def test_an_evaluation_keeps_them_out_of_the_test_and_forgets_them_for_other_images() -> None:
    fitted = {"normal": "good", "abnormal": "bad", "abnormal_train": 3}
    assert FolderConfig.of_new_images({}, fitted) == {}
    assert FolderConfig.of_new_images({"normal": "good"}, fitted)["abnormal_train"] == 3
    assert FolderConfig.of_new_images({"normal": "other"}, fitted)["abnormal_train"] is None
    assert FolderConfig.of_new_images({"normal": "good", "abnormal": "new"}, fitted)["abnormal_train"] is None


def test_images_of_one_magnetic_tile_are_a_group(tmp_path: Path) -> None:
    for kind, names in (("Free", ["exp1_num_1", "exp2_num_2"]), ("Crack", ["exp1_num_5", "exp2_num_8", "exp1_num_20"])):
        place = tmp_path / f"MT_{kind}" / "Imgs"
        place.mkdir(parents=True)
        for name in names:
            Image.new("L", (8, 8)).save(place / f"{name}.jpg")
    options = {"name": "magnetic_tile", "root": str(tmp_path), "train_count": 1}
    data = MagneticTileData(validate(MagneticTileConfig, options, "data"))
    groups = {sample.path.stem: sample.extra.get("group") for sample in data.test_samples("magnetic_tile") if sample.label}
    assert groups == {"exp1_num_5": "Crack 0", "exp2_num_8": "Crack 0", "exp1_num_20": "Crack 1"}


@pytest.mark.parametrize("name", ["ksdd2", "dagm"])
def test_sets_with_defects_for_training_draw_from_these(name: str, tmp_path: Path) -> None:
    if name == "ksdd2":
        for part in ("train", "test"):
            pictures(tmp_path / part, 4)
            for index in range(4):
                Image.new("L", (8, 8), 255 * (index > 1)).save(tmp_path / part / f"{index}_GT.png")
    else:
        for part in ("Train", "Test"):
            pictures(tmp_path / "Class1" / part, 4)
            (tmp_path / "Class1" / part / "Label").mkdir()
            for index in (2, 3):
                Image.new("L", (8, 8), 255).save(tmp_path / "Class1" / part / "Label" / f"{index}_label.png")
    config = RunConfig.create(model="patchcore", data=name, overrides={"data.root": str(tmp_path)})
    data = build_data(config)
    category = data.categories()[0]
    assert [sample.path.stem for sample in data.abnormal_samples(category)] == ["2", "3"]
    assert all("rain" in sample.path.as_posix() and sample.mask_path for sample in data.abnormal_samples(category))
    assert len(data.test_samples(category)) == 4
