"""Data sets that are not what they should be: each is refused by name, or used with a word about what that means."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly_core import RunConfig, run_experiment
from anomaly_core.base.data import BaseDataModule
from anomaly_core.errors import DataError
from anomaly_core.options import DataConfig
from anomaly_core.screening import duplicates
from anomaly_core.types import Sample

pytestmark = [pytest.mark.usefixtures("unobserved"), pytest.mark.reliability("input")]


def texture(path: Path, seed: int, size: int = 48, defect: bool = False) -> Path:
    values = np.random.default_rng(seed).integers(100, 130, (size, size, 3), dtype=np.uint8)
    if defect:
        values[10:30, 10:30] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def mask(path: Path, size: tuple[int, int] = (48, 48), value: int = 255) -> Path:
    values = np.zeros(size, dtype=np.uint8)
    values[10:30, 10:30] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def tree(root: Path, size: int = 48) -> Path:
    for seed in range(6):
        texture(root / "train" / "good" / f"{seed}.png", seed, size)
    for seed in range(2):
        texture(root / "test" / "good" / f"{seed}.png", 10 + seed, size)
        texture(root / "test" / "hole" / f"{seed}.png", 20 + seed, size, defect=True)
        mask(root / "ground_truth" / "hole" / f"{seed}_mask.png", (size, size))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path / "parts")


def run(root: Path, output: Path, **more: Any) -> tuple[Any, str]:
    options = {"data.root": str(root), "data.holdout": 0.34, "model.image_size": 48, "base.output": str(output)}
    options |= {"base.pictures": 0, "base.metrics": ["image_auroc"], **more}
    result = run_experiment(RunConfig.create(model="patchcore", data="folder", preset="edge", overrides=options))
    return result, (result.runs[0].folder / "log.txt").read_text()


def test_the_same_image_in_train_and_test_is_reported(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "train" / "good" / "3.png", root / "test" / "good" / "copy.png")
    shutil.copy(root / "train" / "good" / "4.png", root / "test" / "hole" / "9.png")
    _, log = run(root, tmp_path / "runs")
    assert "2 images are among the training and test images alike, 1 of them labelled anomalous" in log
    assert "copy.png" in log
    _, log = run(tree(tmp_path / "clean"), tmp_path / "runs")
    assert "alike" not in log


def test_only_files_of_one_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in {"a": b"12345", "b": b"12346", "c": b"1234567", "d": b"12345", "e": b"1"}.items():
        (tmp_path / name).write_bytes(content)
    read: list[str] = []
    real = Path.open

    def noted(self: Path, *arguments: Any, **options: Any) -> Any:
        read.append(self.name)
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", noted)
    a, b, c, d, e = (Sample(tmp_path / name) for name in "abcde")
    assert duplicates([a, c], [b, d, e]) == [(a, d)]
    assert sorted(read) == ["a", "b", "d"]


def test_one_class_only(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "test" / "hole")
    result, _ = run(root, tmp_path)
    assert result.metrics["image_auroc"] is None
    assert "all 2 labels are normal" in result.runs[0].undefined["image_auroc"]
    assert result.runs[0].calibration.threshold is not None


def test_masks_without_images(root: Path, tmp_path: Path) -> None:
    mask(root / "ground_truth" / "hole" / "77_mask.png")
    _, log = run(root, tmp_path)
    assert "1 masks have no image" in log
    assert "77_mask.png" in log


def test_a_mask_of_another_size(root: Path, tmp_path: Path) -> None:
    mask(root / "ground_truth" / "hole" / "1_mask.png", (48, 40))
    with pytest.raises(DataError, match=r"1_mask\.png' is 40x48, its image .* 48x48"):
        run(root, tmp_path)
    result, _ = run(root, tmp_path, **{"data.on_bad_image": "skip"})
    assert len(result.predictions) == 3


def test_a_mask_of_zeros_leaves_the_label_as_it_is_and_is_said(root: Path, tmp_path: Path) -> None:
    mask(root / "ground_truth" / "hole" / "1_mask.png", value=0)
    result, log = run(root, tmp_path)
    assert "1 images are labelled anomalous and their masks mark no pixel" in log
    assert [row["label"] for row in result.predictions] == [0, 0, 1, 1]


class Listed(BaseDataModule):
    """A data set whose training part holds an anomalous image."""

    def categories(self) -> list[str]:
        return ["x"]

    def train_samples(self, category: str) -> list[Sample]:
        return [Sample(Path(f"{index}.png"), int(index == 2)) for index in range(5)]

    def test_samples(self, category: str) -> list[Sample]:
        return []


def test_an_anomalous_image_in_train_is_left_out_and_said() -> None:
    with pytest.warns(UserWarning, match=r"1 training images .* labelled anomalous, such as '2\.png'"):
        fit, held = Listed(DataConfig(holdout=0.25)).split("x")
    assert len(fit) + len(held) == 4
    assert all(sample.label == 0 for sample in (*fit, *held))


def test_categories_of_different_sizes(tmp_path: Path) -> None:
    tree(tmp_path / "set" / "small", 40)
    tree(tmp_path / "set" / "large", 90)
    for unified in (False, True):
        result, _ = run(tmp_path / "set", tmp_path / "runs", **{"data.unified": unified})
        assert result.metrics["image_auroc"] == 1
        assert len(result.runs) == (1 if unified else 2)


def test_the_digest_of_what_was_skipped_is_that_of_what_was_used(root: Path, tmp_path: Path) -> None:
    def digest() -> str:
        result, _ = run(root, tmp_path, **{"data.on_bad_image": "skip"})
        return str(json.loads((result.folder / "manifest.json").read_text())["data"]["digest"])

    before = digest()
    (root / "test" / "good" / "dangling.png").symlink_to("nowhere.png")
    assert digest() == before
