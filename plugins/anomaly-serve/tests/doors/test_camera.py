"""Frames of a camera are judged in the right order of colours; the newest of a live one, all of a file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doorstep import FakeService, until

from anomaly_core import ConfigError, RunError
from anomaly_serve.doors import CameraDoor, DoorOptions, add_doors, camera
from anomaly_serve.doors.camera import as_rgb


class Busy(RunError):
    retry_after = 0.01


class Capture:
    """As ``cv2.VideoCapture``: gives frames as they are put in."""

    def __init__(self, frames: Iterator[Any]) -> None:
        self.frames, self.released = frames, False

    def read(self) -> tuple[bool, Any]:
        frame = next(self.frames, None)
        return frame is not None, frame

    def get(self, number: int) -> float:
        return 10.0

    def release(self) -> None:
        self.released = True


def frame(value: int) -> Any:
    """Blue in OpenCV's order."""
    image = np.zeros((6, 8, 3), dtype=np.uint8)
    image[..., 0] = value
    return image


def test_colours_are_turned_and_other_forms_are_understood_or_refused() -> None:
    assert as_rgb(frame(200))[0, 0].tolist() == [0, 0, 200]
    assert as_rgb(np.full((4, 5), 7, dtype=np.uint8)).shape == (4, 5, 3)
    assert as_rgb(np.full((4, 5, 1), 7, dtype=np.uint8))[0, 0].tolist() == [7, 7, 7]
    assert as_rgb(np.dstack([frame(200), np.zeros((6, 8), dtype=np.uint8)]))[0, 0].tolist() == [0, 0, 200]
    with pytest.raises(ValueError, match="expected uint8"):
        as_rgb(np.zeros((4, 5, 3)))


def test_of_a_live_camera_the_newest_frame_is_judged_and_the_others_are_counted(service: FakeService) -> None:
    first, gate = threading.Event(), threading.Event()

    def before() -> None:
        first.set()
        gate.wait(10)

    service.before = before

    def frames() -> Iterator[Any]:
        yield frame(1)
        first.wait(10)
        for value in range(2, 51):
            yield frame(value)
        gate.set()
        time.sleep(60)

    door = CameraDoor(service, "bolts", "0", opener=lambda source: Capture(frames()) if source == 0 else None)
    door.start()
    until(lambda: door.judged == 2)
    door.stop()
    assert [image[0, 0].tolist() for image in service.images] == [[0, 0, 1], [0, 0, 50]]  # the newest, and RGB
    assert door.dropped == 48
    assert service.kept[-1].source == "camera" and service.kept[-1].name == "0 50"


def test_a_camera_that_goes_away_is_opened_again(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(camera, "FIRST_PAUSE", 0.01)
    opened: list[Capture] = []

    def opener(source: int | str) -> Capture:
        opened.append(Capture(iter([frame(len(opened))])))
        if len(opened) == 2:
            raise OSError("no route")
        return opened[-1]

    door = CameraDoor(service, "bolts", "rtsp://user:secret@camera/1", every=0.01, opener=opener)
    door.start()
    until(lambda: door.judged >= 2)
    door.stop()
    assert len(opened) >= 3 and opened[0].released
    assert "is away" in caplog.text and "no route" in caplog.text and "secret" not in caplog.text
    assert all("secret" not in one.name for one in service.kept)


def test_no_frame_of_a_file_is_dropped_even_when_the_service_is_busy(service: FakeService, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").touch()
    service.faults = [Busy("full"), Busy("full")]
    door = CameraDoor(service, "bolts", str(tmp_path / "video.mp4"), opener=lambda _: Capture(map(frame, range(30))))
    door.start()
    until(lambda: door.ended)
    door.stop()
    assert [image[0, 0, 2] for image in service.images] == list(range(30)) and door.judged == 30


def test_of_a_file_a_frame_every_so_many_seconds_of_its_own_time(service: FakeService, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").touch()
    door = CameraDoor(service, "bolts", str(tmp_path / "video.mp4"), every=0.5, opener=lambda _: Capture(map(frame, range(30))))
    door.start()
    until(lambda: door.ended)
    assert [image[0, 0, 2] for image in service.images] == [0, 5, 10, 15, 20, 25]


def test_a_video_that_is_not_there_is_refused(service: FakeService, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such video"):
        CameraDoor(service, "bolts", str(tmp_path / "none.mp4"), opener=lambda _: None)


def test_with_opencv_a_real_video_is_judged_in_its_colours(service: FakeService, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
    file = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(5):
        writer.write(np.full((48, 64, 3), (250, 10, 10), dtype=np.uint8))  # blue
    writer.release()
    with add_doors(service, DoorOptions(camera=(str(file),))) as doors:
        (door,) = doors.doors
        assert isinstance(door, CameraDoor)
        until(lambda: door.ended)
    red, green, blue = service.images[0].reshape(-1, 3).mean(0)
    assert door.judged == 5 and blue > 200 and red < 60 and green < 60
