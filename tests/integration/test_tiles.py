"""Large images by tiles: every method takes part unknowingly, and real pixel metrics judge the whole image."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import BaseDataModule, GradientModeler, ModelContext, RunConfig, registry, run_experiment, tiled
from woven import picture, tree

METHODS = sorted(registry.models)


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
    assert finished.metrics["image_auroc"] == 1
    assert finished.metrics["pixel_auroc"] > 0.95
    assert finished.metrics["aupro"] > 0.8
    assert "maps of one size" in metrics["metrics"]["aupimo"]["undefined"]
    assert metrics["resolution"] == {"evaluated_at": "native", "smallest": [50, 40], "largest": [150, 190]}
    for row in finished.predictions:
        with Image.open(finished.folder / row.picture) as panel, Image.open(row.path) as image:
            assert panel.width >= 4 * image.width


def test_predict_on_the_command_line(finished: Any, tmp_path: Path, anomaly: Callable[..., Any]) -> None:
    paths = [row.path for row in finished.predictions]
    done = anomaly("predict", finished.folder, *paths, "--maps", tmp_path)
    assert done.code == 0
    scores = [float(row["score"]) for row in csv.DictReader(done.out.splitlines())]
    np.testing.assert_allclose(scores, [row.score for row in finished.predictions], rtol=1e-5)
    assert len(list(tmp_path.glob("*.png"))) == 4


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore:draem")  # which says where its textures come from
@pytest.mark.filterwarnings("ignore:PaDiM saw")  # twelve tiles
@pytest.mark.filterwarnings("ignore:efficientad")  # which says whose teacher it has
def test_every_method_scores_tiles(name: str, root: Path, tmp_path: Path) -> None:
    settings = config(root, tmp_path, name)
    torch.manual_seed(0)
    modeler = registry.models[name].build(settings.model, ModelContext(categories=("weave",)))
    modeler.eval()
    if not isinstance(modeler, GradientModeler):
        data: BaseDataModule = registry.datasets["folder"].build(settings.data)
        with torch.inference_mode():
            for batch in data.loader(data.train_samples("weave")[:2], modeler.input_spec):
                modeler.collect(batch.images)
            modeler.build()
    whole = tiled(modeler, settings.data)
    image = torch.rand(1, 3, 90, 130)
    with torch.inference_mode():
        prediction = whole.predict_step(image)
    assert prediction.scores.shape == (1,)
    assert prediction.maps is None or prediction.maps.shape == (1, 1, 90, 130)
    for part in (prediction.scores, prediction.maps, prediction.reconstruction):
        assert part is None or bool(part.isfinite().all())
    assert prediction.reconstruction is None or prediction.reconstruction.shape == (1, 3, 90, 130)


LARGE = """
import sys
from anomaly_benchmark.memory import peak_megabytes
from anomaly_core import RunConfig, run_experiment
from anomaly_predict import load_run

model, root, output = sys.argv[1:]
more = {} if model in ("patchcore", "padim") else {"train.epochs": 1}
config = RunConfig.create(model=model, data="folder", preset="edge", overrides={
    "data.root": root, "data.tile": 512, "data.tile_overlap": 64, "data.holdout": 0.5, "base.output": output, **more})
result = run_experiment(config)
prediction = load_run(result.folder).predict(result.predictions[0].path)
assert prediction.maps.shape == (1, 1, 4096, 4096)
print(peak_megabytes())
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
    peak = float(done.stdout.splitlines()[-1]) / 1024
    print(f"{model}: peak {peak:.2f} GiB")
    assert peak < 3
