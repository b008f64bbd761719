"""Files that somebody else wrote: nothing blocks, and what is no regular file is refused by name."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from anomaly_core import (
    ConfigError,
    DataError,
    RunError,
    RunFolder,
    expanded,
    inside,
    open_untrusted,
    read_image,
    read_mask,
    read_untrusted,
)
from anomaly_core.run.folder import RECORDED

pytestmark = [
    pytest.mark.reliability("input"),
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders"),
]


def within(seconds: float, work: object) -> BaseException | None:
    """What ``work`` raised; an AssertionError if it is still at it."""
    raised: list[BaseException] = []

    def attempt() -> None:
        try:
            work()  # type: ignore[operator]
        except BaseException as error:  # given to the caller
            raised.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits"
    return raised[0] if raised else None


@pytest.fixture(params=["pipe", "socket", "folder", "link to itself", "dead link", "device"])
def strange(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "strange.png"
    match request.param:
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        case "folder":
            path.mkdir()
        case "link to itself":
            path.symlink_to(path)
        case "dead link":
            path.symlink_to(tmp_path / "nowhere")
        case _:
            path.symlink_to("/dev/zero")
    return path


def test_no_special_file_is_waited_for(strange: Path) -> None:
    for work in (lambda: open_untrusted(strange), lambda: read_untrusted(strange)):
        assert isinstance(within(5, work), OSError)
    for read in (read_image, read_mask):
        error = within(5, lambda read=read: read(strange))
        assert isinstance(error, DataError) and str(strange) in str(error)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_untrusted(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="5 bytes are more than the 4"):
        read_untrusted(tmp_path / "file", 4)


@pytest.mark.parametrize("name", ["manifest.json", *RECORDED])
def test_no_file_of_a_run_is_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    run = RunFolder(tmp_path, verify=False)
    error = within(5, run.state if name == "model.safetensors" else lambda: run.read(name))
    assert "it is a pipe, not a regular file" in str(error) and name in str(error)


def test_a_strangers_name_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    for place in (folder / "maps", outside):
        place.mkdir(parents=True)
    (folder / "up").symlink_to(outside)
    (folder / "in").symlink_to("maps")
    (folder / "loop").symlink_to("loop")
    for name in ("maps/a.png", "maps", ".", "in/a.png", "ends with a dot.", "a\udcff.png"):
        assert inside(folder, name) == folder / name
    for name in ("..", "../outside/a", "maps/../../outside", str(outside), "up", "up/a", "C:\\a", "C:a", "\\\\host\\a",
                 "//host/a", "..\\a", "\\a", "a\0b", "maps/\0"):  # fmt: skip
        with pytest.raises(OSError, match=r"leads out of the folder|is no path"):
            inside(folder, name)
    with pytest.raises(OSError, match=r"no path|Symlink loop|symbolic links"):
        inside(folder, "loop/a").stat()


def test_a_run_reads_and_writes_through_no_link_out_of_its_folder(tmp_path: Path) -> None:
    run, outside = RunFolder(tmp_path / "run", verify=False), tmp_path / "outside"
    for place in (run.folder, outside):
        place.mkdir()
    (outside / "calibration.json").write_text("{}")
    (run.folder / "calibration.json").symlink_to(outside / "calibration.json")
    (run.folder / "figures").symlink_to(outside)
    for work in (run.calibration, lambda: run.write("figures/a.png", b"")):
        with pytest.raises(RunError, match="it leads out of the folder"):
            work()
    run.write("calibration.json", "mine")
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("calibration.json", "{}")]
    assert not (run.folder / "calibration.json").is_symlink()


@pytest.mark.parametrize("path", ["~/x", "~", "~nobody-of-this-name/x"])
def test_a_path_of_a_user_without_a_home_folder(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    def unknown(number: object) -> None:
        raise KeyError(number)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/x") == tmp_path / "x"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ConfigError, match=r"begins with ~, and this user has no home folder\. Give the whole path"):
        expanded(path)
    assert expanded("a/~") == Path("a/~")
    (tmp_path / path).mkdir(parents=True)
    assert expanded(path) == Path(path)
