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
from anomaly_predict import image_paths
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


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such files")
@pytest.mark.reliability("input")
def test_whatever_is_no_folder_is_given_to_be_reported(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "d.png").symlink_to("d.png")
    expected = [tmp_path / f"{name}.png" for name in "abcd"]
    assert list(image_paths([str(tmp_path)])) == list(image_paths([str(tmp_path / "*.png")])) == expected
    assert list(image_paths([str(path) for path in expected])) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="making links needs rights there")
@pytest.mark.parametrize("pattern", ["", "**/*.png", "**", "*"])
@pytest.mark.reliability("input")
def test_each_folder_is_read_once_however_many_links_lead_to_it(pattern: str, tmp_path: Path) -> None:
    for name in ("x/1.png", "y/2.png", "z/deep/3.png"):
        write(tmp_path / "d" / name)
    for link, target in {"all": ".", "x/to-y": "../y", "y/to-z": "../z", "z/to-x": "../x", "self": "self"}.items():
        (tmp_path / "d" / link).symlink_to(target)
    found = list(image_paths([str(tmp_path / "d" / pattern)]))
    assert sorted(path.name for path in found) == ["1.png", "2.png", "3.png"]
    assert all(path.is_file() for path in found)


def refuse(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody, not even root, may read the folder."""
    scan = os.scandir

    def scandir(path: object) -> object:
        if str(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize("pattern", ["", "**/*.png"])
@pytest.mark.reliability("input")
def test_a_folder_that_cannot_be_read_is_reported_and_the_others_are_read(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/1.png", "b/2.png", "c/3.png"):
        write(tmp_path / name)
    refuse(tmp_path / "b", monkeypatch)
    errors: list[OSError] = []
    found = list(image_paths([str(tmp_path / pattern)], unreadable=errors.append))
    assert found == [tmp_path / "a/1.png", tmp_path / "c/3.png"]
    assert {str(error.filename) for error in errors} == {str(tmp_path / "b")}
    with pytest.warns(UserWarning, match=r"cannot read the folder '.*b': Permission denied. Its images are left out"):
        assert list(image_paths([str(tmp_path / pattern)])) == found


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_list_in_utf_16_is_read(encoding: str) -> None:
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}.get(encoding, b"")
    content = mark + "größe.png\r\n検査.png\r\n".encode(encoding)
    assert list(image_paths(["-"], listing(content))) == [Path("größe.png"), Path("検査.png")]


@pytest.mark.reliability("input")
def test_each_line_of_a_list_is_a_path(tmp_path: Path) -> None:
    content = b"a.png\n\n\r\nl\xe4tin.png\nnul\0nul.png\n" + b"x" * 2**20 + b"\ncarriage\rreturn.png\nno end"
    *first, last = image_paths(["-", "-"], listing(content))
    names = ["a.png", os.fsdecode(b"l\xe4tin.png"), "nul\0nul.png", "x" * 2**20, "carriage\rreturn.png"]
    assert [*map(str, first), str(last)] == [*names, "no end"]


def test_a_closed_standard_input_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        image_paths(["-"])


NAMES = ["größe.png", "検査.png", "with blank.png"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("around", ["{}", '"{}"', "'{}'", " {}\t", ' "{}" ', "\ufeff{}"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.reliability("input")
def test_a_list_as_other_programs_write_it(
    encoding: str, around: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `>` and pipes of PowerShell, "copy as path" of Explorer, editors, and two lists in one."""
    monkeypatch.chdir(tmp_path)
    text = "".join(around.format(name) + end for name in [*NAMES, "gone.png"])
    for last in ("", f"  {end}{end}", around.format("no end.png")):
        names = [*NAMES, "gone.png", *(["no end.png"] if "no end" in last else [])]
        assert list(image_paths(["-"], listing((text + last).encode(encoding)))) == list(map(Path, names))


@pytest.mark.skipif(sys.platform == "win32", reason="no name there ends in a blank, or has quotes")
def test_a_name_that_exists_as_it_stands_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = ['"a.png"', "a.png ", " a.png", "'a.png'", "\ufeffa.png"]
    for name in [*odd, "a.png"]:
        (tmp_path / name).touch()
    content = "".join(f"{name}\n" for name in [*odd, "# a.png"]).encode()
    assert list(image_paths(["-"], listing(b"a.png\n" + content))) == list(map(Path, ["a.png", *odd, "# a.png"]))


class Drip(io.RawIOBase):
    """A pipe that delivers one byte at a time."""

    def __init__(self, content: bytes) -> None:
        self.content = iter(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        byte = next(self.content, None)
        if byte is None:
            return 0
        buffer[0] = byte
        return 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_list_from_a_pipe_that_drips_or_from_memory(encoding: str) -> None:
    names = [*NAMES, "ऊ\u0a0a\U0001280a.png"]  # line feeds within characters
    content = "".join(f"{name}\r\n" for name in names).encode(encoding)
    for source in (io.BufferedReader(Drip(content)), io.BytesIO(content)):
        assert list(image_paths(["-"], io.TextIOWrapper(source, encoding="cp1252"))) == list(map(Path, names))
    assert list(image_paths(["-"], io.StringIO("\ufeff" + content.decode(encoding)))) == list(map(Path, names))


def test_a_line_is_given_as_soon_as_it_is_there() -> None:
    read, written = os.pipe()
    with os.fdopen(read) as source:
        paths = image_paths(["-"], source)
        for encoding, mark in (("utf-16-le", codecs.BOM_UTF16_LE), ("utf-16-le", b"")):
            os.write(written, mark + "a.png\n".encode(encoding))
            assert next(paths) == Path("a.png")
        os.close(written)
        assert list(paths) == []


def test_what_other_programs_leave_is_left_out_unless_it_is_named(tmp_path: Path) -> None:
    kept = [write(tmp_path / "a.png"), write(tmp_path / "b" / "1.png")]
    for name in (
        "._a.png",
        ".thumbnails/a.png",
        "b/@eaDir/1.png",
        "b/__MACOSX/b/1.png",
        "$RECYCLE.BIN/2.png",
        ".Trash-1000/3.png",
    ):
        write(tmp_path / name)
    for pattern in ("", "*", "**/*.png", "**", "*/*.png"):
        found = list(image_paths([str(tmp_path / pattern) if pattern else str(tmp_path)]))
        assert found == [path for path in kept if pattern != "*/*.png" or path.parent != tmp_path], pattern
    for name, count in (("._a.png", 1), (".thumbnails", 1), ("b/@eaDir", 1), (".*", 3), ("b/@*/*.png", 1)):
        assert len(list(image_paths([str(tmp_path / name)]))) == count, name


def test_pictures_that_are_not_read_are_told(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    write(tmp_path / "a.png")
    for name in ("b.HEIC", "c.dng", "d.dng", "notes.txt"):
        (tmp_path / name).touch()
    assert list(image_paths([str(tmp_path)])) == [tmp_path / "a.png"]
    (told,) = recwarn
    assert str(told.message).startswith(f"pictures in {str(tmp_path)!r} are left out") and ": .dng, .heic. " in str(
        told.message
    )
