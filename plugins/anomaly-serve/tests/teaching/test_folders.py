"""Folders that are watched: what is taken, what is left alone, and where nothing may be read."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import DataError
from anomaly_serve.faults import Unusable
from anomaly_serve.teaching.folders import Folders, Place
from anomaly_serve.teaching.sets import Sets

Png = Callable[..., bytes]


class Kept(dict[str, Any]):
    """The state of a store."""

    def keep_state(self, key: str, value: dict[str, Any]) -> None:
        self[key] = value

    def state(self, key: str) -> dict[str, Any] | None:
        return self.get(key)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "shots" / "monday").mkdir(parents=True)
    (tmp_path / "shots" / ".hidden").mkdir()
    return tmp_path / "shots"


@pytest.fixture
def sets(tmp_path: Path) -> Sets:
    return Sets(tmp_path / "teach")


def looked(folders: Folders, done: Callable[[], bool]) -> None:
    """Look until it is so: an image counts when it has not changed for a second."""
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        folders.look()
        time.sleep(0.05)


def test_images_are_taken_as_they_become_complete(root: Path, sets: Sets, png: Png) -> None:
    kept = Kept()
    folders = Folders([root], kept, sets.get)
    assert [name for _, name in folders.places()] == ["shots", "shots/monday"]
    (root / "monday" / "a.png").write_bytes(png(1))
    (root / "monday" / "again.png").write_bytes(png(1))
    (root / "above.png").write_bytes(png(2))
    folders.watch("disc", Place(0, "monday"), "normal")
    watched = folders.watched("disc")
    assert watched is not None
    looked(folders, lambda: watched.taken + watched.again == 2)
    assert [member.name for member in sets.get("disc").members("normal")] in (["a"], ["again"])

    after = Folders([root], kept, sets.get)  # the service starts again
    after.start()
    try:
        resumed = after.watched("disc")
        assert resumed is not None and resumed.place == Place(0, "monday")
        after.leave("disc")
        assert after.watched("disc") is None and kept["teach/watched"] == {}
    finally:
        after.stop()


def test_nothing_outside_is_read(root: Path, sets: Sets, png: Png) -> None:
    (root.parent / "secret").mkdir()
    (root.parent / "secret" / "plan.png").write_bytes(png(3))
    (root / "way-out").symlink_to(root.parent / "secret")
    (root / "monday" / "link.png").symlink_to(root.parent / "secret" / "plan.png")
    folders = Folders([root], Kept(), sets.get)
    for place in (Place(0, "../secret"), Place(0, "way-out"), Place(1), Place(0, str(root.parent / "secret"))):
        with pytest.raises(Unusable, match="may not be watched"):
            folders.watch("disc", place, "normal")
    with pytest.raises(DataError, match="not there any more"):
        folders.watch("disc", Place(0, "tuesday"), "normal")
    with pytest.raises(Unusable, match="--teach-from"):
        Folders([], Kept(), sets.get).watch("disc", Place(0), "normal")
    folders.watch("disc", Place(0, "monday"), "normal")
    watched = folders.watched("disc")
    assert watched is not None
    looked(folders, lambda: bool(watched.refused))
    assert watched.refused[0].reason == "it is a link that leads out of the folder"
    assert sets.get("disc").members() == []


def test_a_folder_that_is_gone_is_told(root: Path, sets: Sets) -> None:
    folders = Folders([root], Kept(), sets.get)
    folders.watch("disc", Place(0, "monday"), "normal")
    (root / "monday").rmdir()
    folders.look()
    watched = folders.watched("disc")
    assert watched is not None and "cannot be read now" in watched.trouble
