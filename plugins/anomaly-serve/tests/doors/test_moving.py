"""A file is moved whole, never lost, and never over another."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomaly_serve.doors import moving
from anomaly_serve.doors.moving import deliver, delivered, free


@pytest.fixture(params=["same drive", "other drive", "no links"])
def drive(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the ways from one folder to another."""
    link, rename = os.link, Path.rename

    def refused(source: Any, target: Any) -> None:
        if request.param == "no links" and sys.platform != "win32":
            raise OSError(errno.EPERM, "no links here")
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, "another drive")

    def linked(source: Any, target: Any, **options: Any) -> None:
        refused(source, target)
        link(source, target, **options)

    def renamed(source: Path, target: Path) -> Path:
        refused(source, target)
        return rename(source, target)

    if request.param != "same drive":
        monkeypatch.setattr(moving.os, "link", linked)
    if request.param == "other drive" and sys.platform == "win32":
        monkeypatch.setattr(moving.Path, "rename", renamed)
    return str(request.param)


def test_a_name_that_is_taken_is_numbered_and_nothing_is_replaced(tmp_path: Path, drive: str) -> None:
    target = tmp_path / "out" / "lot 7" / "a.png"
    for number in range(70):
        (tmp_path / "a.png").write_text(str(number))
        deliver(tmp_path / "a.png", target, {".json": f"{number}!"})
    assert not (tmp_path / "a.png").exists()
    assert target.read_text() == "0" and target.with_name("a-69.png").read_text() == "69"
    assert len(list(target.parent.iterdir())) == 140
    assert {path.read_text() for path in target.parent.glob("*.png")} == set(map(str, range(70)))
    for path in target.parent.glob("*.png"):
        assert Path(f"{path}.json").read_text() == f"{path.read_text()}!"


def test_a_note_that_is_left_alone_takes_the_name_too(tmp_path: Path) -> None:
    (tmp_path / "a.png.json").touch()
    assert free(tmp_path / "a.png") == tmp_path / "a.png"
    assert free(tmp_path / "a.png", (".json",)) == tmp_path / "a-1.png"


def test_what_cannot_be_moved_stays_and_leaves_nothing(tmp_path: Path, drive: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "a.png"
    source.write_text("a")

    def refusing(method: Callable[..., Any]) -> Callable[..., Any]:
        def refused(path: Path, *arguments: Any, **options: Any) -> Any:
            if path == source:
                raise PermissionError(errno.EACCES, "read only")
            return method(path, *arguments, **options)

        return refused

    for name in ("unlink", "rename"):
        monkeypatch.setattr(moving.Path, name, refusing(getattr(Path, name)))
    with pytest.raises(PermissionError):
        deliver(source, tmp_path / "out" / "a.png", {".json": "{}"})
    assert source.read_text() == "a"
    assert [path.name for path in (tmp_path / "out").iterdir()] == []


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_is_delivered_as_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "shot.png").write_text("pixels")
    (tmp_path / "in" / "a.png").symlink_to("../shot.png")
    name = deliver(tmp_path / "in" / "a.png", tmp_path / "out" / "deep" / "a.png")
    assert name.read_text() == "pixels" and not name.is_symlink()
    assert (tmp_path / "shot.png").exists() and not (tmp_path / "in" / "a.png").is_symlink()


def test_what_was_moved_but_for_a_kill_is_recognised(tmp_path: Path) -> None:
    source, target = tmp_path / "a.png", tmp_path / "out" / "a.png"
    source.write_text("a")
    target.parent.mkdir()
    assert delivered(source, target) is None
    target.write_text("another")
    assert delivered(source, target) is None
    copy = target.with_name("a-1.png")
    copy.write_text("a")
    os.utime(copy, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    assert delivered(source, target) == copy
    os.utime(copy, ns=(1, 1))  # of the same bytes, and taken at another time
    assert delivered(source, target) is None
    os.link(source, target.with_name("a-2.png"))
    assert delivered(source, target) == target.with_name("a-2.png")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("across", [False, True])
def test_killed_at_any_moment_no_file_is_lost(tmp_path: Path, across: bool) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    names = [f"{number:03d}.png" for number in range(400)]
    for name in names:
        (source / name).write_bytes(name.encode() * 2000)
    code = f"""
        import errno, os, pathlib
        from anomaly_serve.doors import moving
        link = os.link
        def across(a, b, **options):
            if pathlib.Path(a).parent != pathlib.Path(b).parent:
                raise OSError(errno.EXDEV, "another drive")
            link(a, b, **options)
        if {across}:
            moving.os.link = across
        print("ready", flush=True)
        for path in sorted(pathlib.Path({str(source)!r}).iterdir()):
            moving.deliver(path, pathlib.Path({str(target)!r}) / path.name)
    """
    for attempt in range(3):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        before = len(list(target.iterdir()))
        while len(list(target.iterdir())) < before + 5 * (attempt + 1):  # it has begun to move
            time.sleep(0.0005)
        process.kill()
        process.wait()
        process.stdout.close()
        moving.clear(target)
        for path in source.iterdir():
            if delivered(path, target / path.name):
                path.unlink()
    moved = {path.name: path.read_bytes() for path in target.iterdir()}
    left = {path.name: path.read_bytes() for path in source.iterdir()}
    assert moved
    assert not moved.keys() & left.keys()
    assert moved | left == {name: name.encode() * 2000 for name in names}
