"""The range of stored values is found over the training images, said, kept, and used for every image of the run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deep_images import SMAX, SMIN, png16, tiff
from PIL import Image

from anomaly_core import ConfigError, DataError, RunFolder, RunResults, run_experiment
from tiny.data import write_tree
from tiny.runs import config, log_of, scores

pytestmark = [pytest.mark.usefixtures("tiny"), pytest.mark.reliability("input")]


def tree(folder: Path, stored: Any = None, suffix: str = ".png") -> Path:
    """Grey images of the weave; ``stored`` gives the bytes of a file for uint8 (H, W)."""
    root = write_tree(folder / "parts", train=8)
    for path in [*root.glob("train/*/*.png"), *root.glob("test/*/*.png")]:
        grey = np.asarray(Image.open(path).convert("L"))
        path.unlink()
        if stored is None:
            Image.fromarray(grey).save(path)
        else:
            path.with_suffix(suffix).write_bytes(stored(grey))
    return root


def run(folder: Path, root: Path, **options: Any) -> RunResults:
    return run_experiment(config(folder, data="tree", **{"data.root": str(root), "base.false_alarm_rate": 0.5, **options}))


def scaled(greatest: float, kind: type = np.uint16) -> Any:
    return lambda grey: np.round(grey.astype(np.float64) * (greatest / 255)).astype(kind)


KINDS: dict[str, tuple[Any, str, tuple[float, float], str]] = {
    "10 bits": (lambda grey: png16(scaled(1023)(grey)), ".png", (0, 1023), "use 10 bits"),
    "12 bits": (lambda grey: tiff(scaled(4095)(grey), packed=True), ".tif", (0, 4095), "use 12 bits"),
    "8 bits in 16": (lambda grey: png16(grey.astype(np.uint16)), ".png", (0, 255), "use 8 bits"),
    "8 bits in 32": (lambda grey: tiff(grey.astype(np.int32)), ".tiff", (0, 255), "use 8 bits"),
    "floats to 1": (lambda grey: tiff((grey / 255).astype(np.float32)), ".tif", (0, 1), "floats of"),
    "floats to 255": (lambda grey: tiff(grey.astype(np.float32)), ".tif", (0, 255), "floats of"),
    "declared": (
        lambda grey: tiff((grey * 4.0 - 100).astype(np.float32), tags=[(SMIN, "f", [-100]), (SMAX, "f", [920])]),
        ".tif",
        (-100, 920),
        "name -100 to 920",
    ),
    "RGB of 10 bits": (lambda grey: png16(np.repeat(scaled(1023)(grey)[..., None], 3, axis=2)), ".png", (0, 1023), "10 bits"),
}


@pytest.fixture(scope="module")
def in_eight_bits(tiny: object, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    folder = tmp_path_factory.mktemp("eight")
    return run(folder, tree(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_pictures_give_the_same_result_in_any_range(kind: str, tmp_path: Path, in_eight_bits: RunResults) -> None:
    stored, suffix, expected, words = KINDS[kind]
    result = run(tmp_path, tree(tmp_path, stored, suffix))
    assert RunFolder.open(result.folder).reader().range == expected
    assert re.search(f"{words}.*data.range=LOW,HIGH", log_of(result))
    assert result.metrics["auroc"] == in_eight_bits.metrics["auroc"] == 1
    np.testing.assert_allclose(scores(result), scores(in_eight_bits), rtol=0.06 if "bits" in kind else 1e-5)


def test_the_whole_of_sixteen_bits_is_read_without_a_word(tmp_path: Path, in_eight_bits: RunResults) -> None:
    result = run(tmp_path, tree(tmp_path, lambda grey: png16(grey.astype(np.uint16) * 257)))
    assert RunFolder.open(result.folder).reader().range == (0, 65535)
    np.testing.assert_array_equal(scores(result), scores(in_eight_bits))


def test_options_override_what_would_be_found(tmp_path: Path) -> None:
    root = tree(tmp_path, lambda grey: png16(scaled(1023)(grey)))
    result = run(tmp_path, root, **{"data.bit_depth": 12})
    assert RunFolder.open(result.folder).reader().range == (0, 4095)
    result = run(tmp_path, root, **{"data.range": [300, 500]})
    assert re.search(r"12 images have values outside the range of 300 to 500.*fit with a wider data\.range", log_of(result))
    assert RunFolder.open(result.folder).reader().range == (300, 500)
    with pytest.raises(ConfigError, match=r"data\.range and data\.bit_depth=10"):
        run(tmp_path, root, **{"data.range": [0, 1023], "data.bit_depth": 10})
    with pytest.raises(ConfigError, match=r"5,5: the first value must be below"):
        run(tmp_path, root, **{"data.range": [5, 5]})


@pytest.mark.parametrize(("low", "high"), [(-3, 4), (0, 70_000)])
def test_a_range_that_nothing_says_is_asked_for(low: float, high: float, tmp_path: Path) -> None:
    root = tree(tmp_path, lambda grey: tiff((low + grey / 255 * (high - low)).astype(np.float32)), ".tif")
    with pytest.raises(DataError, match=r"hold values of .* Say it: data\.range=LOW,HIGH, such as data\.range="):
        run(tmp_path, root)
    result = run(tmp_path, root, **{"data.range": [low, high]})
    assert result.metrics["auroc"] == 1


def test_a_test_image_beyond_the_range_is_told_and_chooses_nothing(tmp_path: Path) -> None:
    root = tree(tmp_path, lambda grey: png16(scaled(1023)(grey)))
    path = root / "test" / "good" / "0.png"
    values = scaled(1023)(np.asarray(Image.open(path)) / 1023 * 255)
    values[3, 3] = 4000
    path.write_bytes(png16(values))
    result = run(tmp_path, root)
    assert re.search("1 image has values outside the range of 0 to 1023.*4000", log_of(result))
    assert RunFolder.open(result.folder).reader().range == (0, 1023)


def test_a_test_image_of_sixteen_bits_among_files_of_eight_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path)
    path = root / "test" / "good" / "0.png"
    path.write_bytes(png16(np.asarray(Image.open(path)).astype(np.uint16) * 257))
    with pytest.raises(DataError, match=r"0\.png.*more than 8 bits.*data\.range=LOW,HIGH"):
        run(tmp_path, root)
    result = run(tmp_path, root, **{"data.range": [0, 65535]})
    assert result.metrics["auroc"] == 1
    assert "1 image has another depth or colour than the 8-bit grey of the training images" in log_of(result)
