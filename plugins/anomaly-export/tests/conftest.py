"""One small run of PatchCore, and a folder of images of several modes and sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_core import RunConfig, run_experiment
from anomaly_export import export_run

SIDE = 64
FORMATS = {"onnx": "model.onnx", "openvino": "model.xml", "torchscript": "model.pt"}


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good training images, and test images: grey and RGB, of other sizes, one turned by EXIF."""
    root = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)

    def texture(height: int, width: int) -> np.ndarray:
        coarse = draw.integers(90, 170, (height // 8, width // 8, 3), dtype=np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))

    for folder in ("good", "bad"):
        (root / folder).mkdir()
    for i in range(10):  # so many sizes, some of them grey, that no test image is unusual
        Image.fromarray(texture(80, 96 + 8 * i)).convert("L" if i % 2 else "RGB").save(root / "good" / f"{i}.png")
    spoilt = texture(80, 96).copy()
    spoilt[20:50, 30:60] = 255
    Image.fromarray(spoilt).save(root / "bad" / "blot.png")
    Image.fromarray(texture(120, 64)).convert("L").save(root / "bad" / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(texture(72, 104)).save(root / "bad" / "turned.jpg", exif=exif)
    return root


@pytest.fixture(scope="session")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    overrides = {
        "data.normal": str(images / "good"),
        "data.abnormal": str(images / "bad"),
        "data.holdout": 0.2,
        "model.image_size": SIDE + 16,
        "model.center_crop": SIDE,
        "model.resize": "keep",
        "model.coreset_ratio": 0.1,
        "base.output": str(tmp_path_factory.mktemp("runs")),
        "base.pictures": 0,
    }
    config = RunConfig.create(model="patchcore", data="folder", preset="edge", overrides=overrides)
    return run_experiment(config).runs[0].folder


@pytest.fixture(scope="session")
def finished_autoencoder(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of a method without a frozen network, which therefore has no engine."""
    overrides = {
        "data.normal": str(images / "good"),
        "data.abnormal": str(images / "bad"),
        "data.holdout": 0.2,
        "model.image_size": SIDE,
        "train.epochs": 1,
        "base.output": str(tmp_path_factory.mktemp("runs")),
        "base.pictures": 0,
    }
    config = RunConfig.create(model="vanilla_ae", data="folder", preset="edge", overrides=overrides)
    return run_experiment(config).runs[0].folder


@pytest.fixture(scope="session")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Format -> the run exported in it."""
    folder = tmp_path_factory.mktemp("exported")
    for name, file in FORMATS.items():
        report = export_run(run, name, folder / file)
        assert (report.images, report.source, report.flipped) == (5, "test images", 0)
        assert max(report.score_difference, report.map_difference) < 1e-4
    assert sorted(path.name for path in folder.iterdir()) == ["model.bin", "model.onnx", "model.pt", "model.xml"]
    return {name: folder / file for name, file in FORMATS.items()}
