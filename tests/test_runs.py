"""A run from end to end on small generated images: what it writes, that it repeats, and what it says when it cannot go on."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import RunConfig, load_run, run_experiment
from anomaly_core.cli import main
from anomaly_core.errors import PluginError
from anomaly_core.judge import default_metrics
from anomaly_core.registry import registry
from anomaly_core.specs import MetricSpec

TINY = {"data.size": 96, "data.train_count": 8, "data.good_count": 3, "data.bad_count": 5}
SMALL = {**TINY, "model.image_size": 96, "model.coreset_ratio": 0.05}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("sample")


def config(root, tmp_path, **more):
    options = {
        **SMALL,
        "data.root": str(root),
        "data.category": ["fabric"],
        "base.output": str(tmp_path / "runs"),
        "base.pictures": 3,
    }
    return RunConfig.create(model="patchcore", data="sample", preset="edge", overrides={**options, **more})


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    return run_experiment(config(root, tmp_path_factory.mktemp("finished")))


def scores(result):
    return np.array([float(row["score"]) for row in result.predictions])


def test_a_run_leaves_everything_that_it_promises(finished):
    folder = finished.folder
    for name in (
        "config.yaml",
        "manifest.json",
        "model.safetensors",
        "calibration.json",
        "metrics.json",
        "predictions.csv",
        "log.txt",
    ):
        assert (folder / name).is_file(), name
    assert json.loads((folder / "manifest.json").read_text())["status"] == "complete"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["image_auroc"] == finished.metrics["image_auroc"] > 0.8
    assert metrics["pixel_auroc"] > 0.8
    assert metrics["resolution"] == [96, 96]
    with (folder / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(finished.predictions) == metrics["images"]
    pictures = sorted((folder / "maps").glob("*.png"))
    assert len(pictures) == 3
    with Image.open(pictures[0]) as panel:
        assert panel.width > 4 * 96
    assert not list(folder.glob(".*.part"))


def test_the_saved_config_gives_the_same_scores(finished):
    again = run_experiment(RunConfig.create(config=finished.folder / "config.yaml"))
    assert again.folder != finished.folder
    assert np.array_equal(scores(again), scores(finished))


@pytest.mark.parametrize(("option", "value"), [("data.batch_size", 3), ("data.num_workers", 1)])
def test_batches_and_workers_do_not_change_the_scores(root, tmp_path, finished, option, value):
    other = run_experiment(config(root, tmp_path, **{option: value}))
    assert np.allclose(scores(other), scores(finished), rtol=1e-4, atol=0)


def test_a_loaded_run_takes_every_form_of_image_and_agrees(finished):
    detector = load_run(finished.folder)
    row = finished.predictions[0]
    with Image.open(row["path"]) as opened:
        picture = opened.convert("RGB")
    array = np.array(picture)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    forms = [row["path"], picture, array, tensor, tensor.float() / 255]
    for form in forms:
        prediction = detector.predict(form)
        assert float(prediction.scores[0]) == pytest.approx(float(row["score"]), rel=1e-4)
        assert prediction.maps.shape == (1, 1, 96, 96)
    assert detector.predict(forms, batch_size=2).scores.shape == (5,)
    assert detector.predict(np.stack([array, array])).scores.shape == (2,)


def test_several_categories_and_unified(root, tmp_path):
    each = run_experiment(config(root, tmp_path, **{"data.category": ["fabric", "wood"]}))
    assert [run.category for run in each.runs] == ["fabric", "wood"]
    mean = sum(run.metrics["image_auroc"] for run in each.runs) / 2
    assert each.metrics["image_auroc"] == pytest.approx(mean)
    together = run_experiment(config(root, tmp_path, **{"data.category": ["fabric", "wood"], "data.unified": True}))
    assert len(together.runs) == 1
    assert set(together.runs[0].per_category) == {"fabric", "wood"}


@pytest.mark.parametrize("resize", ["stretch", "keep", "pad"])
def test_non_square_inputs(root, tmp_path, resize):
    options = {"model.image_size": (64, 96), "model.center_crop": (64, 80), "model.resize": resize}
    result = run_experiment(config(root, tmp_path, **options))
    assert json.loads((result.folder / "metrics.json").read_text())["resolution"] == [64, 80]


def test_no_held_out_image_means_no_threshold_and_says_so(root, tmp_path):
    result = run_experiment(config(root, tmp_path, **{"data.holdout": 0}))
    assert result.metrics["image_f1"] is None
    assert "data.holdout=0" in result.runs[0].undefined["image_f1"]
    assert result.metrics["image_auroc"] is not None


def cli(capfd, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return stop.value.code, *capfd.readouterr()


def test_predict_prints_scores_and_writes_maps(finished, tmp_path, capfd):
    image = finished.predictions[0]["path"]
    code, out, _ = cli(capfd, "predict", str(finished.folder), image, "--maps", str(tmp_path / "maps"))
    assert code == 0
    assert float(out.splitlines()[1].split(",")[-3]) == pytest.approx(float(finished.predictions[0]["score"]), rel=1e-4)
    (picture,) = (tmp_path / "maps").glob("*.png")
    with Image.open(picture) as panel:
        assert panel.width < 4 * 96  # image, map and overlay: nobody expects a mask of a new image
    code, out, _ = cli(capfd, "predict", str(finished.folder), image, "--jsonl")
    assert json.loads(out)["path"] == image


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (["run", "--model", "fastflow", "--data", "sample"], 2, "pip install anomaly-flow"),
        (
            ["run", "--model", "patchcore", "--data", "sample", "--set", "model.coreset_ratio=ten"],
            2,
            "model.coreset_ratio='ten'",
        ),
        (["run", "--model", "patchcore", "--data", "sample", "--no-such-flag"], 2, "--no-such-flag"),
        (["run", "--model", "patchcore", "--data", "sample", "--seed", "x"], 2, "base.seed='x'"),
        (["run", "--model", "patchcore", "--data", "visa", "--set", "data.root=/nowhere"], 1, "split_csv/1cls.csv"),
        (["run"], 2, "no model was chosen"),
        (["frobnicate"], 2, "frobnicate"),
        (["predict", "/nowhere", "/nowhere.png"], 1, "/nowhere"),
        (["show", "patchcoer"], 2, "patchcore"),
    ],
)
@pytest.mark.usefixtures("without_flow")
def test_errors_are_one_paragraph(capfd, arguments, expected, words):
    code, _, err = cli(capfd, *arguments)
    assert code == expected
    assert words in err
    assert "Traceback" not in err


def test_bad_data_is_one_paragraph(root, tmp_path, capfd):
    common = ["run", "--model", "patchcore", "--preset", "edge", "--output", str(tmp_path / "runs"), "--data"]
    tiny = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    code, _, err = cli(capfd, *common, "sample", *tiny, "--set", f"data.root={root}", "--category", "velvet")
    assert (code, "velvet" in err, "fabric" in err) == (2, True, True)
    (tmp_path / "empty").mkdir()
    code, _, err = cli(capfd, *common, "folder", "--set", f"data.normal={tmp_path / 'empty'}")
    assert (code, "holds no image" in err) == (1, True)
    good = tmp_path / "good"
    fabric = next(root.rglob("fabric/train/good"))
    shutil.copytree(fabric, good)
    (good / "broken.png").write_text("not a picture")
    code, _, err = cli(capfd, *common, "folder", "--set", f"data.normal={good}", "--set", "model.image_size=64")
    assert (code, "broken.png" in err, "Traceback" in err) == (1, True, False)
    failed = [json.loads(file.read_text())["status"] for file in (tmp_path / "runs").rglob("manifest.json")]
    assert failed == ["failed", "failed"]


@pytest.mark.usefixtures("without_flow")
def test_debug_shows_the_traceback(capfd):
    code, _, err = cli(capfd, "run", "--debug", "--model", "fastflow", "--data", "sample")
    assert (code, "Traceback" in err) == (2, True)


def test_help_and_show_need_no_torch():
    program = (
        "import sys; from anomaly_core.cli import main\ntry: main(sys.argv[1:])\nfinally: assert 'torch' not in sys.modules"
    )
    for arguments in (["--help"], ["show", "patchcore"], ["show", "elpv"], ["show", "base"], ["run", "--help"]):
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout) > 100


def test_the_public_api_is_flat_lazy_and_whole():
    import anomaly_core

    for name in anomaly_core.__all__:
        assert getattr(anomaly_core, name) is not None
    assert sorted(anomaly_core.__all__) == sorted(anomaly_core._HOME)


def test_a_broken_default_metric_costs_no_run(root, tmp_path):
    registry.add("broken", MetricSpec(target="no_such_module:Metric", default=True))
    try:
        with pytest.warns(UserWarning, match="no_such_module"):
            assert default_metrics().count("broken") == 0
        with pytest.raises(PluginError, match="no_such_module"):
            run_experiment(config(root, tmp_path, **{"base.metrics": ["broken"]}))
    finally:
        registry.remove("broken", "metric")
