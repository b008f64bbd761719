"""Randomly damaged image and mask files: read, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_core import AnomalyError, ImageReader, InputSpec, read_image, read_mask
from fuzzing import FEW, MANY, attempt, damaged_files
from poison import KINDS, poisons


def image(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    sizes = []
    for reader in (ImageReader().size, lambda path: ImageReader().examine(path).size):
        try:
            sizes.append(reader(path))
        except AnomalyError as error:
            assert path.name in str(error)
    try:
        picture = read_image(path)
    except AnomalyError as error:
        assert path.name in str(error)
        return
    assert picture.mode == "RGB"
    assert set(sizes) <= {(picture.height, picture.width)}
    if picture.width * picture.height < 10**6:
        for resize in ("stretch", "keep", "pad"):
            assert InputSpec((16, 24), resize).array(picture).shape == (16, 24, 3)  # type: ignore[arg-type]


def mask(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        marked = read_mask(path)
    except AnomalyError as error:
        assert path.name in str(error)
        return
    assert marked.mode == "L"
    assert set(np.unique(np.asarray(marked))) <= {0, 255}


CASES: dict[str, tuple[Any, Callable[[Path, Any], None]]] = {"image": (damaged_files(), image), "mask": (damaged_files(), mask)}
WORDS = {"image": "damaged image files", "mask": "damaged mask files"}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it finds in damaged files, before it refuses them or not
def test_a_few_damaged_inputs(name: str, tmp_path: Path) -> None:
    attempt(*CASES[name], tmp_path, FEW, 0)


@pytest.mark.soak
@pytest.mark.reliability
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it finds in damaged files, before it refuses them or not
def test_ten_thousand_damaged_inputs(
    name: str, tmp_path: Path, soak_minutes: float, soak_seed: int, record: Callable[..., None]
) -> None:
    tried = attempt(*CASES[name], tmp_path, MANY, soak_seed, 60 * soak_minutes * 0.06)
    record("input", f"{WORDS[name]}: a result or one of our errors", tried, seed=soak_seed)


@pytest.mark.reliability
@pytest.mark.parametrize("kind", KINDS)
def test_a_malicious_image_executes_nothing(canary: Path, tmp_path: Path, kind: str, record: Callable[..., None]) -> None:
    (tmp_path / "image.png").write_bytes(poisons(canary)[kind])
    with pytest.raises(AnomalyError, match=r"image\.png"):
        read_image(tmp_path / "image.png")
    record("security", f"a malicious {kind} file as an image")
