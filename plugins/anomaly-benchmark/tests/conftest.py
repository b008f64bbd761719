"""Miniature trees of MVTec AD's kind, a method that is fitted on them in a second, and the command that makes grids of both."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly_core import registry

SMALL = {"model.image_size": 32, "model.widths": [4, 8], "train.epochs": 2, "base.pictures": 0, "data.batch_size": 4}
CHANGING = ("fit_seconds", "images_per_second", "peak_memory_mb", "folder")  # columns that differ from run to run


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories that can be fitted, and one whose training images are no images."""
    root = tmp_path_factory.mktemp("mvtec")
    random = np.random.default_rng(0)

    def draw(path: Path, spot: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = random.integers(90, 130, (32, 32, 3), dtype=np.uint8)
        if spot:
            image[8:16, 8:16] = 250
        Image.fromarray(image).save(path)

    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[8:16, 8:16] = 255
    for category in ("bottle", "grid", "torn"):
        for number in range(6):
            draw(root / category / "train" / "good" / f"{number:03d}.png")
        for number in range(3):
            draw(root / category / "test" / "good" / f"{number:03d}.png")
            draw(root / category / "test" / "spot" / f"{number:03d}.png", spot=True)
            truth = root / category / "ground_truth" / "spot" / f"{number:03d}_mask.png"
            truth.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(truth)
    for path in (root / "torn" / "train" / "good").iterdir():
        path.write_bytes(b"torn")
    return root


@pytest.fixture
def options(tree: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Options of a run that takes a second, below ``tmp_path``; keyword arguments override them."""
    return lambda **more: {**SMALL, "data.root": str(tree), "base.output": str(tmp_path), **more}


@pytest.fixture
def command(tree: Path) -> Callable[..., list[str]]:
    """The words after ``anomaly`` that make a small grid below a folder."""

    def words(output: Path, *flags: str) -> list[str]:
        settings = [f"{key}={json.dumps(value) if isinstance(value, list) else value}" for key, value in SMALL.items()]
        sets = [part for text in (*settings, f"data.root={tree}") for part in ("--set", text)]
        return ["benchmark", "--model", "vanilla_ae", "--data", "mvtec", "--output", str(output), *sets, *flags]

    return words


@pytest.fixture
def process(command: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """The same as a command of a process of its own."""
    return lambda output, *flags: [sys.executable, "-m", "anomaly_core", *command(output, *flags)]


@pytest.fixture
def table() -> Callable[[Path], list[dict[str, str]]]:
    """The rows of results.csv without what may differ from run to run."""

    def rows(output: Path) -> list[dict[str, str]]:
        lines = (output / "benchmark" / "results.csv").read_text().splitlines()
        return [{name: value for name, value in row.items() if name not in CHANGING} for row in csv.DictReader(lines)]

    return rows


@pytest.fixture(autouse=True)
def unobserved(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Reports take seconds a run and have tests of their own."""
    monkeypatch.setenv("ANOMALY_BLOCK", "anomaly-report,anomaly-tensorboard")
    registry.refresh()
    yield
    monkeypatch.undo()
    registry.refresh()
