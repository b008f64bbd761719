"""Lists of images as spreadsheets and programs write them, and what is wrong with some."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from anomaly_core import ConfigError, DataError, Sample
from anomaly_datasets import plugin
from anomaly_datasets.config import FolderConfig
from anomaly_datasets.folder import FolderData
from anomaly_datasets.words import meaning

ROWS = [
    ["path", "label", "mask", "split"],
    *([f"{n}.png", "good", "", ""] for n in range(5)),
    ["bad/0.png", "dent", "m.png", ""],
]
CSV = "\n".join(",".join(row) for row in ROWS)
JSON = [dict(zip(ROWS[0], row, strict=True)) for row in ROWS[1:]]


@pytest.fixture
def images(tmp_path: Path, picture, mask) -> Path:
    for number in range(12):
        picture(tmp_path / f"{number}.png")
    for number in range(3):
        picture(tmp_path / "bad" / f"{number}.png")
    mask(tmp_path / "m.png")
    mask(tmp_path / "n.png")
    return tmp_path


def listed(folder: Path, content: bytes | str, **options) -> FolderData:
    path = folder / "list.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return FolderData(FolderConfig(name="folder", list=str(path), **options), 0, plugin.FOLDER)


def kinds(samples: list[Sample]) -> dict[tuple[int | None, str], int]:
    return dict(Counter((sample.label, sample.defect) for sample in samples))


@pytest.mark.parametrize(
    "content",
    [
        CSV.encode(),
        CSV.encode("utf-8-sig"),
        CSV.encode("utf-16"),
        CSV.replace(",", ";").encode(),
        CSV.replace(",", "\t").encode(),
        CSV.replace("\n", "\r\n").encode() + b"\r\n;;\r\n\r\n".replace(b";", b","),
        CSV.replace("path,label", ' Path , "LABEL"').encode(),
        CSV.replace("bad/0.png", "bad\\0.png").encode(),
        "\n".join(" , ".join(f'"{cell}"' for cell in row) + "  " for row in ROWS).encode(),
        json.dumps(JSON).encode(),
        "\n".join(map(json.dumps, JSON)).encode(),
        json.dumps(JSON).replace('"good"', "0").replace('"split": ""', '"split": null').encode(),
        json.dumps(JSON).replace('"good"', "false").encode("utf-16"),
    ],
)
def test_every_way_of_writing_a_list(content: bytes, images: Path) -> None:
    data = listed(images, content)
    (category,) = data.categories()
    assert category == images.name
    assert kinds(data.train_samples(category)) == {(0, "good"): 4}
    test = data.test_samples(category)
    assert kinds(test) == {(0, "good"): 1, (1, "dent"): 1}
    assert test[-1].path.is_file() and test[-1].mask_path == images / "m.png"
    assert data.split(category)[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("good", "OK", " Normal ", "0", "0.0", "i.O.", "pass"), (0, "good")),
        (("1", "1.0"), (1, "anomaly")),
        (("", "unknown", "NaN", "Unlabelled"), (None, "")),
    ],
)
def test_words_of_labels(words: tuple[str, ...], expected: tuple[int | None, str]) -> None:
    assert {meaning(word) for word in words} == {expected}


def test_other_words_are_kinds_of_defect() -> None:
    assert [meaning(word) for word in ("NOK", "ng", "Kratzer", "2")] == [(1, "NOK"), (1, "ng"), (1, "Kratzer"), (1, "2")]


def test_split_category_and_group_are_as_the_list_says(images: Path) -> None:
    lines = ["path,label,split,category,group"]
    lines += [f"{n}.png,ok,{'Train' if n < 4 else 'TEST'},cap,{n // 2}" for n in range(6)]
    lines += [f"{n}.png,ok,,lid,{n // 3}" for n in range(6, 12)] + ["bad/0.png,nok,,lid,9"]
    data = listed(images, "\n".join(lines))
    assert data.categories() == ["cap", "lid"]
    assert [s.path.name for s in data.test_samples("cap")] == ["4.png", "5.png"]
    assert [s.path.name for s in data.train_samples("cap")] == ["0.png", "1.png", "2.png", "3.png"]
    train, test = data.train_samples("lid"), data.test_samples("lid")
    assert len(train) == 3 and kinds(test) == {(0, "good"): 3, (1, "nok"): 1}
    assert not {s.extra["group"] for s in train} & {s.extra["group"] for s in test}


def test_several_masks_of_an_image_and_images_without_a_label(images: Path) -> None:
    data = listed(images, CSV + "\nbad/0.png,dent,n.png,\nbad/1.png,,,\n")
    with pytest.warns(UserWarning, match="1 test images of the list .* have no label"):
        *_, bad, unlabelled = data.test_samples(images.name)
    assert bad.mask_path == (images / "m.png", images / "n.png") and unlabelled.label is None


def test_a_list_of_paths_alone(images: Path) -> None:
    data = listed(images, "path\n" + "".join(f"{n}.png\n" for n in range(12)))
    with pytest.warns(UserWarning, match="nothing is known of the 12 images"):
        assert (len(data.train_samples(images.name)), len(data.test_samples(images.name))) == (10, 2)
    judged = listed(images, "path\n" + "".join(f"{n}.png\n" for n in range(12)), normal_test_share=1.0)
    with pytest.warns(UserWarning, match="All of them test: there are scores, and no metric that needs labels"):
        assert len(judged.test_samples(images.name)) == 12


def test_columns_that_are_not_used_are_told(images: Path) -> None:
    with pytest.warns(UserWarning, match="are not used: camera"):
        listed(images, CSV.replace("split", "camera")).test_samples(images.name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "it is empty"),
        ("path,label\n", "holds no row"),
        ("0.png\n1.png\n", "its first line must name the columns, of which one is 'path'"),
        ("path,label\n0.png,Größe".encode("latin-1"), "neither UTF-8 nor UTF-16"),
        ("path,lable\n0.png,good\n", "a column 'lable'. Call it 'label'"),
        ("path,path\n0.png,1.png\n", "two columns are called 'path'"),
        ("path,label\n0.png,good,x\n", "line 2 has 3 cells for 2 columns"),
        ('path,label\n"0.png,good\n', "cannot read the list"),
        ("path,label\n,good\n", "row 2 .* has no path"),
        ("path,label\nx.png,good\n", r"files in the list .* are not there: 1 of 1, such as .*x\.png"),
        ("path,label,mask\n0.png,good,x.png\n", "files in the list .* are not there: 1 of 2"),
        ("path,label\n0.png,false\n", "row 2 .* 'false' does not say whether the image is normal"),
        ("path,label,split\n0.png,good,trian\n", "row 2 .* has the split 'trian'"),
        ("path,label\n0.png,gut\n1.png,gut\n", "no image .* is labelled normal: the labels are gut. .* good, ok"),
        ("path,label\n0.png,good\n0.png,good\n", "row 3 .* lists .* again"),
        ("path,split\n0.png,train\n0.png,test\n", "has 1 images in train and in test"),
        ("path,label\n0.png,good\n", "there is one normal image"),
        ("path,label\n0.png\0,good\n", "NUL"),
        ("[{]", "line 1 is no JSON object"),
        ('[{"path": "0.png", "label": ["good"]}]', "'label' of row 1 is neither text nor a number"),
        ('[{"path": "0.png", "label": NaN}]', "NaN, which is no number in JSON"),
        ("[1]", "row 1 is no JSON object"),
        ("[" * 100_000, "nested too deeply|no JSON"),
    ],
)
def test_what_is_wrong_is_said(content: bytes | str, words: str, images: Path) -> None:
    data = listed(images, content)
    with pytest.raises(DataError, match=words):
        data.test_samples(data.categories()[0])


def test_options_that_contradict_each_other(images: Path) -> None:
    with pytest.raises(DataError, match="there is no list"):
        FolderData(FolderConfig(name="folder", list=str(images / "none.csv"))).categories()
    with pytest.raises(ConfigError, match=r"data\.normal and data\.list exclude each other"):
        listed(images, CSV, normal=str(images)).categories()
    with pytest.raises(ConfigError, match=r"data\.product='x' names one product"):
        listed(images, "path,category\n0.png,a\n1.png,b\n", product="x").categories()
    assert listed(images, CSV, product="x").categories() == ["x"]
