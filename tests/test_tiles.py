"""Large images by tiles: the maps have no seams, a small image is one tile, and every method takes part unknowingly."""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from anomaly_core import RunConfig, load_run, run_experiment
from anomaly_core.backbones import Backbones
from anomaly_core.base.modeler import BaseModeler, GradientModeler
from anomaly_core.base.tiled import TileDataset, TiledModeler, scorer
from anomaly_core.cli import main
from anomaly_core.errors import ConfigError
from anomaly_core.evaluate import evaluate
from anomaly_core.inputs import InputSpec, image_size, read_image
from anomaly_core.options import DataConfig, ModelConfig
from anomaly_core.registry import registry
from anomaly_core.tiles import Canvas, Tiling, spans, windows
from anomaly_core.types import Prediction, Sample

METHODS = sorted(registry.models)


@given(length=st.integers(1, 3000), tile=st.integers(8, 700), share=st.floats(0, 0.5))
def test_tiles_cover_the_side_whole_and_inside(length: int, tile: int, share: float) -> None:
    overlap = int(tile * share)
    found = spans(length, tile, overlap)
    assert found[0][0] == 0
    assert found[-1][1] == length
    assert {end - start for start, end in found} == {min(tile, length)}
    for (_, before), (start, _) in itertools.pairwise(found):
        assert before - start >= overlap
    assert len(found) == len(set(found))


@given(length=st.integers(1, 900), tile=st.integers(8, 300), share=st.floats(0, 0.5))
@settings(deadline=None)
def test_weights_sum_to_one_everywhere(length: int, tile: int, share: float) -> None:
    overlap = int(tile * share)
    found = spans(length, tile, overlap)
    total = torch.zeros(length)
    for (start, end), weight in zip(found, windows(found, length, overlap), strict=True):
        assert bool((weight > 0).all())
        total[start:end] += weight
    torch.testing.assert_close(total, torch.ones(length))


def test_a_window_has_no_step() -> None:
    """Neighbouring weights differ by no more than the steepest part of a squared sine does."""
    found = spans(1000, 256, 64)
    for weight in windows(found, 1000, 64):
        assert float(weight.diff().abs().max()) < 1.6 * np.pi / (2 * 64)


def test_a_disagreement_of_two_tiles_becomes_a_slope_not_a_step() -> None:
    tiling = Tiling((64, 64), 16)
    canvas = Canvas(tiling, 64, 112)
    for value, box in enumerate(tiling.boxes(64, 112)):
        canvas.add(box, torch.full((1, 64, 64), float(value)))
    picture = canvas.picture()
    assert picture is not None
    steps = picture[0, 0, 0].diff()
    assert float(steps.min()) >= 0
    assert float(steps.max()) < 0.11
    assert picture[0, 0, 0, [0, -1]].tolist() == [0, 1]


class Brightness(BaseModeler):
    """The map is the image's own red, so that what tiles must say is known exactly."""

    def __init__(self, size: tuple[int, int], resize: str = "stretch") -> None:
        super().__init__(ModelConfig())
        self.input_spec = InputSpec(size, resize)  # type: ignore[arg-type]
        self.seen: list[tuple[int, ...]] = []

    def predict_step(self, images: Tensor) -> Prediction:
        self.seen.append(tuple(images.shape))
        maps = images[:, :1]
        return Prediction(maps.amax(dim=(1, 2, 3)), maps, images)


@pytest.mark.parametrize("overlap", [0, 8, 16])
@pytest.mark.parametrize("size", [(32, 32), (100, 77), (20, 90), (33, 9)])
def test_the_tiled_map_is_the_untiled_one(size: tuple[int, int], overlap: int) -> None:
    """With tiles as large as the input nothing is resized: blended, they give back every pixel."""
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, *size), dtype=np.uint8)).float() / 255
    tile = (min(32, size[0]), min(32, size[1]))
    prediction = TiledModeler(Brightness(tile), Tiling((32, 32), overlap), 4).predict_step(image)
    assert prediction.maps is not None
    assert prediction.reconstruction is not None
    torch.testing.assert_close(prediction.maps, image[:, :1], rtol=0, atol=1e-6)
    torch.testing.assert_close(prediction.reconstruction, image, rtol=0, atol=1e-6)
    assert float(prediction.scores[0]) == float(image[:, 0].max())


@pytest.mark.parametrize("resize", ["stretch", "keep", "pad"])
@pytest.mark.parametrize("size", [(128, 128), (96, 200)])
def test_a_smooth_map_comes_back_from_any_input_size(resize: str, size: tuple[int, int]) -> None:
    rows, columns = torch.meshgrid(torch.linspace(0, 3, size[0]), torch.linspace(0, 5, size[1]), indexing="ij")
    image = (0.5 + 0.4 * torch.sin(rows) * torch.cos(columns)).expand(1, 3, -1, -1)
    for wanted in ((48, 32), (80, 112)):
        maps = TiledModeler(Brightness(wanted, resize), Tiling((64, 48), 16), 5).predict_step(image).maps
        assert maps is not None
        assert maps.shape == (1, 1, *size)
        assert float((maps - image[:, :1]).abs().max()) < 0.03


def test_no_more_tiles_than_a_batch_go_through_the_network_at_once() -> None:
    modeler = Brightness((32, 32))
    TiledModeler(modeler, Tiling((32, 32), 8), 4).predict_step(torch.rand(1, 3, 100, 100))
    assert [shape[0] for shape in modeler.seen] == [4, 4, 4, 4]


@pytest.mark.parametrize("resize", ["keep", "pad"])
def test_a_whole_spec_loses_nothing_of_the_image(resize: str) -> None:
    cropping = InputSpec((64, 64), resize, center_crop=(48, 40))  # type: ignore[arg-type]
    assert cropping.whole == InputSpec((48, 40), "pad")
    assert cropping.whole.output_size == cropping.output_size


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tile": 64, "tile_overlap": 33}, "more than half"),
        ({"tile": (64, 16), "tile_overlap": 16}, "more than half"),
        ({"tile_overlap": 8}, "without data.tile"),
    ],
)
def test_tiles_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Tiling.from_config(DataConfig(**options))


def picture(path: Path, size: tuple[int, int], seed: int, *, mode: str = "RGB", defect: bool = False) -> Path:
    """A woven pattern of (height, width); a defect is a bright blot."""
    rows, columns = np.indices(size)
    grid = 110 + 40 * ((rows // 4 + columns // 4) % 2) + np.random.default_rng(seed).integers(0, 12, size)
    if defect:
        grid[size[0] // 2 : size[0] // 2 + 16, size[1] // 2 : size[1] // 2 + 16] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid.astype(np.uint8)).convert(mode).save(path)
    return path


def tree(root: Path) -> Path:
    """Images of several sizes, wide and high, grey and coloured, one smaller than a tile."""
    sizes = [(150, 200), (200, 150), (120, 120), (40, 180)]
    for index, size in enumerate(sizes):
        picture(root / "train" / "good" / f"{index}.png", size, index, mode="L" if index % 2 else "RGB")
    for index, size in enumerate([(150, 190), (50, 40)]):
        picture(root / "test" / "good" / f"{index}.png", size, 10 + index)
    for index, size in enumerate([(180, 150), (60, 150)]):
        picture(root / "test" / "blot" / f"{index}.png", size, 20 + index, defect=True)
        mask = np.zeros(size, dtype=np.uint8)
        mask[size[0] // 2 : size[0] // 2 + 16, size[1] // 2 : size[1] // 2 + 16] = 255
        (root / "ground_truth" / "blot").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / "ground_truth" / "blot" / f"{index}_mask.png")
    return root


def config(root: Path, output: Path, model: str = "patchcore", **more: Any) -> RunConfig:
    options = {
        "data.root": str(root),
        "data.tile": 64,
        "data.tile_overlap": 16,
        "data.holdout": 0.25,
        "data.batch_size": 5,
        "model.image_size": 64,
        "base.output": str(output),
    }
    return RunConfig.create(model=model, data="folder", preset="edge", overrides={**options, **more})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("tree") / "weave")


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    metrics = ["image_auroc", "pixel_auroc", "aupro", "aupimo"]
    return run_experiment(config(root, tmp_path_factory.mktemp("tiled"), **{"base.metrics": metrics}))


def test_a_run_on_images_of_different_sizes(finished: Any) -> None:
    metrics = json.loads((finished.folder / "metrics.json").read_text())
    assert metrics["image_auroc"] == 1
    assert metrics["pixel_auroc"] > 0.95
    assert metrics["aupro"] > 0.8
    assert "maps of one size" in metrics["undefined"]["aupimo"]
    assert metrics["resolution"] == [[50, 40], [150, 190]]
    assert metrics["evaluated_at"] == "native"
    for row in finished.predictions:
        with Image.open(finished.folder / row["picture"]) as panel, Image.open(row["path"]) as image:
            assert panel.width >= 4 * image.width


def test_evaluate_and_predict_do_as_the_run_did(finished: Any, root: Path) -> None:
    again = evaluate(finished.folder)
    assert [row["score"] for row in again.predictions] == [row["score"] for row in finished.predictions]
    detector = load_run(finished.folder)
    paths = [row["path"] for row in finished.predictions]
    prediction = detector.predict(paths)
    np.testing.assert_allclose(prediction.scores.numpy(), [float(row["score"]) for row in finished.predictions], rtol=1e-5)
    assert prediction.maps is not None
    assert prediction.maps.shape == (4, 1, 180, 190)
    height, width = image_size(paths[0])
    torch.testing.assert_close(prediction.maps[:1, :, :height, :width], detector.predict(paths[0]).maps)
    assert bool(prediction.maps[0, :, height:].isnan().all())
    array = np.asarray(read_image(paths[1]))
    assert float(detector.predict(array).scores[0]) == float(prediction.scores[1])


def test_the_score_of_an_image_is_that_of_its_worst_tile(finished: Any) -> None:
    detector = load_run(finished.folder)
    image = np.asarray(read_image(finished.predictions[0]["path"]))
    boxes = Tiling((64, 64), 16).boxes(*image.shape[:2])
    assert len(boxes) > 1
    alone = [float(detector.predict(image[b.top : b.bottom, b.left : b.right]).scores[0]) for b in boxes]
    assert float(detector.predict(image).scores[0]) == pytest.approx(max(alone), rel=1e-5)


def test_predict_on_the_command_line(finished: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    paths = [row["path"] for row in finished.predictions]
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(finished.folder), *paths, "--maps", str(tmp_path)])
    assert stop.value.code == 0
    found = [float(row["score"]) for row in csv.DictReader(capfd.readouterr().out.splitlines())]
    np.testing.assert_allclose(found, [float(row["score"]) for row in finished.predictions], rtol=1e-5)
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_an_image_of_one_tile_scores_as_it_does_untiled(root: Path, tmp_path: Path) -> None:
    large = {"data.tile": 512, "data.tile_overlap": 64}
    one = run_experiment(config(root, tmp_path / "one", **large))
    whole = run_experiment(config(root, tmp_path / "whole", **{"data.tile": None, "data.tile_overlap": None}))
    np.testing.assert_allclose(
        [float(row["score"]) for row in one.predictions], [float(row["score"]) for row in whole.predictions], rtol=1e-5
    )
    assert one.runs[0].calibration.threshold == pytest.approx(whole.runs[0].calibration.threshold, rel=1e-5)


def test_unified_categories_not_square_and_cropped(root: Path, tmp_path: Path) -> None:
    for name in ("weave", "other"):
        tree(tmp_path / "set" / name)
    more = {
        "data.unified": True,
        "data.tile": (48, 72),
        "data.tile_overlap": None,
        "model.image_size": (72, 96),
        "model.center_crop": (64, 80),
        "model.resize": "keep",
    }
    result = run_experiment(config(tmp_path / "set", tmp_path / "runs", **more))
    assert set(result.runs[0].per_category) == {"weave", "other"}
    assert result.metrics["image_auroc"] == 1
    assert "never be seen" in (result.folder / "log.txt").read_text()


def samples(root: Path) -> list[Sample]:
    return [Sample(path, 0) for path in sorted((root / "train" / "good").iterdir())]


def test_an_image_is_decoded_once_for_all_its_tiles(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Path] = []

    def counted(path: Path) -> Image.Image:
        decoded.append(path)
        return read_image(path)

    monkeypatch.setattr("anomaly_core.base.tiled.read_image", counted)
    dataset = TileDataset(samples(root), InputSpec((32, 32)), Tiling((64, 64), 16))
    assert len(dataset) > 4 * len(dataset.samples)
    for index in range(len(dataset)):
        dataset[index]
    assert len(decoded) == len(dataset.samples)

    decoded.clear()
    kept = TileDataset(samples(root), InputSpec((32, 32)), Tiling((64, 64), 16)).keeping(10**9)
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = {index: kept[index].images for index in order}
    assert len(decoded) == len(kept.samples)
    for index in order:
        assert torch.equal(kept[index].images, shuffled[index])
    assert len(decoded) == len(kept.samples)
    assert all(torch.equal(shuffled[index], dataset[index].images) for index in order)


def test_a_budget_that_is_too_small_is_said(root: Path, tmp_path: Path) -> None:
    more = {"data.image_cache": "100KB", "train.epochs": 1}
    result = run_experiment(config(root, tmp_path, "vanilla_ae", **more))
    assert "Raise data.image_cache" in (result.folder / "log.txt").read_text()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore:draem")  # which says where its textures come from
@pytest.mark.filterwarnings("ignore:PaDiM saw")  # twelve tiles
def test_every_method_scores_tiles(name: str, root: Path, tmp_path: Path) -> None:
    settings = config(root, tmp_path, name)
    torch.manual_seed(0)
    modeler = registry.models[name].build(settings.model, backbones=Backbones())
    modeler.eval()
    if not isinstance(modeler, GradientModeler):
        dataset = TileDataset(samples(root), modeler.input_spec, Tiling((64, 64), 16))
        with torch.inference_mode():
            modeler.collect(torch.cat([dataset[i].images for i in range(12)]))
            modeler.build()
    whole = scorer(modeler, settings.data)
    image = torch.rand(1, 3, 90, 130)
    with torch.inference_mode():
        prediction = whole.predict_step(image)
    assert prediction.scores.shape == (1,)
    assert prediction.maps is None or prediction.maps.shape == (1, 1, 90, 130)
    for part in (prediction.scores, prediction.maps, prediction.reconstruction):
        assert part is None or bool(part.isfinite().all())
    assert prediction.reconstruction is None or prediction.reconstruction.shape == (1, 3, 90, 130)


LARGE = """
import resource, sys
from anomaly_core import RunConfig, load_run, run_experiment

model, root, output = sys.argv[1:]
more = {} if model in ("patchcore", "padim") else {"train.epochs": 1}
config = RunConfig.create(model=model, data="folder", preset="edge", overrides={
    "data.root": root, "data.tile": 512, "data.tile_overlap": 64, "data.holdout": 0.5, "base.output": output, **more})
result = run_experiment(config)
prediction = load_run(result.folder).predict(result.predictions[0]["path"])
assert prediction.maps.shape == (1, 1, 4096, 4096)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.soak
@pytest.mark.parametrize("model", ["patchcore", "stfpm", "fastflow", "unet_ae"])
def test_an_image_of_4096_pixels_a_side_takes_less_than_3_gib(model: str, tmp_path: Path) -> None:
    for index in range(2):
        picture(tmp_path / "large" / "train" / "good" / f"{index}.png", (4096, 4096), index)
    picture(tmp_path / "large" / "test" / "good" / "0.png", (4096, 4096), 3)
    picture(tmp_path / "large" / "test" / "blot" / "0.png", (4096, 4096), 4, defect=True)
    mask = np.zeros((4096, 4096), dtype=np.uint8)
    mask[2048:2064, 2048:2064] = 255
    (tmp_path / "large" / "ground_truth" / "blot").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "large" / "ground_truth" / "blot" / "0_mask.png")
    done = subprocess.run(
        [sys.executable, "-c", LARGE, model, str(tmp_path / "large"), str(tmp_path / "runs")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.splitlines()[-1]) * (1 if sys.platform == "darwin" else 1024)
    print(f"{model}: peak {peak / 2**30:.2f} GiB")
    assert peak < 3 * 2**30
