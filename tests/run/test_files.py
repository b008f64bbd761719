"""Files that are whole or not there, also where another program has them open; folders' names that Windows takes too."""

from __future__ import annotations

import ntpath
import os
import sys
import warnings
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomaly_core import RunError, exclusive, write_whole
from anomaly_core.run.files import folder_name, replace, sweep


def refused_by_windows(name: str) -> bool:
    """As Python knows it: characters, endings and devices."""
    if hasattr(ntpath, "isreserved"):  # Python 3.13
        return ntpath.isreserved(name)
    device = PureWindowsPath(name).is_reserved()
    return device or not name or name[-1] in ". " or any(c in '<>:"/\\|?*' or c < " " for c in name)


AWKWARD = ["CON", "con", "a:b", "ends.", "ends...", "ends ", "NUL.txt", "nul .txt", "COM1", "lpt9.tar.gz", "CONIN$", "aux",
           "..", ".", "", " ", "a/b", "a\\b", "a*b?", "tab\there", 'quo"ted', "pi|pe", "<less>", "COM¹",
           "PRN.", "a. . ."]  # fmt: skip


@pytest.mark.parametrize("name", AWKWARD)
def test_a_name_that_windows_refuses_becomes_one_that_it_takes(name: str, tmp_path: Path) -> None:
    folder = folder_name(name)
    assert not refused_by_windows(folder) and folder != name
    (tmp_path / folder).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [folder]


@pytest.mark.parametrize(
    "name", ["candle", "01", "größe", "検査", "a b", "con-rod", "console", "nullify.v2", "a.b.c", "~", "[x]"]
)
def test_other_names_stay(name: str) -> None:
    assert folder_name(name) == name and not refused_by_windows(name)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first text takes seconds
@given(name=st.text(alphabet=st.characters(codec="utf-8"), max_size=20))
def test_any_name_becomes_one_that_windows_takes(name: str) -> None:
    folder = folder_name(name)
    assert not refused_by_windows(folder)
    assert folder_name(folder) == folder
    assert Path(folder).name == folder


class Held:
    """A file that another program has open for a while: Windows then refuses to replace it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.refusals, self.pauses = times, 0
        real = Path.replace

        def replacing(source: Path, target: Path) -> Path:
            if self.refusals:
                self.refusals -= 1
                raise PermissionError(13, "Access is denied", str(target))
            return real(source, target)

        def sleep(seconds: float) -> None:
            self.pauses += 1

        monkeypatch.setattr(Path, "replace", replacing)
        monkeypatch.setattr("anomaly_core.run.files.time.sleep", sleep)


def test_a_file_that_is_open_for_a_moment_is_replaced_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    held = Held(monkeypatch, 3)
    with monkeypatch.context() as windows:
        windows.setattr(sys, "platform", "win32")
        replace(tmp_path / "new", tmp_path / "old")
    assert held.pauses == 3
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old", "new")]


@pytest.mark.parametrize(("platform", "tries"), [("win32", 20), ("linux", 0)])
def test_a_file_that_stays_open_is_an_error_and_keeps_its_content(
    platform: str, tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").write_text("old")
    held = Held(monkeypatch, 10**6)
    with monkeypatch.context() as system:
        system.setattr(sys, "platform", platform)
        with pytest.raises(RunError, match=r"cannot write '.*old': .*Access is denied.* Close the viewer\."):
            write_whole(tmp_path / "old", b"new", "Close the viewer.")
    assert held.pauses == tries
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old", "old")]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "deep" / "file", b"first")
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RunError, match=r"No space left on device.*--output"):
        write_whole(tmp_path / "deep" / "file", b"second")
    assert (tmp_path / "deep" / "file").read_bytes() == b"first"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


def test_leftovers_of_killed_writers_are_swept_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in (".metrics.json.7-ab.part", "checkpoints/.last.pt.7-cd.part", "part", ".hidden", "a.part"):
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [".hidden", "a.part", "part"]


def test_a_folder_is_held_by_one_at_a_time_and_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomaly_core.run.files.PATIENCE", 0.1)
    with exclusive(tmp_path, "first"), pytest.raises(RunError, match=r"^second$"), exclusive(tmp_path, "second"):
        pytest.fail("it was held twice")
    with warnings.catch_warnings(), exclusive(tmp_path, "third"):
        warnings.simplefilter("error")


def test_a_file_system_without_locks_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: object, **options: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock.acquire", none)
    with pytest.warns(UserWarning, match="keeps no locks"), exclusive(tmp_path, "held"):
        pass
