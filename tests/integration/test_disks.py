"""Disks that are full, read-only or hold a file where a folder must be: one error, and no run that claims to be complete."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from anomaly_core import RunError
from anomaly_features import FeatureCache
from faults import KEPT, assert_whole, contents, fit, newest, statuses

pytestmark = pytest.mark.reliability


IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def test_a_full_disk_is_one_error_and_no_complete_run(commands, root, whole, tmp_path, record) -> None:
    finished, _ = whole
    limit = (finished / "model.safetensors").stat().st_size // 2
    done = commands(*fit(root, tmp_path), largest_file=limit)
    assert done.code == 1 and "cannot write" in done.err and "--output" in done.err and "Traceback" not in done.err
    assert statuses(tmp_path) == ["failed"]
    assert not list(tmp_path.rglob(".*.part"))
    again = commands(*fit(root, tmp_path), "--resume")
    assert again.code == 0, again.err
    assert contents(newest(tmp_path), KEPT) == contents(finished, KEPT)
    record("fault", "no room for a file of the size of the weights")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """A file system in memory of a chosen size; root alone may mount one."""
    if not IS_ROOT:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options: str) -> Path:
        done = subprocess.run(
            ["mount", *options, "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, text=True, check=False
        )
        if done.returncode and "remount" not in str(options):
            pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


@pytest.mark.soak
@pytest.mark.parametrize("kilobytes", [4, 40, 200])
def test_a_disk_that_is_full(commands, root, whole, small_disk, kilobytes, record) -> None:
    finished, _ = whole
    place = small_disk("-o", f"size={kilobytes}k")
    done = commands(*fit(root, place / "runs"))
    assert done.code == 1 and "No space left" in done.err and "Traceback" not in done.err
    assert_whole(place)
    assert "complete" not in statuses(place)
    small_disk("-o", "remount,size=64m")
    again = commands(*fit(root, place / "runs"), "--resume")
    assert again.code == 0, again.err
    assert contents(newest(place), KEPT) == contents(finished, KEPT)
    record("fault", f"a disk of {kilobytes} kB that runs full, then more room and --resume")


@pytest.mark.soak
def test_a_disk_that_cannot_be_written(commands, root, small_disk, record) -> None:
    place = small_disk("-o", "ro")
    done = commands(*fit(root, place / "runs"))
    assert done.code == 1 and "Read-only file system" in done.err and "--output" in done.err and "Traceback" not in done.err
    record("fault", "a read-only file system")


def test_a_file_where_the_folder_must_be(commands, root, tmp_path, record) -> None:
    (tmp_path / "runs").write_text("a file")
    done = commands(*fit(root, tmp_path / "runs"))
    assert done.code == 1 and "cannot make the folder" in done.err and "--output" in done.err
    assert "Traceback" not in done.err
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RunError, match=r"model\.cache_folder"):
        FeatureCache(1000, tmp_path / "cache" / "features")
    record("fault", "a file where a folder must be")


def test_a_full_cache_costs_nothing_but_time(tmp_path, monkeypatch, record) -> None:
    cache = FeatureCache(10**6, tmp_path / "features")

    def full(*arguments: Any) -> None:
        raise RunError("cannot write: No space left on device.")

    images = torch.rand(2, 3, 4, 4)
    (expected,) = cache(images, lambda batch: [batch * 2])
    for file in (tmp_path / "features").iterdir():
        file.write_bytes(file.read_bytes()[:20])  # torn
    (again,) = FeatureCache(10**6, tmp_path / "features")(images, lambda batch: [batch * 2])
    assert torch.equal(again, expected)
    mended = FeatureCache(10**6, tmp_path / "features")
    mended(images, lambda batch: [batch * 2])
    assert (mended.hits, mended.misses) == (2, 0)  # a torn file was written anew
    monkeypatch.setattr("anomaly_features.cache.write_whole", full)
    with pytest.warns(UserWarning, match="No space left"):
        cache(torch.rand(2, 3, 4, 4), lambda batch: [batch * 2])
    record("fault", "a disk that is full for cached features, and torn files in the cache")
