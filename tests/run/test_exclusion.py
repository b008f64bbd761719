"""``data.exclude``: images that a list names are neither learnt nor tested, and what a list gets wrong is said."""

from __future__ import annotations

import codecs
import json
import os
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import ConfigError, DataError, RunConfig, build_data, images_to_test, run_experiment
from anomaly_core.run.splits import Splits, split
from tiny.data import write_tree
from tiny.runs import config, log_of

pytestmark = [pytest.mark.usefixtures("tiny"), pytest.mark.reliability("input")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "parts of ours")


def of_list(root: Path, tmp_path: Path, content: bytes | str, **options: Any) -> RunConfig:
    listed = tmp_path / "lists" / "exclude.txt"
    listed.parent.mkdir(exist_ok=True)
    listed.write_bytes(content if isinstance(content, bytes) else os.fsencode(content))
    fixed = {"data.root": str(root), "data.exclude": str(listed), "data.holdout": 0}
    return config(tmp_path, data="tree", **{**fixed, **options})


def splits(*args: Any, **options: Any) -> Splits:
    data = build_data(of_list(*args, **options))
    return split(data, data.categories(), 1)


def names(images: Splits) -> set[str]:
    parts = (*images.fit, *images.held_out, *images.test)
    return {"/".join(sample.path.parts[-3:]) for sample in parts}


@pytest.mark.parametrize("absolute", [True, False])
def test_the_listed_images_are_neither_learnt_nor_tested(root: Path, tmp_path: Path, absolute: bool) -> None:
    whole = names(splits(root, tmp_path, "# nothing yet\n\n"))
    gone = ["train/good/0.png", "test/blot/1.png"]
    lines = [str(root / name) if absolute else name for name in gone]
    images = splits(root, tmp_path, "\n".join(["# odd", "", *lines, ""]))
    assert whole - names(images) == set(gone)
    assert images.facts["excluded"] == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_of_windows_programs(root: Path, tmp_path: Path, encoding: str) -> None:
    path = root / "train" / "good" / "Prüfling 7.png"
    (root / "train" / "good" / "0.png").rename(path)
    images = splits(root, tmp_path, f'"{path}"\r\n'.encode(encoding))
    assert path not in [sample.path for sample in images.fit] and images.facts["excluded"] == 1


def test_blanks_of_a_name_and_bytes_that_are_no_text(root: Path, tmp_path: Path) -> None:
    odd = [root / "train" / "good" / " 0.png", root / "train" / "good" / os.fsdecode(b"\xff1.png")]
    try:
        for number, path in enumerate(odd):
            (root / "train" / "good" / f"{number}.png").rename(path)
    except OSError:
        pytest.skip("this file system takes no such name")
    relative = [path.relative_to(root / "train" / "good") for path in odd]
    (root / "train" / "good" / "list").write_bytes(b"\n".join(map(os.fsencode, relative)))
    images = splits(root, tmp_path, "", **{"data.exclude": str(root / "train" / "good" / "list")})  # beside the list
    assert not set(odd) & {sample.path for sample in images.fit} and images.facts["excluded"] == 2


def test_the_others_are_divided_as_without_the_list(root: Path, tmp_path: Path) -> None:
    before = splits(root, tmp_path, "", **{"data.holdout": 0.34})
    gone = before.fit[0].path
    after = splits(root, tmp_path, str(gone), **{"data.holdout": 0.34})
    assert after.held_out == before.held_out
    assert after.fit == [sample for sample in before.fit if sample.path != gone]


def test_a_link_to_the_image_names_it_too(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(root, target_is_directory=True)
    images = splits(root, tmp_path, str(tmp_path / "elsewhere" / "train" / "good" / "0.png"))
    assert images.facts["excluded"] == 1


def test_a_line_that_names_no_file_is_an_error_and_says_which(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2 of the list .*exclude\.txt'.* names no file: 'train/good/nought\.png'"):
        splits(root, tmp_path, "train/good/0.png\ntrain/good/nought.png")


@pytest.mark.parametrize("content", [codecs.BOM_UTF16_LE + b"a", codecs.BOM_UTF16_BE + b"\0a\0"])
def test_a_list_that_is_no_text(root: Path, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"cannot read the list .*data\.exclude=null"):
        splits(root, tmp_path, content)


def test_a_list_that_is_not_there(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the list .*none\.txt'"):
        splits(root, tmp_path, "", **{"data.exclude": str(tmp_path / "none.txt")})


def test_files_that_are_no_images_of_the_run_are_told(root: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.png").write_bytes((root / "train" / "good" / "0.png").read_bytes())
    with pytest.warns(UserWarning, match=r"1 of the 2 files that data\.exclude lists, such as .*copy\.png', are no images of"):
        images = splits(root, tmp_path, f"{tmp_path / 'copy.png'}\ntrain/good/1.png")
    assert images.facts["excluded"] == 1


def test_too_many(root: Path, tmp_path: Path) -> None:
    lines = "\n".join(str(path) for path in sorted((root / "train" / "good").iterdir()))
    with pytest.raises(DataError, match=r"0 normal training images .* data\.exclude leaves out \d+\. Shorten its list"):
        splits(root, tmp_path, lines)
    tested = "\n".join(str(path) for path in sorted((root / "test").rglob("*.png")))
    with pytest.raises(DataError, match=r"no test image .* and the list in data\.exclude"):
        splits(root, tmp_path, tested)


def test_a_run_records_the_count_and_is_resumed_with_the_same_list_only(root: Path, tmp_path: Path) -> None:
    options = of_list(root, tmp_path, "train/good/0.png")
    result = run_experiment(options)
    assert json.loads((result.folder / "manifest.json").read_text())["excluded"] == 1
    assert "data.exclude" not in log_of(result)
    of_list(root, tmp_path, "train/good/1.png\ntrain/good/2.png")
    with pytest.raises(ConfigError.__base__, match=r"began with other images"):
        run_experiment(options, resume=True)


def test_a_test_of_the_finished_run_needs_no_training_image(root: Path, tmp_path: Path) -> None:
    options = of_list(root, tmp_path, "train/good/0.png\ntest/blot/1.png")
    before = len(images_to_test(build_data(options), ["parts of ours"]))
    (root / "train" / "good" / "0.png").unlink()
    assert len(images_to_test(build_data(options), ["parts of ours"])) == before
