"""A run decodes each of its files once, as far as data.image_cache has room."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly_core import ImageReader, InputSpec, Sample, run_experiment
from anomaly_core.base.data import SampleDataset
from anomaly_core.imaging import images, reading
from anomaly_core.imaging.cache import ImageCache, view
from anomaly_core.imaging.formats import opened
from tiny.runs import config, scores

SPEC = InputSpec((16, 16))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image and mask is opened."""
    counts: Counter[str] = Counter()

    def counted(path: Path, *arguments: Any) -> Any:
        counts["/".join(Path(path).parts[-3:])] += 1
        return opened(path, *arguments)

    for module in (reading, images):
        monkeypatch.setattr(module, "opened", counted)
    return counts


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("holdout", [None, 0.25])
def test_each_file_of_a_run_is_decoded_once(tmp_path: Path, decoded: Counter[str], holdout: float | None) -> None:
    options = {"data.holdout": holdout, "base.pictures": 0}
    run = run_experiment(config(tmp_path / "kept", **options))
    assert max(decoded.values()) == 1 and sum(decoded.values()) == len(decoded) > 10
    assert any("ground_truth" in name for name in decoded)
    before = decoded.copy()
    other = run_experiment(config(tmp_path / "again", **options, **{"data.image_cache": 0}))
    assert min((decoded - before).values()) > 1
    assert np.array_equal(scores(run), scores(other))


def test_a_cache_holds_no_more_than_its_budget(tmp_path: Path) -> None:
    grey, colour = view(SPEC, Image.new("L", (20, 20), 9)), view(SPEC, Image.new("RGB", (20, 20), (9, 9, 9)))
    assert np.array_equal(grey.pixels, colour.pixels)
    cache = ImageCache(SPEC, 3 * 256 + 256)
    for name, one in (("colour", colour), ("more", colour), ("grey", grey), ("last", grey)):
        cache.keep(cache.key(Sample(tmp_path / name)), one)
    held = [name for name in ("colour", "more", "grey", "last") if cache.key(Sample(tmp_path / name)) in cache]
    assert held == ["colour", "grey"] and cache.used == cache.budget and not cache.has_room()


def test_processes_share_what_is_left_and_a_spawned_one_begins_anew(tmp_path: Path) -> None:
    cache, key = ImageCache(SPEC, 5 * 3 * 256), ImageCache.key(Sample(tmp_path / "a.png"))
    cache.keep(key, view(SPEC, Image.new("RGB", (20, 20))))
    part = cache.shared(2)
    assert key in part and part.budget - part.used == 2 * 3 * 256
    part.keep(ImageCache.key(Sample(tmp_path / "b.png")), view(SPEC, Image.new("RGB", (20, 20))))
    assert cache.used == 3 * 256, "another process has its own"
    spawned = pickle.loads(pickle.dumps(cache))
    assert key not in spawned and spawned.has_room(4) and not spawned.has_room(5)


def test_another_mask_is_another_view(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    for name, value in (("black", 0), ("white", 255)):
        Image.new("L", (16, 16), value).save(tmp_path / f"{name}.png")
    cache = ImageCache(SPEC, 10**6)
    for name, marked in (("black", False), ("white", True)):
        sample = Sample(tmp_path / "a.png", 1, tmp_path / f"{name}.png")
        for _ in range(2):
            batch = SampleDataset([sample], SPEC, None, cache, True, ImageReader())[0]
            assert batch.masks is not None and bool(batch.masks.all()) is marked
