"""Regions in what ``anomaly predict`` prints and writes, in predictions.csv, and of a detector from Python."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import (
    Batch,
    Calibration,
    DataConfig,
    ImageReader,
    InputSpec,
    Prediction,
    RunResults,
    Sample,
    TestedImage,
    run_experiment,
)
from anomaly_predict import RunDetector, load_run, verdicts
from anomaly_predict.listing import LISTED, Lister
from tiny.runs import config

pytestmark = [pytest.mark.usefixtures("tiny"), pytest.mark.filterwarnings("ignore:.*another size than")]


@pytest.fixture(scope="module")
def finished(tiny: object, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return run_experiment(config(tmp_path_factory.mktemp("finished")))


@pytest.fixture(scope="module")
def spotted(tmp_path_factory: pytest.TempPathFactory, finished: RunResults) -> Path:
    """A good image, three times as large, with a white spot."""
    with Image.open(finished.predictions[0].path) as image:
        pixels = np.array(image.convert("RGB").resize((96, 96)))
    pixels[30:60, 12:42] = 255
    path = tmp_path_factory.mktemp("spotted") / "spot.png"
    Image.fromarray(pixels).save(path)
    return path


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_lines_hold_the_regions_and_the_table_their_number(
    finished: RunResults, spotted: Path, anomaly: Callable[..., Any], tmp_path: Path
) -> None:
    (row,) = objects(anomaly("predict", finished.folder, spotted, "--jsonl", "--mm-per-px", 0.5).out)
    assert (row["width"], row["height"]) == (96, 96)
    first = row["regions"][0]
    left, top, right, bottom = first["box"]
    assert left <= 27 < right and top <= 45 < bottom and right - left < 66
    assert first["area_mm2"] == pytest.approx(first["area"] / 4, rel=1e-3)
    assert 0 < first["p_value"] <= 1 and first["peak"] > load_run(finished.folder).calibration.map_threshold
    assert len(first["polygon"]) >= 3 and left <= first["peak_at"][0] < right
    (cells,) = csv.DictReader(io.StringIO(anomaly("predict", finished.folder, spotted).out))
    assert cells["regions"] == str(len(row["regions"]))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    done = anomaly("predict", finished.folder, bad, spotted, "--jsonl", "--least-area", 90 * 96)
    assert [one["regions"] for one in objects(done.out)] == [None, []]


def test_several_processes_find_the_same(finished: RunResults, spotted: Path, anomaly: Callable[..., Any]) -> None:
    paths = [spotted, *(row.path for row in finished.predictions)]
    alone = anomaly("predict", finished.folder, *paths, "--jsonl", "--least-area", 2)
    shared = anomaly("predict", finished.folder, *paths, "--jsonl", "--least-area", 2, "--jobs", 2)
    assert (alone.code, shared.code) == (0, 0)
    assert objects(shared.out) == objects(alone.out) and any(row["regions"] for row in objects(alone.out))


def test_the_coco_file_is_one_that_tools_read(
    finished: RunResults, spotted: Path, anomaly: Callable[..., Any], tmp_path: Path
) -> None:
    bad, coco = tmp_path / "bad.png", tmp_path / "regions.json"
    bad.write_bytes(b"no image")
    good = finished.predictions[0].path
    done = anomaly("predict", finished.folder, bad, good, spotted, "--jsonl", "--coco", coco)
    assert done.code == 1
    _, _, row = objects(done.out)
    content = json.loads(coco.read_text())
    assert content["images"] == [
        {"id": 1, "file_name": good, "width": 32, "height": 32},
        {"id": 2, "file_name": str(spotted), "width": 96, "height": 96},
    ]
    assert [category["name"] for category in content["categories"]] == ["anomaly"]
    found = [one for one in content["annotations"] if one["image_id"] == 2]
    assert [one["id"] for one in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    for annotation, region in zip(found, row["regions"], strict=True):
        left, top, width, height = annotation["bbox"]
        assert [left, top, left + width, top + height] == region["box"]
        assert (annotation["area"], annotation["score"], annotation["iscrowd"]) == (region["area"], region["peak"], 0)
        (ring,) = annotation["segmentation"]
        assert len(ring) >= 6 and ring == [number for point in region["polygon"] for number in point]
        assert annotation["category_id"] == 1
    assert list(tmp_path.glob(".*")) == []
    done = anomaly("predict", finished.folder, good, "--coco", tmp_path / "missing" / "regions.json")
    assert done.code == 1 and "there is no folder" in done.err and not done.out


def test_python_has_them_with_the_verdict_and_for_a_prediction(finished: RunResults, spotted: Path) -> None:
    detector = load_run(finished.folder)
    (verdict,) = verdicts(detector, [spotted])
    assert verdict.size == (96, 96) and verdict.regions
    assert detector.regions(detector.predict(spotted), (96, 96)) == verdict.regions
    assert detector.regions(detector.predict(spotted), (96, 96), least_area=1e6) == ()
    without = RunDetector(
        detector.modeler, detector.config, replace(detector.calibration, map_threshold=None), torch.device("cpu")
    )
    (verdict,) = verdicts(without, [spotted])
    assert verdict.regions is None and verdict.to_dict()["regions"] is None


@pytest.mark.filterwarnings("ignore:.*has several pages")
def test_sizes_are_those_of_the_page_that_is_read(finished: RunResults, spotted: Path, tmp_path: Path) -> None:
    detector, pages = load_run(finished.folder), tmp_path / "pages.tif"
    with Image.open(spotted) as image:
        Image.new("RGB", (20, 10)).save(pages, save_all=True, append_images=[image])
    detector.reader = replace(detector.reader, page=2, largest_image=96 * 96)
    assert [verdict.size for verdict in verdicts(detector, [pages])] == [(96, 96)]
    detector.reader = replace(detector.reader, largest_image=90)
    (verdict,) = verdicts(detector, [pages])
    assert verdict.error and verdict.regions is None


def listed(path: Path, anomaly_map: torch.Tensor, **options: Any) -> TestedImage:
    """The row of an image, as the observer leaves it."""
    row = TestedImage(str(path), "m6", "", 1, 2.0)
    run = SimpleNamespace(folder=Path("run"), config=lambda: SimpleNamespace(data=DataConfig(**options)), reader=ImageReader)
    calibration = Calibration(1.0, 0.01, 3, "", 0.0, 1.0, None, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    batch = Batch(torch.zeros(1, 3, 8, 8), torch.ones(1), None, torch.zeros(1), [Sample(path)])
    observer = Lister()
    prediction = Prediction(torch.ones(1), anomaly_map[None])
    observer.anomaly_scored(run, batch, prediction, [row], calibration, InputSpec(tuple(anomaly_map.shape[1:])))  # type: ignore[arg-type]
    observer.anomaly_tested(run)  # type: ignore[arg-type]
    assert observer._known == {}
    return row


def test_a_run_lists_them_in_the_pixels_of_the_file(spotted: Path, tmp_path: Path) -> None:
    anomaly_map = torch.zeros(1, 8, 8)
    assert listed(spotted, anomaly_map).regions == []
    anomaly_map[0, 2:4, 1:3] = 1.8
    row = listed(spotted, anomaly_map, mm_per_px=0.1)
    (region,) = row.regions or ()
    assert region["box"] == [12, 24, 36, 48] or np.abs(np.subtract(region["box"], [12, 24, 36, 48])).max() <= 2
    assert region["map_box"] == [1, 2, 3, 4] and region["p_value"] == 0.25 and "polygon" not in region
    assert region["area_mm2"] == pytest.approx(region["area"] / 100)
    assert TestedImage.from_row({name: str(cell) for name, cell in row.to_row().items()}) == row
    assert listed(spotted, anomaly_map, least_area=1e4).regions == []
    with pytest.warns(UserWarning, match="not listed"):
        assert listed(tmp_path / "gone.png", anomaly_map).regions is None
    noise = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0)) * 1.2
    row = listed(spotted, noise)
    assert len(row.regions or ()) == LISTED and len(str(row.to_row()["regions"])) < csv.field_size_limit()
