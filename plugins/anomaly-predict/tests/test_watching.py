"""A folder that is watched: each image once and whole, whatever becomes of the folder meanwhile."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from anomaly_core import DataError
from anomaly_predict import Watch, watching
from anomaly_predict import changes as telling
from tiny.data import write_image

LEAST = {"settled": 0.0, "young": 60.0}


def write(path: Path) -> Path:
    return write_image(path, np.zeros((8, 8, 3), dtype=np.uint8))


def polled(watch: Watch) -> list[Path]:
    """What two looks find."""
    return [*watch.poll(), *watch.poll()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still until a test sets it."""
    now = [1000.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    return now


def test_only_complete_files_are_seen_once_and_again_when_they_change(tmp_path: Path) -> None:
    watch = Watch(tmp_path, 0.01, **LEAST)
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


@pytest.mark.reliability("input")
def test_a_file_that_grows_slowly_is_taken_when_it_stood_still(tmp_path: Path, clock: list[float]) -> None:
    watch, path = Watch(tmp_path, 0.1), tmp_path / "slow.png"
    for part in range(1, 20):  # a part each 0.8 s, four looks in between
        path.write_bytes(b"x" * part)
        for _ in range(4):
            assert watch.poll() == []
            clock[0] += 0.2
    clock[0] += 1.0
    assert watch.poll() == [path]


@pytest.mark.reliability("input")
def test_an_image_that_cannot_be_read_has_time_to_become_whole(tmp_path: Path, clock: list[float]) -> None:
    watch, path = Watch(tmp_path, settled=0.0, young=10.0), tmp_path / "half.png"
    path.write_bytes(b"half")
    assert polled(watch) == [path]
    assert watch.postponed(path)
    clock[0] += 5
    assert polled(watch) == []
    path.write_bytes(b"half and the other half")
    assert polled(watch) == [path]  # it changed: it is tried at once
    assert watch.postponed(path)
    clock[0] += 9
    assert polled(watch) == []
    clock[0] += 2
    assert polled(watch) == [path]  # it is old: it is tried for the last time
    assert not watch.postponed(path)
    assert polled(watch) == []


@pytest.mark.reliability("input")
def test_an_empty_file_is_reported_in_the_end(tmp_path: Path, clock: list[float]) -> None:
    watch, path = Watch(tmp_path), tmp_path / "empty.png"
    path.touch()
    assert polled(watch) == []
    clock[0] += 11
    assert watch.poll() == [path] and not watch.postponed(path)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such files")
@pytest.mark.reliability("input")
def test_special_files_and_loops_of_links_end_no_watcher(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "up").symlink_to("..")
    image = write(tmp_path / "x" / "a.png")
    watch = Watch(tmp_path, **LEAST)
    assert sorted(polled(watch)) == [tmp_path / "loop.png", tmp_path / "pipe.png", image]
    assert not watch.postponed(tmp_path / "pipe.png")
    assert polled(watch) == []


@pytest.mark.reliability("fault")
def test_a_folder_that_goes_and_comes_back_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "shots"
    old, deep = write(folder / "old.png"), write(folder / "deep" / "old.png")
    watch = Watch(folder, **LEAST)
    assert polled(watch) == [deep, old]
    for _ in range(2):
        caplog.clear()
        folder.rename(tmp_path / "away")
        assert polled(watch) == polled(watch) == []
        (tmp_path / "away").rename(folder)
        assert polled(watch) == []
        assert [record.message.split(str(folder))[1] for record in caplog.records] == [
            "' is gone: No such file or directory. Waiting for it to come back.",
            "' is back.",
        ]
    new = write(folder / "new.png")
    assert polled(watch) == [new]


@pytest.mark.reliability("fault")
def test_the_empty_folder_below_a_drive_is_no_sign_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, drive = tmp_path / "mount", 1
    images = [write(folder / "a.png"), write(folder / "b.png")]
    monkeypatch.setattr(Watch, "_current_drive", lambda self: drive)
    watch = Watch(folder, **LEAST)
    assert polled(watch) == images
    shutil.move(folder, tmp_path / "away")
    folder.mkdir()
    drive = 2
    assert polled(watch) == []
    folder.rmdir()
    shutil.move(tmp_path / "away", folder)
    drive = 3  # a drive has another number after it was mounted again
    assert polled(watch) == []
    assert ["gone" in record.message for record in caplog.records] == [True, False]


def test_a_file_that_was_taken_away_may_come_again_with_the_same_size_and_time(tmp_path: Path) -> None:
    watch = Watch(tmp_path, 0.01, **LEAST)
    path = write(tmp_path / "a.png")
    copy = shutil.copy2(path, tmp_path / "a.copy")
    assert polled(watch) == [path]
    path.unlink()
    watch.poll()
    shutil.copy2(copy, path)
    assert polled(watch) == []  # a drive that was gone and is back
    path.unlink()
    watch.forget(path)
    shutil.copy2(copy, path)
    assert polled(watch) == [path]


def test_what_was_removed_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(tmp_path, **LEAST)
    images = [write(tmp_path / f"{number}" / "a.png") for number in range(5)]
    keeper = write(tmp_path / "0" / "b.png")
    assert polled(watch) == [images[0], keeper, *images[1:]]
    for image in images:
        image.unlink()
    watch.poll()
    assert set(watch._done) == {keeper, *images[1:]}  # the other folders are empty: their drive may be gone
    monkeypatch.setattr(watching, "REMEMBERED", 2)
    watch.poll()
    assert set(watch._done) == {keeper, *images[3:]}


def test_a_picture_of_ours_is_no_image(tmp_path: Path) -> None:
    ours = PngInfo()
    ours.add_text("Software", "anomaly-report")
    Image.new("RGB", (8, 8)).save(tmp_path / "00000-a.png", pnginfo=ours)
    theirs = write(tmp_path / "00001-a.png")
    assert polled(Watch(tmp_path, **LEAST)) == [theirs]


@pytest.mark.reliability("input")
def test_a_subfolder_that_cannot_be_read_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "shut" / "a.png")
    image, scan = write(tmp_path / "b.png"), os.scandir
    shut = True

    def scandir(path: object) -> object:
        if shut and str(path) == str(tmp_path / "shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    watch = Watch(tmp_path, **LEAST)
    assert polled(watch) == [image]
    polled(watch)
    assert watch.unreadable == {str(tmp_path / "shut")}
    assert [record.message.startswith("cannot read the folder") for record in caplog.records] == [True]
    shut = False
    assert polled(watch) == [tmp_path / "shut" / "a.png"] and not watch.unreadable


def collected(watch: Watch, count: int, seconds: float = 30) -> list[Path]:
    """The first images that a watcher finds by itself."""
    found: list[Path] = []
    end = time.monotonic() + seconds
    for batch in watch:
        found += batch
        if len(found) >= count:
            return found
        assert time.monotonic() < end, found
    raise AssertionError


@pytest.mark.parametrize("told", [True, False])
def test_many_files_at_once_are_all_found(told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not told:
        monkeypatch.setattr(telling, "is_local", lambda folder: False)
    content = write(tmp_path / "first.png").read_bytes()
    watch = Watch(tmp_path, 0.05, settled=0.1)
    writer = threading.Timer(0.3, lambda: [(tmp_path / f"{i:05}.png").write_bytes(content) for i in range(2000)])
    writer.start()
    assert len(set(collected(watch, 2001))) == 2001
    writer.join()


@pytest.fixture
def told(tmp_path: Path) -> Iterator[telling.Changes]:
    pytest.importorskip("watchfiles")
    if not telling.is_local(tmp_path):
        pytest.skip("the folder for temporary files is on another machine")
    changes = telling.Changes(tmp_path / "shots")
    yield changes
    changes.close()


def eventually(changes: telling.Changes, expected: bool) -> None:
    end = time.monotonic() + 10
    while changes.happened() != expected:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_where_the_system_tells_nobody_has_to_look(
    told: telling.Changes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_START", 0.5)
    folder = tmp_path / "shots"
    assert told.happened()  # the folder is not there yet
    folder.mkdir()
    eventually(told, False)
    (folder / "a.png").touch()
    eventually(told, True)
    eventually(told, False)
    folder.rename(tmp_path / "away")
    folder.mkdir()
    assert told.happened()
    time.sleep(0.6)
    eventually(told, False)
    (folder / "b.png").touch()
    eventually(told, True)


def test_a_network_drive_and_a_missing_library_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    drives = [
        ("/", "ext4", "rw"),
        (str(tmp_path), "nfs4", "rw"),
        (str(tmp_path / "own"), "xfs", "rw"),
        ("Z", "NTFS", "rw,remote"),
    ]
    listed = [SimpleNamespace(mountpoint=place, fstype=kind, opts=options) for place, kind, options in drives]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: listed)
    assert not telling.is_local(tmp_path) and telling.is_local(tmp_path / "own")
    assert telling.Changes(tmp_path).happened()
    monkeypatch.setattr(telling, "is_local", lambda folder: True)
    monkeypatch.setattr(telling, "_START", 0.0)
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    changes = telling.Changes(tmp_path)
    for _ in range(3):
        assert changes.happened()
        time.sleep(0.05)
    assert not caplog.records
    changes.close()


def test_a_system_that_will_not_tell_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watchfiles = pytest.importorskip("watchfiles")

    def full(*folders: object, **options: object) -> object:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr(telling, "is_local", lambda folder: True)
    monkeypatch.setattr(telling, "_START", 0.0)
    monkeypatch.setattr(watchfiles, "watch", full)
    changes = telling.Changes(tmp_path)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert changes.happened()
            time.sleep(0.05)
    assert len(caplog.records) == 1 and "does not tell of changes" in caplog.text and "limit reached" in caplog.text
