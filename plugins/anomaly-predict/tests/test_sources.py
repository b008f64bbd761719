"""The images that a command is given: in which order, and what is refused."""

from __future__ import annotations

import codecs
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from anomaly_core import DataError
from anomaly_predict import Watch, image_paths
from tiny.data import write_image


def write(path: Path) -> Path:
    return write_image(path, np.zeros((8, 8, 3), dtype=np.uint8))


def test_files_folders_globs_and_a_list_on_standard_input(tmp_path: Path) -> None:
    names = ["b/2.png", "a.png", "b/1.JPG", "b-c.png", "b/deep/3.png"]
    for name in names:
        write(tmp_path / name)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    every = list(image_paths([str(tmp_path)]))
    assert every == sorted(tmp_path / name for name in names)
    assert list(image_paths([str(tmp_path / "**" / "*.png")])) == sorted(p for p in every if p.suffix == ".png")
    listing = io.StringIO(f"{tmp_path / 'a.png'}\n\n{tmp_path / 'b/2.png'}\r\n")
    assert list(image_paths(["-", str(tmp_path / "a.png")], listing)) == [tmp_path / n for n in ("a.png", "b/2.png", "a.png")]
    write(tmp_path / "odd[1].png")  # a file's name comes before a pattern
    assert list(image_paths([str(tmp_path / "odd[1].png")])) == [tmp_path / "odd[1].png"]


def test_a_name_that_is_nothing_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    for name in ("missing.png", "missing/*.png"):
        with pytest.raises(DataError, match="no image or folder"):
            image_paths([str(tmp_path / "a.png"), str(tmp_path / name)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        list(image_paths([str(tmp_path / "empty")]))


def test_only_complete_files_are_seen_once_and_again_when_they_change(tmp_path: Path) -> None:
    watch = Watch(tmp_path, interval=0.01)
    assert watch.poll() == []
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    assert watch.poll() == watch.poll() == []  # empty: nothing was written yet
    path.write_bytes(b"half")
    assert watch.poll() == []
    path.write_bytes(b"half and more")
    assert watch.poll() == []  # it grew since the last look
    assert watch.poll() == [path]
    assert watch.poll() == []
    os.utime(path, ns=(1, 1))
    assert watch.poll() == []
    assert watch.poll() == [path]
    path.unlink()
    assert watch.poll() == []
    with pytest.raises(DataError, match="--watch needs a folder"):
        Watch(tmp_path / "gone")


def listing(content: bytes, encoding: str = "utf-8") -> io.TextIOWrapper:
    """Standard input, as a pipe gives it."""
    return io.TextIOWrapper(io.BufferedReader(io.BytesIO(content)), encoding=encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_a_mark_before_a_list_is_no_part_of_its_first_name(encoding: str) -> None:
    content = codecs.BOM_UTF8 + "größe.png\r\n検査.png\r\n".encode()
    assert list(image_paths(["-"], listing(content, encoding))) == [Path("größe.png"), Path("検査.png")]


def test_a_list_without_a_mark_is_read_as_the_system_decodes() -> None:
    assert list(image_paths(["-"], listing("größe.png\n".encode("cp1252"), "cp1252"))) == [Path("größe.png")]


@pytest.mark.skipif(sys.platform == "win32", reason="there, names are text")
def test_a_listed_name_that_is_no_text_is_that_file(tmp_path: Path) -> None:
    path = write(tmp_path / os.fsdecode(b"l\xe4tin.png"))
    assert list(image_paths(["-"], listing(os.fsencode(path) + b"\n"))) == [path]


def test_a_backslash_separates_folders_on_windows_alone(tmp_path: Path) -> None:
    write(tmp_path / "shots" / "a.png")
    name, pattern = (f"{tmp_path}{os.sep}shots{end}" for end in ("\\a.png", "\\*.png"))
    if sys.platform == "win32":
        assert list(image_paths([name])) == list(image_paths([pattern])) == [tmp_path / "shots" / "a.png"]
        assert list(image_paths(["-"], io.StringIO(f"{name}\r\n"))) == [tmp_path / "shots" / "a.png"]
        return
    with pytest.raises(DataError, match="no image or folder"):
        image_paths([name])
    odd = write(tmp_path / "shots\\a.png")
    assert list(image_paths([name])) == list(image_paths([f"{tmp_path}/shots\\*.png"])) == [odd]
    assert list(image_paths(["-"], io.StringIO(f"{name}\n"))) == [odd]
