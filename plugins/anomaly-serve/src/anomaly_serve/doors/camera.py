"""Cameras: their frames are judged, at a pace or as fast as that goes. Needs OpenCV."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import ConfigError, MissingLibrary, described
from anomaly_serve.doors.asking import Service, ask, fault_of, not_ready, pause

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds until a camera that is away is opened again
WAITS = 0.5  # seconds between two looks whether the door closes
log = logging.getLogger("anomaly_core.serve")
Pixels = NDArray[np.uint8]


class CameraDoor:
    """Judges the frames of a camera, whose order of colours is turned to RGB.

    A live camera is read all the time, so that the newest frame is judged; the others are dropped. Of a video file, no frame is
    dropped, and the door ends with it. When a camera is away, it is opened again, with pauses up to 30 seconds.

    Args:
        service: what judges.
        product: the product that the frames are of.
        source: a number of OpenCV's, an address such as ``rtsp://...``, or a video file.
        every: seconds between two frames that are judged, in a file by its own time; None: as fast as they are judged.
        opener: opens a source as ``cv2.VideoCapture`` does; None: that.

    Attributes:
        judged, dropped, failed: frames that were judged, that came while another was, and that got no verdict.
        ended: whether the video file is at its end.

    Raises:
        MissingLibrary: OpenCV is not installed.
        ConfigError: the source is a file that does not exist.
    """

    def __init__(
        self,
        service: Service,
        product: str,
        source: str,
        *,
        every: float | None = None,
        opener: Callable[[int | str], Any] | None = None,
    ) -> None:
        self.service, self.product, self.every = service, product, every
        self.judged = self.dropped = self.failed = 0
        self.ended = False
        self._source: int | str = int(source) if source.isdecimal() else source
        self._is_file = not source.isdecimal() and "://" not in source
        if self._is_file and not Path(source).is_file():
            raise ConfigError(f"--camera {source}: there is no such video. Give a file, a camera's number or an address.")
        self.name = re.sub(r"(?<=://)[^/@]*@", "", source)  # without user and password
        self._open = opener or _opencv()
        self._stopping = Event()
        self._fresh = Condition()
        self._newest: Pixels | None = None
        self._number = 0
        self._said: str = ""
        self._threads = [Thread(target=self._judge_all, name=f"camera-{product}", daemon=True)]
        if not self._is_file:  # reading may hang: nobody waits for this one
            self._threads.append(Thread(target=self._read_all, name=f"frames-{product}", daemon=True))

    def __str__(self) -> str:
        return f"{self.product}: camera {self.name!r}"

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take no more frames; one that is being judged is finished."""
        self._stopping.set()
        with self._fresh:
            self._fresh.notify_all()
        if self._threads[0].is_alive():
            self._threads[0].join()
        if self._threads[1:] and self._threads[1].is_alive():
            self._threads[1].join(2 * WAITS)

    # ---- a live camera

    def _read_all(self) -> None:
        wait = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                capture = self._open(self._source)
            except Exception as error:  # of whatever kind OpenCV has
                self._say(f"the camera {self.name!r} cannot be opened: {described(error)}.")
                capture = None
            if capture is not None and self._read(capture):
                wait = FIRST_PAUSE
            if not self._stopping.is_set():
                self._say(f"the camera {self.name!r} is away, or gives no frames. It is tried again.")
                self._stopping.wait(wait)
                wait = min(2 * wait, LONGEST_PAUSE)

    def _read(self, capture: Any) -> bool:
        """Read until the camera gives no frame; whether it gave any."""
        any_frame = False
        try:
            while not self._stopping.is_set():
                there, frame = capture.read()
                if not there or frame is None:
                    return any_frame
                if not any_frame:
                    self._say(f"the camera {self.name!r} gives frames of {frame.shape[1]}x{frame.shape[0]}.", logging.INFO)
                any_frame = True
                with self._fresh:
                    self.dropped += self._newest is not None
                    self._newest, self._number = frame, self._number + 1
                    self._fresh.notify_all()
        except Exception as error:
            self._say(f"the camera {self.name!r} failed: {described(error)}.")
        finally:
            capture.release()
        return any_frame

    def _next(self) -> tuple[Pixels, int] | None:
        with self._fresh:
            while self._newest is None:
                if self._stopping.is_set():
                    return None
                self._fresh.wait(WAITS)
            frame, number = self._newest, self._number
            self._newest = None
            return frame, number

    # ---- judging

    def _judge_all(self) -> None:
        if self._is_file:
            self._judge_file()
            return
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            reason = not_ready(self.service, self.product)
            if reason:
                self._say(f"the camera {self.name!r} waits: {reason}.")
                self._stopping.wait(WAITS)
                continue
            if (coming := self._next()) is None:
                return
            due = time.monotonic() + (self.every or 0.0)
            self._judge(*coming)

    def _judge_file(self) -> None:
        try:
            capture = self._open(self._source)
            rate = float(capture.get(5)) or 25.0  # cv2.CAP_PROP_FPS
            step = max(1, round((self.every or 0.0) * rate))
            number = 0
            while not self._stopping.is_set():
                there, frame = capture.read()
                if not there or frame is None:
                    break
                while number % step == 0 and not self._judge(frame, number + 1) and not self._stopping.is_set():
                    pass  # the service was busy
                number += 1
            capture.release()
        except Exception as error:
            self._say(f"the video {self.name!r} cannot be read: {described(error)}.")
        self.ended = True
        self._say(f"the video {self.name!r} is at its end: {self.judged} frames were judged.", logging.INFO)

    def _judge(self, frame: Pixels, number: int) -> bool:
        """Have a frame judged; False if the service was busy, so that it was not."""
        try:
            ask(self.service, self.product, as_rgb(frame), f"{self.name} {number}", "camera").result()
        except Exception as error:
            if fault_of(error) == "busy":
                self.dropped += not self._is_file
                pause(error, self._stopping)
                return False
            self.failed += 1
            self._say(f"a frame of {self.name!r} got no verdict: {described(error)}.")
            self._stopping.wait(WAITS)
            return True
        self.judged += 1
        return True

    def _say(self, text: str, level: int = logging.WARNING) -> None:
        if text != self._said:
            log.log(level, "%s", text)
            self._said = text


def as_rgb(frame: Any) -> Pixels:
    """uint8 (H, W, 3) RGB of a frame as OpenCV has it: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA.

    Raises:
        ValueError: it is something else.
    """
    pixels = np.asarray(frame)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise ValueError(f"a frame of {pixels.dtype} {pixels.shape}; expected uint8 with 1, 3 or 4 channels")
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., 2::-1])


def _opencv() -> Callable[[int | str], Any]:
    try:
        import cv2
    except ImportError as error:
        raise MissingLibrary(f'--camera needs OpenCV ({error}): pip install "anomaly-serve[camera]"') from error
    return cv2.VideoCapture  # type: ignore[no-any-return]
