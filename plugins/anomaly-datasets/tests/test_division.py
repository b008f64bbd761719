"""Which images train and which test: shares of folders, groups, and what cannot be divided; and names of products."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from anomaly_core import ConfigError, DataError, Sample
from anomaly_datasets.config import FolderConfig
from anomaly_datasets.division import Groups, divided
from anomaly_datasets.files import drawn
from anomaly_datasets.folder import FolderData
from anomaly_datasets.words import product_name


def samples(folder: str, count: int, parts: int = 0) -> list[Sample]:
    extra = [{"group": f"{folder}{number % parts}"} if parts else {} for number in range(count)]
    return [Sample(Path(folder, f"{number}.png"), 0, extra=extra[number]) for number in range(count)]


def test_one_folder_is_divided_as_ever() -> None:
    images = samples("a", 13)
    for seed in range(4):
        test, train = drawn(images, 3, seed)
        assert divided(images, [], 0.2, seed) == (train, test)


@pytest.mark.parametrize("seed", range(4))
def test_each_folder_gives_its_share(seed: int) -> None:
    images = [*samples("a", 50), *samples("b", 20), *samples("c", 10), *(Sample(Path(f"d{n}", "x.png"), 0) for n in range(20))]
    train, test = divided(images, [], 0.2, seed)
    counts = Counter(sample.path.parent.name[0] for sample in test)
    assert counts == {"a": 10, "b": 4, "c": 2, "d": 4}
    assert len(train) == 80 and not {s.path for s in train} & {s.path for s in test}
    assert divided(images, [], 0.2, seed) == (train, test) != divided(images, [], 0.2, seed + 1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("parts", [2, 3, 7, 20])
def test_a_group_is_never_divided(parts: int, seed: int) -> None:
    images = [*samples("a", 40, parts), *samples("b", 20, 2)]
    train, test = divided(images, [], 0.2, seed)
    assert train and test and len(train) + len(test) == 60
    assert not {s.extra["group"] for s in train} & {s.extra["group"] for s in test}
    if parts > 3:
        assert 6 <= len(test) <= 18


def test_images_of_a_tested_group_are_tested() -> None:
    images = samples("a", 20, 10)
    bad = [Sample(Path("bad.png"), 1, extra={"group": "a7"})]
    train, test = divided(images, bad, 0.2, 0)
    assert len(test) == 4 and sum(sample.extra["group"] == "a7" for sample in test) == 2
    assert all(sample.extra["group"] != "a7" for sample in train)


@pytest.mark.parametrize(
    ("images", "test", "words"),
    [
        (samples("a", 1), [], "there is one normal image in 'a'"),
        (samples("a", 5, 1), [], r"all 5 normal images are of one group, 'a0'.*data\.normal_test=DIR"),
        (samples("a", 6, 2), [*samples("a", 2, 2)], "all 6 .* are of groups that are tested, such as 'a0'"),
    ],
)
def test_what_cannot_be_divided_is_said(images: list[Sample], test: list[Sample], words: str) -> None:
    with pytest.raises(DataError, match=words):
        divided(images, test, 0.2, 0)


def test_groups_are_found_in_paths() -> None:
    assert Groups(r"part(\d+)").of("monday/part12_3.png") == {"group": "12"}
    assert Groups(r"part\d+").of("monday/part12_3.png") == {"group": "part12"}
    assert Groups("(x)?part").of("monday/part12_3.png") == {"group": "part"}
    assert Groups("x*").of("part") == Groups(None).of("part") == Groups("y").of("part") == {}
    with pytest.raises(ConfigError, match=r"data\.group='\(' is no regular expression"):
        Groups("(")


def test_a_pattern_that_does_not_match_is_told(tmp_path: Path, picture) -> None:
    for name in ("p1_a", "p1_b", "p2_a", "odd"):
        picture(tmp_path / "good" / f"{name}.png")

    def data(pattern: str, **more) -> FolderData:
        return FolderData(FolderConfig(name="folder", normal=str(tmp_path / "good"), group=pattern, **more))

    with pytest.raises(ConfigError, match=re.escape("data.group='part' matches none of the 4 images")):
        data("part").train_samples("x")
    with pytest.warns(UserWarning, match=r"does not match 1 of 4 images, such as .*odd\.png"):
        data(r"^p\d").train_samples("x")
    picture(tmp_path / "test" / "p1_c.png")
    picture(tmp_path / "test" / "p3_c.png")
    with pytest.warns(UserWarning, match=r"2 training images are of groups that are tested too, .* group 'p1'"):
        train = data("p.|odd", normal_test=str(tmp_path / "test")).train_samples("x")
    assert [sample.path.stem for sample in train] == ["odd", "p2_a"]


@pytest.mark.parametrize(
    ("folders", "name"),
    [
        (["/x/caps/good"], "caps"),
        (["/x/caps/train/OK"], "caps"),
        (["/x/caps"], "caps"),
        (["/x/caps/line1/ok", "/x/caps/line2/ok"], "caps"),
        (["/x/caps/good", "/x/caps/normal"], "caps"),
        (["/x/caps/good", "/y/line2/caps/ok"], "caps"),
        (["/x/caps/good", "/y/lids/good"], "caps"),
        (["/x/caps/train_good", "/x/caps/good-2"], "caps"),
        (["/x/caps/2024"], "2024"),
        (["/x/good_caps"], "good_caps"),
        (["/good"], "good"),
    ],
)
def test_a_product_is_named_after_the_folder_that_says_what_it_is(folders: list[str], name: str) -> None:
    assert product_name([Path(folder) for folder in folders]) == name


def test_a_product_is_named_from_where_its_folder_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "caps" / "good").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "caps" / "good")
    assert product_name([Path()]) == product_name([Path("../good")]) == "caps"
    monkeypatch.chdir(tmp_path / "caps")
    assert product_name([Path("good")]) == product_name([Path("../caps")]) == "caps"
