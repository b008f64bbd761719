"""Samples and tiles are decoded when they are asked for, and kept as far as there is room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from anomaly_core import ImageReader, InputSpec, Sample
from anomaly_core.base.data import SampleDataset
from anomaly_core.imaging.cache import ImageCache
from anomaly_core.imaging.tiles import Tiling
from tiny.data import write_tree
from woven import tree


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are decoded, in their order."""
    names: list[str] = []
    read = ImageReader.read

    def counted(reader: ImageReader, path: Path, **options: Any) -> Image.Image:
        names.append(path.name)
        return read(reader, path, **options)

    monkeypatch.setattr(ImageReader, "read", counted)
    return names


@pytest.fixture
def images(tmp_path: Path) -> list[Sample]:
    """Images of several sizes, wide and high, grey and coloured."""
    return [Sample(path, 0) for path in sorted((tree(tmp_path / "weave") / "train" / "good").iterdir())]


def test_kept_images_are_decoded_once_as_far_as_there_is_room(tmp_path: Path, decoded: list[str]) -> None:
    paths = sorted((write_tree(tmp_path) / "train" / "good").iterdir())
    cache = ImageCache(InputSpec((8, 8)), budget=3 * 3 * 8 * 8)
    dataset = SampleDataset([Sample(path, 0) for path in paths], cache.spec, cache=cache, keep=True)
    first = [dataset[index].images for index in range(6)]
    again = [dataset[index].images for index in range(6)]
    assert len(decoded) == 6 + 3 and decoded[6:] == ["3.png", "4.png", "5.png"]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_an_image_is_decoded_once_for_all_its_tiles(images: list[Sample], decoded: list[str]) -> None:
    dataset = SampleDataset(images, InputSpec((32, 32)), Tiling((64, 64), 16))
    assert len(dataset) > 4 * len(images)
    for index in range(len(dataset)):
        dataset[index]
    assert len(decoded) == len(images)

    decoded.clear()
    cache = ImageCache(InputSpec((32, 32)), budget=len(dataset) * 3 * 32 * 32)
    kept = SampleDataset(images, cache.spec, Tiling((64, 64), 16), cache, keep=True)
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = {index: kept[index].images for index in order}
    assert len(decoded) == len(images)
    for index in order:
        assert torch.equal(kept[index].images, shuffled[index])
    assert len(decoded) == len(images)
    assert all(torch.equal(shuffled[index], dataset[index].images) for index in order)


def test_a_batch_decodes_each_of_its_images_once_and_the_next_one_goes_on(images: list[Sample], decoded: list[str]) -> None:
    dataset = SampleDataset(images, InputSpec((32, 32)), Tiling((64, 64), 16))
    alone = [dataset[index].images for index in range(len(dataset))]
    decoded.clear()
    batches = [list(range(start, min(start + 5, len(dataset)))) for start in range(0, len(dataset), 5)]
    together = [dataset.__getitems__(indices)[0] for indices in batches]
    assert sorted(decoded) == [sample.path.name for sample in images]
    assert torch.equal(torch.cat([batch.images for batch in together]), torch.cat(alone))
    assert [len(batch.samples) for batch in together] == [len(indices) for indices in batches]
