"""Images of anything, from a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from anomaly_core import ConfigError, DataError
from anomaly_trainers import PictureFolder
from anomaly_trainers import pictures as pictures


def test_a_folder_of_pictures_is_read_lazily_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        Image.new("L", (20 + number, 30), 60 * number).save(tmp_path / f"{number}.png")
    read: list[Path] = []
    original = pictures.read_image
    monkeypatch.setattr(pictures, "read_image", lambda path: read.append(path) or original(path))  # type: ignore[func-returns-value]
    folder = PictureFolder(tmp_path, "--images", (16, 24))
    assert not read
    torch.manual_seed(0)
    drawn = torch.cat([folder.draw(20) for _ in range(3)])
    assert drawn.shape == (60, 3, 16, 24)
    assert sorted(read) == sorted(tmp_path.iterdir())
    assert sorted((drawn * 255).unique().tolist()) == [0, 60, 120, 180]
    monkeypatch.setattr(pictures, "CACHE_BYTES", 0)
    read.clear()
    PictureFolder(tmp_path, "--images", (16, 24)).draw(20)
    assert len(read) == 20


def test_a_folder_that_is_none_or_empty_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.textures '.*gone' is no folder. Name a folder of images, or leave it out."):
        PictureFolder(tmp_path / "gone", "model.textures", (16, 24), ", or leave it out")
    with pytest.raises(DataError, match="holds no image"):
        PictureFolder(tmp_path, "model.textures", (16, 24))
