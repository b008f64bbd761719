"""What comes into a folder is judged and moved by the verdict."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from doorstep import FakeService, picture, until

from anomaly_core import Calibration, ConfigError, DataError, RunError
from anomaly_predict import watching
from anomaly_serve.doors import folder
from anomaly_serve.doors.folder import FolderDoor, Folders


class Busy(RunError):
    retry_after = 0.01


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the waits that a network drive needs."""
    defaults = dict(watching.Watch.__init__.__kwdefaults__ or {})
    monkeypatch.setattr(watching.Watch.__init__, "__kwdefaults__", {**defaults, "settled": 0.0, "young": 0.3})
    monkeypatch.setattr(folder, "AGAIN", 0.1)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    (tmp_path / "in").mkdir()
    return Folders(tmp_path / "in", tmp_path / "good", tmp_path / "bad", tmp_path / "failed")


@pytest.fixture
def door(service: FakeService, folders: Folders) -> Iterator[FolderDoor]:
    door = FolderDoor(service, "bolts", folders, sidecar=True, interval=0.01)
    yield door
    door.stop()


def names(path: Path) -> list[str]:
    return sorted(one.relative_to(path).as_posix() for one in path.rglob("*") if one.is_file())


def test_images_follow_their_verdicts_with_the_verdict_beside_them(
    service: FakeService, folders: Folders, door: FolderDoor, caplog: pytest.LogCaptureFixture
) -> None:
    door.start()
    picture(folders.watched / "lot 7" / "a.png", 20)
    picture(folders.watched / "b.png", 200)
    (folders.watched / "c.png").write_bytes(b"no image at all")
    until(lambda: names(folders.watched) == [])
    until(lambda: door.judged == 2 and door.failed == 1)
    assert names(folders.accept) == ["lot 7/a.png", "lot 7/a.png.json"]
    assert names(folders.reject) == ["b.png", "b.png.json"]
    assert names(folders.failed) == ["c.png", "c.png.txt"]
    assert "no image" in (folders.failed / "c.png.txt").read_text()
    verdict = json.loads((folders.accept / "lot 7" / "a.png.json").read_text())
    assert (
        verdict["is_anomalous"] is False
        and verdict["id"] in {one.id for one in service.kept}
        and verdict["name"] == "lot 7/a.png"
    )
    assert (verdict["width"], verdict["height"]) == (16, 12)
    assert {(one.name, one.source) for one in service.kept} == {("lot 7/a.png", "folder"), ("b.png", "folder")}


def test_the_same_name_again_is_judged_and_numbered_even_with_the_same_time(
    service: FakeService, folders: Folders, door: FolderDoor, tmp_path: Path
) -> None:
    original = picture(tmp_path / "shot.png", 20)
    door.start()
    for number in range(3):
        shutil.copy2(original, folders.watched / "shot.png")
        until(lambda: door.judged == number + 1)  # noqa: B023  # until is done within the loop
    assert [name for name in names(folders.accept) if name.endswith("png")] == ["shot-1.png", "shot-2.png", "shot.png"]
    assert len(service.kept) == 3


def test_a_busy_service_and_one_that_fails_lose_nothing(
    service: FakeService, folders: Folders, door: FolderDoor, caplog: pytest.LogCaptureFixture
) -> None:
    service.faults = [Busy("full"), RunError("the detector is broken"), Busy("full")]
    for number in range(12):
        picture(folders.watched / f"{number}.png", 20 * number)
    door.start()
    until(lambda: door.judged == 12)
    assert len(service.kept) == 12
    assert "was not judged: RunError: the detector is broken" in caplog.text and "tried again" in caplog.text


def test_without_a_threshold_the_door_waits_and_says_why(
    service: FakeService, folders: Folders, door: FolderDoor, caplog: pytest.LogCaptureFixture
) -> None:
    settings = service.products["bolts"].active.settings
    settings.calibration, with_threshold = Calibration(None, 0.01, 0, "none"), settings.calibration
    picture(folders.watched / "a.png", 20)
    door.start()
    until(lambda: "has no threshold" in caplog.text)
    assert service.kept == [] and names(folders.watched) == ["a.png"]
    settings.calibration = with_threshold
    until(lambda: door.judged == 1)
    assert caplog.text.count("has no threshold") == 1


def test_while_a_folder_to_move_to_is_away_nothing_new_is_judged_and_nothing_twice(
    service: FakeService, folders: Folders, door: FolderDoor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver, away = folder.deliver, True

    def delivered(*arguments: Any) -> Path:
        if away:
            raise OSError("the network drive is gone")
        return deliver(*arguments)

    monkeypatch.setattr(folder, "deliver", delivered)
    for number in range(30):
        picture(folders.watched / f"{number}.png", 20)
    door.start()
    until(lambda: "drive is gone" in caplog.text)
    assert len(service.kept) <= 2 * folder.AT_ONCE and len(names(folders.watched)) == 30
    away = False
    until(lambda: door.judged == 30)
    assert len(service.kept) == 30


def test_an_image_that_is_rewritten_while_it_is_judged_is_judged_again(
    service: FakeService, folders: Folders, door: FolderDoor
) -> None:
    path = picture(folders.watched / "a.png", 20)

    def rewrite() -> None:
        service.before = lambda: None
        picture(path, 200)
        os.utime(path, ns=(5, 5))

    service.before = rewrite
    door.start()
    until(lambda: door.judged == 1)
    assert [one.is_anomalous for one in service.kept] == [False, True]
    assert names(folders.accept) == [] and "a.png" in names(folders.reject)


def test_what_was_moved_when_the_process_was_killed_is_not_judged_again(
    service: FakeService, folders: Folders, door: FolderDoor, caplog: pytest.LogCaptureFixture
) -> None:
    path = picture(folders.watched / "a.png", 20)
    folders.accept.mkdir()
    os.link(path, folders.accept / "a.png")
    (folders.accept / ".b.png.part").touch()
    door.start()
    until(lambda: names(folders.watched) == [])
    assert service.kept == [] and names(folders.accept) == ["a.png"] and "before the last end" in caplog.text


def test_a_verdict_that_was_written_before_a_kill_gives_its_name_to_the_image(
    service: FakeService, folders: Folders, door: FolderDoor
) -> None:
    folders.accept.mkdir()
    for name, moment in (("a.png", 5), ("b.png", 10**10)):  # the verdict on b.png is older than the image: of another one
        os.utime(picture(folders.watched / name, 20), (moment, moment))
        (folders.accept / f"{name}.json").write_text("a verdict that no image came to")
    door.start()
    until(lambda: names(folders.watched) == [])
    assert names(folders.accept) == ["a.png", "a.png.json", "b-1.png", "b-1.png.json", "b.png.json"]
    assert json.loads((folders.accept / "a.png.json").read_text())["name"] == "a.png"


def test_without_a_folder_for_failures_they_stay_and_are_named_once(
    service: FakeService, folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    door = FolderDoor(service, "bolts", Folders(folders.watched, folders.accept, folders.reject), interval=0.01)
    (folders.watched / "c.png").write_bytes(b"no image")
    door.start()
    until(lambda: door.failed == 1)
    picture(folders.watched / "a.png", 20)
    until(lambda: door.judged == 1)
    door.stop()
    assert names(folders.watched) == ["c.png"] and caplog.text.count("--failed DIR moves such files") == 1
    assert "json" not in "".join(names(folders.accept))


def test_stopping_finishes_what_is_being_judged_and_takes_nothing_more(
    service: FakeService, folders: Folders, door: FolderDoor
) -> None:
    pending: list[Future[Any]] = []
    score = service.score

    def slowly(*arguments: Any, **options: Any) -> Future[Any]:
        pending.append(Future())
        pending[-1].answer = lambda: score(*arguments, **options).result()  # type: ignore[attr-defined]
        return pending[-1]

    service.score = slowly  # type: ignore[method-assign]
    for number in range(20):
        picture(folders.watched / f"{number}.png", 20)
    door.start()
    until(lambda: len(pending) == folder.AT_ONCE)
    door._stopping.set()
    for future in pending:
        future.set_result(future.answer())  # type: ignore[attr-defined]
    door.stop()
    assert door.judged == len(service.kept) == folder.AT_ONCE and len(names(folders.watched)) == 20 - folder.AT_ONCE


def test_folders_that_would_judge_their_own_images_are_refused(tmp_path: Path, service: FakeService) -> None:
    with pytest.raises(ConfigError, match="lies in the watched folder"):
        Folders(tmp_path, tmp_path / "good", tmp_path.parent / "bad")
    with pytest.raises(ConfigError, match="the same folder"):
        Folders(tmp_path / "in", tmp_path / "out", tmp_path / "out")
    with pytest.raises(DataError, match="needs a folder"):
        FolderDoor(service, "bolts", Folders(tmp_path / "in", tmp_path / "good", tmp_path / "bad"))


def test_a_link_to_the_watched_folder_is_seen_through(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "door").symlink_to(tmp_path / "in")
    with pytest.raises(ConfigError, match="lies in the watched folder"):
        Folders(tmp_path / "in", tmp_path / "door" / "good", tmp_path / "bad")
