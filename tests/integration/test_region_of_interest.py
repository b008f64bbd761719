"""``data.roi`` and ``data.ignore`` in whole runs: whatever lies outside changes no score, of no method and no export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from anomaly_core import AnomalyError, RunConfig, RunResult, as_images, registry, run_experiment, tiled
from anomaly_export import ExportedDetector, export_run
from anomaly_predict import evaluate, load_run

pytestmark = pytest.mark.usefixtures("without_report")
HEIGHT, WIDTH = 72, 90
REGION = {"data.roi": "10,8,80,8,80,60,45,66,10,60", "data.ignore": "30,20,40,30;60,8,70,12"}
QUICK = ("patchcore", "padim", "stfpm", "fastflow", "vanilla_ae")
METHODS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.soak) for name in sorted(registry.models)]


def inside() -> np.ndarray:
    """bool (H, W), by plain geometry: the pentagon without the two boxes."""
    y, x = np.indices((HEIGHT, WIDTH)) + 0.5
    keep = (x > 10) & (x < 80) & (y > 8) & (y < 66 - 6 / 35 * abs(x - 45))
    keep[20:30, 30:40] = keep[8:12, 60:70] = False
    return keep


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth textures: 14 good ones, and four with a brighter square that lies partly in an ignored box; noise outside."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name, count in (("masks", 0), ("noisy", 0), ("good", 14), ("bad", 4)):
        (root / name).mkdir()
        for number in range(count):
            coarse = rng.integers(90, 150, (9, 10, 3), dtype=np.uint8)
            pixels = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).copy()
            if name == "bad":
                mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
                mask[26:40, 36:50] = mask[:5] = 255
                pixels[mask > 0] += 20
                Image.fromarray(mask).save(root / "masks" / f"{number}.png")
            Image.fromarray(pixels).save(root / name / f"{number}.png")
            pixels[~inside()] = rng.integers(0, 255, ((~inside()).sum(), 3))
            Image.fromarray(pixels).save(root / "noisy" / f"{name}-{number}.png")
    return root


def run(folder: Path, output: Path, name: str = "patchcore", **options: Any) -> RunResult:
    places = {"data.normal": folder / "good", "data.abnormal": folder / "bad", "data.masks": folder / "masks"}
    base = {"base.output": str(output), "base.pictures": 1, "data.holdout": 0.2, "model.image_size": 64, "data.batch_size": 4}
    if hasattr(registry.trainers[registry.models[name].spec.trainer].config_class(), "epochs"):
        base["train.epochs"] = 1
    overrides = {**{key: str(path) for key, path in places.items()}, **base, **REGION, **options}
    return run_experiment(RunConfig.create(model=name, data="folder", preset="edge", overrides=overrides)).runs[0]


def pairs(folder: Path) -> tuple[list[Path], list[Path]]:
    """Images, and the same with noise outside of the region."""
    noisy = sorted((folder / "noisy").iterdir())
    return [folder / path.stem.split("-")[0] / f"{path.stem.split('-')[1]}.png" for path in noisy], noisy


@pytest.mark.parametrize("name", METHODS)
def test_pixels_outside_change_no_score(folder: Path, tmp_path: Path, name: str) -> None:
    detector = load_run(run(folder, tmp_path, name).folder)
    clean, noisy = (detector.predict(paths) for paths in pairs(folder))
    assert clean.scores.unique().numel() > 1
    assert clean.scores.equal(noisy.scores)
    assert clean.maps is None or (noisy.maps is not None and clean.maps.equal(noisy.maps))


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(folder, tmp_path_factory.mktemp("runs"))


def test_nor_those_of_an_exported_detector_and_of_arrays(finished: RunResult, folder: Path, tmp_path: Path) -> None:
    detector = ExportedDetector(export_run(finished.folder, "onnx", tmp_path / "model.onnx").path, threads=1)
    assert detector.reader == load_run(finished.folder).reader
    clean, noisy = pairs(folder)
    expected, maps = detector(clean)
    for images in (noisy, [Image.open(path) for path in noisy], [np.asarray(Image.open(path)) for path in noisy]):
        scores, others = detector(images)
        np.testing.assert_array_equal(scores, expected)
        np.testing.assert_array_equal(others, maps)
    np.testing.assert_allclose(expected, load_run(finished.folder).predict(noisy).scores, rtol=1e-4)


def test_nor_the_fit(finished: RunResult, folder: Path, tmp_path: Path) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    for clean, noisy in zip(*pairs(folder), strict=True):
        (tmp_path / clean.parent.name / clean.name).write_bytes(noisy.read_bytes())
    (tmp_path / "masks").symlink_to(folder / "masks")
    again = run(tmp_path, tmp_path / "runs")
    assert [row.score for row in again.predictions] == [row.score for row in finished.predictions]
    assert again.calibration == finished.calibration


@pytest.mark.parametrize("options", [{}, {"data.tile": 40}], ids=["whole", "tiles"])
def test_pixel_metrics_at_native_resolution_are_of_the_inside_alone(folder: Path, tmp_path: Path, options: Any) -> None:
    result = run(folder, tmp_path, **options, **{"data.evaluate_at": "native", "base.metrics": ["pixel_auroc"]})
    detector = load_run(result.folder)
    maps, masks = [], []
    for row in result.predictions:
        with torch.inference_mode():  # the map as it is: predict() gives it its least value outside
            anomaly_map = (
                tiled(detector.modeler, detector.config.data).predict_step(as_images(detector.decode(row.path)[None])).maps[0]
            )
        spec = detector.modeler.input_spec
        native = anomaly_map if options else spec.native_map(anomaly_map, 70, 58)
        mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
        if row.label:
            mask = np.asarray(Image.open(folder / "masks" / Path(row.path).name)) > 0
        maps.append(native[0].numpy()[inside()[8:66, 10:80]])
        masks.append(mask[inside()])
    expected = roc_auc_score(np.concatenate(masks), np.concatenate(maps))
    assert 0.5 < expected < 0.99, "a detector that is always right would not tell"
    assert result.measures["pixel_auroc"].value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("options", [{}, {"data.tile": 40}], ids=["whole", "tiles"])
def test_no_defect_is_found_outside(folder: Path, tmp_path: Path, options: Any) -> None:
    detector = load_run(run(folder, tmp_path, **options).folder)
    detector.calibration = replace(detector.calibration, map_threshold=detector.calibration.map_low)
    image = folder / "bad" / "1.png"
    prediction = detector.predict(image)
    regions = detector.regions(prediction, (HEIGHT, WIDTH))
    assert regions and prediction.maps is not None
    corner = prediction.maps[0, 0, -2:, :2]  # below the pentagon's lower left side
    assert bool((corner == prediction.maps.min()).all())
    for region in regions:
        left, top, right, bottom = region.box
        assert 10 <= left < right <= 80 and 8 <= top < bottom <= 66
        assert inside()[region.peak_at[1], region.peak_at[0]]
    assert 0 < sum(region.area for region in regions) <= 1.05 * inside().sum()


def test_an_evaluation_looks_at_the_same_part(finished: RunResult, folder: Path, tmp_path: Path) -> None:
    again = evaluate(finished.folder, output=tmp_path)
    assert [row.score for row in again.predictions] == [row.score for row in finished.predictions]
    assert {name: one.value for name, one in again.measures.items()} == {n: m.value for n, m in finished.measures.items()}
    with pytest.raises(AnomalyError, match=r"data\.roi is the run's own"):
        evaluate(finished.folder, output=tmp_path, overrides={"data.roi": "0,0,9,9"})
