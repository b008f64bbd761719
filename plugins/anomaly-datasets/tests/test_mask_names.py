"""Masks are found by the names that people give them, and only where that is clear."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_core import ConfigError, DataError, Sample, validate
from anomaly_datasets import plugin
from anomaly_datasets.config import FolderConfig
from anomaly_datasets.folder import FolderData
from anomaly_datasets.masks.sources import FileMask, UnitedMask

pytestmark = pytest.mark.reliability("input")


class Folders:
    """good/, bad/ and masks/ with files of given names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fill("good", "a.png", "b.png", "c.png")

    def fill(self, folder: str, *names: str) -> Folders:
        for name in names:
            path = self.root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in (".json", ".txt"):
                path.write_text("{}")
            else:
                Image.fromarray(np.eye(4, dtype=np.uint8)).save(path)
        return self

    def bad(self, **options: object) -> tuple[dict[str, list[str]], str]:
        """Image -> its masks, by their paths below the folder of the masks; and the warnings."""
        places = {"normal": "good", "abnormal": "bad", "masks": "masks"} | {k: v for k, v in options.items() if k == "masks"}
        named = {key: str(self.root / str(value)) for key, value in places.items() if value}
        settings = {"name": "folder", **options, **named}
        module = FolderData(
            validate(FolderConfig, {k: v for k, v in settings.items() if v is not None}, "data"), 0, plugin.FOLDER
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            samples = [sample for sample in module.test_samples("good") if sample.label]
        home = Path(named.get("masks", named["abnormal"]))
        found = {
            s.path.relative_to(self.root / "bad").as_posix(): [f.relative_to(home).as_posix() for f in s.mask_files]
            for s in samples
        }
        self.samples: list[Sample] = samples
        return found, " ".join(str(item.message) for item in caught)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@pytest.mark.parametrize("name", ["{}.png", "{}.bmp", "{}_mask.png"])
def test_the_plain_names_need_no_word(folders: Folders, name: str) -> None:
    folders.fill("bad", "1.png", "2.png").fill("masks", name.format(1), name.format(2))
    assert folders.bad() == ({"1.png": [name.format(1)], "2.png": [name.format(2)]}, "")


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("{}_GT.png", "_GT"),
        ("{}_gt.png", "_gt"),
        ("{}_label.png", "_label"),
        ("{}_seg.png", "_seg"),
        ("{}-mask.png", "-mask"),
        ("{}_Mask.png", "_Mask"),
        ("{} ground_truth.png", " ground_truth"),
        ("mask_{}.png", "mask_"),
        ("GT-{}.png", "GT-"),
        ("{}_1.png", "a number at the end"),
        ("{}/defect.png", "a folder for each image"),
    ],
)
def test_other_usual_names_are_understood_and_told(folders: Folders, name: str, rule: str) -> None:
    folders.fill("bad", "part7.png", "part8.png").fill("masks", name.format("part7"), name.format("part8"))
    found, told = folders.bad()
    assert found == {f"part{n}.png": [name.format(f"part{n}")] for n in (7, 8)}
    assert "2 images have masks in" in told and f"by the rule {rule!r}:" in told


def test_another_case_of_letters(folders: Folders) -> None:
    folders.fill("bad", "Part_A.png", "Part_B.png").fill("masks", "part_a.png", "PART_B_mask.png")
    found, told = folders.bad()
    assert found == {"Part_A.png": ["part_a.png"], "Part_B.png": ["PART_B_mask.png"]}
    assert "letters of another case" in told


def test_another_case_of_letters_where_that_is_unclear(folders: Folders) -> None:
    folders.fill("bad", "Part.png", "part.png").fill("masks", "PART.png", "part.png")
    if len(list((folders.root / "bad").iterdir())) == 1:
        pytest.skip("this file system takes both for one name")
    found, told = folders.bad()
    assert found == {"Part.png": [], "part.png": ["part.png"]}
    assert "1 mask has no image" in told


def test_the_same_number_and_another_word(folders: Folders) -> None:
    folders.fill("bad", "image3.png", "image10.png", "image11.png").fill("masks", "mask003.png", "mask010.png")
    found, told = folders.bad()
    assert found == {"image3.png": ["mask003.png"], "image10.png": ["mask010.png"], "image11.png": []}
    assert "by the rule 'the same number': 'mask003.png' for 'image3.png'" in told


@pytest.mark.parametrize(
    "masks",
    [("mask3.png", "mask12.png"), ("mask3.png", "other10.png"), ("mask3.png", "mask03.png"), ("mask3_2.png",), ("mask.png",)],
)
def test_the_same_number_is_not_enough_where_it_is_unclear(folders: Folders, masks: tuple[str, ...]) -> None:
    folders.fill("bad", "image3.png", "image10.png").fill("masks", *masks)
    with pytest.raises(DataError, match=rf"none of the {len(masks)} masks in .*data\.mask_pattern="):
        folders.bad()


def test_a_likelier_image_keeps_its_mask(folders: Folders) -> None:
    """000_1 is an image of its own here, and no second mask of 000."""
    folders.fill("bad", "000.png", "000_1.png", "001.png").fill("masks", "000_1.png", "000_2.png", "001.png")
    found, told = folders.bad()
    assert found == {"000.png": ["000_2.png"], "000_1.png": ["000_1.png"], "001.png": ["001.png"]}
    assert "a number at the end" in told


def test_several_masks_are_united(folders: Folders) -> None:
    folders.fill("bad", "1.png", "2.png", "3.png")
    folders.fill("masks", "1_mask_1.png", "1_mask_2.png", "2/000.png", "2/001.png", "3_1_mask.png", "3_2_mask.png")
    found, told = folders.bad()
    assert found == {
        "1.png": ["1_mask_1.png", "1_mask_2.png"],
        "2.png": ["2/000.png", "2/001.png"],
        "3.png": ["3_1_mask.png", "3_2_mask.png"],
    }
    assert "3 images have several masks" in told
    folders.bad(mask_threshold=0.5)
    masks = [sample.mask_path for sample in folders.samples]
    assert all(isinstance(mask, UnitedMask) and mask.parts[0] == FileMask(mask.path, 0.5) for mask in masks)


def test_folders_of_masks_mirror_those_of_the_images(folders: Folders) -> None:
    folders.fill("bad", "dent/1.png", "hole/1.png", "hole/deep/1.png", "scratch/7.png")
    folders.fill("masks", "dent/1.png", "hole/1_mask.png", "hole/deep/1.png", "7.png")
    found, told = folders.bad()
    assert found == {
        "dent/1.png": ["dent/1.png"],
        "hole/1.png": ["hole/1_mask.png"],
        "hole/deep/1.png": ["hole/deep/1.png"],
        "scratch/7.png": ["7.png"],
    }
    assert told == ""


def test_a_mask_that_two_images_claim_is_no_ones(folders: Folders) -> None:
    folders.fill("bad", "dent/1.png", "hole/1.png", "hole/2.png").fill("masks", "1.png", "2.png")
    found, told = folders.bad()
    assert found == {"dent/1.png": [], "hole/1.png": [], "hole/2.png": ["2.png"]}
    assert "2 images of the same name in several folders have one mask" in told


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{stem}_defects", ["1_defects.png", "2_defects.png"]),
        ("{stem}_defects.tif", ["1_defects.tif", "2_defects.tif"]),
        ("d{stem}_*", ["d1_x.png", "d2_yy.png"]),
        ("{stem}/m*", ["1/m.png", "2/mm.png"]),
        ("*/[{stem}]", ["x/[1].png", "y/[2].png"]),
    ],
)
def test_a_pattern_says_how_masks_are_called(folders: Folders, pattern: str, names: list[str]) -> None:
    folders.fill("bad", "1.png", "2.png").fill("masks", *names, "1.png", "11_defects.png")
    found, told = folders.bad(mask_pattern=pattern)
    assert found == {f"{n}.png": [name] for n, name in zip((1, 2), names, strict=True)}
    assert told.startswith("2 masks have no image")


def test_a_pattern_without_a_stem_is_refused(folders: Folders) -> None:
    with pytest.raises(ConfigError, match=r"mask_pattern='mask' is not valid: give a mask's name where \{stem\}"):
        folders.bad(mask_pattern="mask")


def test_masks_and_notes_beside_the_images(folders: Folders) -> None:
    folders.fill("bad", "1.png", "1_mask.png", "2.png", "2_GT.png", "x_mask.png")
    found, told = folders.bad(masks=None)
    assert found == {"1.png": ["1_mask.png"], "2.png": ["2_GT.png"], "x_mask.png": []}
    assert "2 files that lie among the images are masks" in told
    for name in ("1_mask.png", "2_GT.png", "x_mask.png"):
        (folders.root / "bad" / name).unlink()
    folders.fill("bad", "1.json", "2.json")
    assert "beside 2 anomalous images lie JSON files" in folders.bad(masks=None)[1]
    assert folders.bad(masks="bad", mask_format="labelme")[0]["1.png"] == ["1.json"]
    (folders.root / "good" / "a_mask.png").write_bytes((folders.root / "good" / "a.png").read_bytes())
    assert len(folders.bad(masks=None)[0]) == 2


def test_annotations_win_over_copies_of_the_images(folders: Folders) -> None:
    folders.fill("bad", "1.png", "2.png").fill("masks", "1.png", "2.png", "1.json", "2.json")
    found, told = folders.bad()
    assert found == {"1.png": ["1.json"], "2.png": ["2.json"]}
    assert "holds masks of several kinds, 2 of the kind labelme and 2 of the kind image" in told
    assert folders.bad(mask_format="image")[0] == {"1.png": ["1.png"], "2.png": ["2.png"]}


def test_what_programs_leave_is_no_mask(folders: Folders) -> None:
    folders.fill("bad", "1.png").fill("masks", "1.txt", "classes.txt", ".1.png", ".ipynb_checkpoints/1.png", "1.png.txt")
    (folders.root / "masks" / "1.png.txt").unlink()
    assert folders.bad() == ({"1.png": ["1.txt"]}, "")


@pytest.mark.parametrize(("made", "words"), [(False, "there are no masks at"), (True, "holds no mask")])
def test_a_place_without_masks_is_named(folders: Folders, made: bool, words: str) -> None:
    folders.fill("bad", "1.png")
    if made:
        (folders.root / "masks").mkdir()
    with pytest.raises(DataError, match=rf"{words}.*|masks' {words}"):
        folders.bad()


def test_a_tree_has_its_masks_by_the_same_rules(folders: Folders) -> None:
    tree = folders.root / "bolt"
    shutil.copytree(folders.root / "good", tree / "train" / "good")
    shutil.copytree(folders.root / "good", tree / "test" / "good")
    folders.fill("bolt/test", "dent/image1.png", "dent/image2.png", "hole/1.png", "crack/1.png")
    folders.fill(
        "bolt/ground_truth", "dent/mask1.png", "dent/mask2.png", "hole/1/0.png", "hole/1/1.png", "crack/1_GT.png", "good/a.png"
    )
    module = FolderData(FolderConfig(name="folder", root=str(tree)), 0, plugin.FOLDER)
    with pytest.warns(UserWarning) as told:
        samples = module.test_samples("bolt")
    names = {s.path.relative_to(tree / "test").as_posix(): [f.name for f in s.mask_files] for s in samples if s.label}
    assert names == {
        "dent/image1.png": ["mask1.png"],
        "dent/image2.png": ["mask2.png"],
        "hole/1.png": ["0.png", "1.png"],
        "crack/1.png": ["1_GT.png"],
    }
    rules = " ".join(str(item.message) for item in told)
    assert "no image" not in rules
    assert all(re.search(rule, rules) for rule in ("the same number", "_GT", "a folder for each image"))
