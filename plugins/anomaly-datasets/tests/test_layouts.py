"""Folders, trees and archives as people have them, and what is wrong with some."""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from anomaly_core import ConfigError, DataError
from anomaly_datasets import plugin
from anomaly_datasets.archives import unpacked
from anomaly_datasets.config import FolderConfig
from anomaly_datasets.folder import FolderData


def data(**options) -> FolderData:
    options = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    return FolderData(FolderConfig(name="folder", **options), 0, plugin.FOLDER)


def kinds(module: FolderData, category: str | None = None) -> dict[tuple[int | None, str, bool], int]:
    samples = module.test_samples(category or module.categories()[0])
    return dict(Counter((sample.label, sample.defect, sample.mask_path is not None) for sample in samples))


@pytest.fixture
def parts(tmp_path: Path, picture, mask) -> Path:
    """Ten good images, and bad ones with masks in folders below them."""
    for number in range(10):
        picture(tmp_path / "parts" / f"{number}.png")
    for number in range(2):
        picture(tmp_path / "parts" / "bad" / "dent" / f"{number}.png")
        picture(tmp_path / "parts" / "bad" / "hole" / "deep" / f"{number}.png")
        mask(tmp_path / "masks" / "hole" / "deep" / f"{number}_mask.png")
    return tmp_path / "parts"


def test_bad_images_below_the_good_ones_are_not_learnt(parts: Path) -> None:
    module = data(normal=parts, abnormal=parts / "bad", masks=parts.parent / "masks")
    assert len(module.train_samples("x")) == 8
    assert kinds(module) == {(0, "good", False): 2, (1, "dent", False): 2, (1, "hole", True): 2}
    with pytest.warns(UserWarning, match=r"the images of 2 folders, such as .*dent.*, are left out: their names"):
        assert len(data(normal=parts).train_samples("x")) == 8
    (parts / "bad" / "ok").mkdir()
    shutil.copy(parts / "0.png", parts / "bad" / "ok")
    with pytest.warns(UserWarning, match="the images of 1 folders, such as .*ok"):
        assert data(normal=parts, abnormal=parts / "bad").test_samples("x")[-1].defect == "hole"
    with pytest.raises(ConfigError, match=r"bad' is named twice"):
        data(normal=parts / "bad", abnormal=parts / "bad").test_samples("x")


def test_masks_in_one_folder_belong_to_images_of_several(parts: Path, mask) -> None:
    mask(parts.parent / "flat" / "0.png")
    mask(parts.parent / "flat" / "other" / "0.png")
    module = data(normal=parts, abnormal=parts / "bad", masks=parts.parent / "flat")
    with pytest.warns(UserWarning) as told:
        assert kinds(module)[1, "dent", False] == 2
    words = " ".join(str(item.message) for item in told)
    assert "2 images of the same name in several folders have one mask" in words
    assert "1 mask has no image" in words and "other" in words
    (parts / "bad" / "hole" / "deep" / "0.png").rename(parts / "bad" / "hole" / "deep" / "00.png")
    shutil.rmtree(parts.parent / "flat" / "other")
    assert kinds(data(normal=parts, abnormal=parts / "bad", masks=parts.parent / "flat"))[1, "dent", True] == 1


def test_several_folders_of_bad_images_are_kinds_of_defect(parts: Path, mask) -> None:
    for name in ("dent", "hole"):
        mask(parts.parent / "m" / name / "1.png")
    bad = [str(parts / "bad" / "dent"), str(parts / "bad" / "hole" / "deep")]
    shutil.move(parts.parent / "m" / "hole", parts.parent / "m" / "deep")
    module = data(normal=parts, abnormal=bad, masks=parts.parent / "m")
    good = {(0, "good", False): 2}
    assert kinds(module) == good | {(1, kind, masked): 1 for kind in ("dent", "deep") for masked in (True, False)}


def test_trees_in_letters_of_any_case(tmp_path: Path, picture, mask) -> None:
    for number in range(3):
        picture(tmp_path / "caps" / "Train" / "OK" / f"{number}.png")
        picture(tmp_path / "caps" / "TEST" / "Hole" / f"{number}.png")
        mask(tmp_path / "caps" / "Ground_Truth" / "Hole" / f"{number}.png")
    module = data(root=tmp_path)
    assert module.categories() == ["caps"] and len(module.train_samples("caps")) == 3
    assert kinds(module) == {(1, "Hole", True): 3}
    assert data(root=tmp_path, product="lid").categories() == ["lid"]
    assert kinds(data(root=tmp_path, product="lid")) == kinds(module)
    archive = shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path, "caps")
    assert data(root=archive).categories() == ["caps"]  # as unpacked
    picture(tmp_path / "lids" / "train" / "good" / "0.png")
    with pytest.raises(ConfigError, match=r"data\.product='x' names one product, .* holds 2: caps, lids"):
        data(root=tmp_path, product="x").categories()


def test_folders_in_train_that_are_not_normal(tmp_path: Path, picture) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "train" / name / "0.png")
    with pytest.raises(DataError, match=r"holds no folder of normal images, such as good or ok, but a, b\. Rename"):
        data(root=tmp_path).train_samples(tmp_path.name)
    for number in range(5):
        picture(tmp_path / "train" / "ok" / f"{number}.png")
    picture(tmp_path / "train" / "loose.png")
    picture(tmp_path / "test" / "good" / "0.png")
    with pytest.warns(UserWarning, match=r"what lies in a, b of .*train.* is left out"):
        assert len(data(root=tmp_path).train_samples(tmp_path.name)) == 6


def test_a_file_where_a_folder_is_needed(parts: Path) -> None:
    with pytest.raises(DataError, match=r"'.*0\.png' is a file, and a folder or a zip archive"):
        data(normal=parts / "0.png").train_samples("x")
    (parts / "list.csv").write_text("path\n0.png\n")
    with pytest.raises(DataError, match=r"data\.list=FILE"):
        data(root=parts / "list.csv").categories()


def test_options_that_exclude_each_other(parts: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.normal and data\.images exclude each other"):
        data(normal=parts, images=parts).categories()


def test_only_pictures_that_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.heic").touch()
    with pytest.raises(DataError, match=r"holds no image .* What it holds is not read: 1 \.heic; convert it"):
        data(normal=tmp_path).train_samples("x")


def test_archives_that_cannot_be_used(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Path(shutil.make_archive(str(parts / "set"), "zip", parts, "bad"))
    content = archive.read_bytes()
    (parts / "cut.zip").write_bytes(content[: len(content) // 2])
    damaged = bytearray(content)
    with zipfile.ZipFile(archive) as packed:
        start = packed.infolist()[-1].header_offset + 60
    damaged[start : start + 30] = bytes(30)
    (parts / "damaged.zip").write_bytes(damaged)
    with zipfile.ZipFile(parts / "evil.zip", "w") as packed:
        packed.writestr("../../evil.png", b"x")
    with zipfile.ZipFile(parts / "empty.zip", "w") as packed:
        packed.writestr("readme.txt", b"x")
    for name, words in (
        ("cut.zip", "is neither a tar nor a zip archive"),
        ("damaged.zip", "cannot be unpacked"),
        ("evil.zip", "would be written outside"),
        ("empty.zip", "holds no image"),
    ):
        with pytest.raises(DataError, match=words):
            data(normal=parts / name).train_samples("x")
    assert not (parts.parent / "evil.png").exists()
    assert sorted(item.name.partition("-")[0] for item in parts.iterdir() if item.is_dir()) == [
        "bad",
        "empty.unpacked",
    ]

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(DataError, match=r"cannot unpack .*set\.zip.* beside it: .*No space left.* Unpack it elsewhere"):
        unpacked(archive)
    monkeypatch.undo()
    assert unpacked(archive) == unpacked(archive) and unpacked(archive).name == "bad"
