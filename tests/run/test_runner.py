"""A run from end to end: it repeats, and nothing but its config changes what it finds."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from anomaly_core import (
    DataError,
    ImageReader,
    MetricSpec,
    ModelContext,
    PluginError,
    RunConfig,
    RunFolder,
    RunResults,
    Terminated,
    registry,
    run_experiment,
)
from anomaly_core.run.evaluation import default_metrics
from tiny.methods import Palette
from tiny.runs import config, log_of, scores

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def finished(tiny: object, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return run_experiment(config(tmp_path_factory.mktemp("finished")))


def test_the_saved_config_gives_the_same_scores(finished: RunResults) -> None:
    again = run_experiment(RunConfig.create(config=finished.folder / "config.yaml"))
    assert again.folder != finished.folder
    assert np.array_equal(scores(again), scores(finished))
    names = ("predictions.csv", "model.safetensors", "calibration.json", "curves.json", "metrics.json")
    for name in names:
        assert (again.folder / name).read_bytes() == (finished.folder / name).read_bytes(), name


@pytest.mark.parametrize(("option", "value"), [("data.batch_size", 3), ("data.num_workers", 1)])
def test_batches_and_workers_do_not_change_the_scores(finished: RunResults, tmp_path: Path, option: str, value: int) -> None:
    other = run_experiment(config(tmp_path, **{option: value}))
    assert np.array_equal(scores(other), scores(finished))


@pytest.mark.parametrize("option", ["base.seed", "model.blur"])
def test_what_the_config_says_matters(finished: RunResults, tmp_path: Path, option: str) -> None:
    """What makes `the same` above mean something."""
    other = run_experiment(config(tmp_path, **{option: 1}))
    assert other.runs[0].calibration != finished.runs[0].calibration


def test_several_categories_and_unified(tmp_path: Path) -> None:
    both = {"data.category": ["linen", "wool"]}
    each = run_experiment(config(tmp_path, **both))
    assert [run.category for run in each.runs] == ["linen", "wool"]
    mean = sum(run.metrics["contrast"] for run in each.runs) / 2
    assert each.metrics["contrast"] == pytest.approx(mean)
    assert each.folder == tmp_path / "runs" / "weave"
    together = run_experiment(config(tmp_path, **both, **{"data.unified": True}))
    assert len(together.runs) == 1
    measure = together.runs[0].measures["contrast"]
    assert set(measure.categories) == {"linen", "wool"}
    assert measure.value == pytest.approx(sum(measure.categories.values()) / 2)
    assert json.loads((together.folder / "curves.json").read_text()).keys() == {"linen", "wool"}


@pytest.mark.parametrize("resize", ["stretch", "keep", "pad"])
def test_inputs_that_are_not_square(tmp_path: Path, resize: str) -> None:
    options = {"model.image_size": (24, 40), "model.center_crop": (20, 36), "model.resize": resize}
    result = run_experiment(config(tmp_path, **options))
    written = json.loads((result.folder / "metrics.json").read_text())
    assert written["resolution"] == {"evaluated_at": "input", "smallest": [20, 36], "largest": [20, 36]}


def test_no_held_out_image_means_no_threshold_and_says_so(tmp_path: Path) -> None:
    result = run_experiment(config(tmp_path, **{"data.holdout": 0}))
    assert result.metrics["alarms"] is None
    assert "data.holdout=0" in result.runs[0].undefined["alarms"]
    assert result.metrics["auroc"] is not None
    assert {(row.is_anomalous, row.p_value) for row in result.predictions} == {(None, None)}


def test_metrics_of_reconstructions_are_left_out_where_there_is_none(tmp_path: Path) -> None:
    assert "residue" not in run_experiment(config(tmp_path)).metrics
    mirror = run_experiment(config(tmp_path, model="mirror"))
    assert mirror.metrics["residue"] is not None
    assert mirror.runs[0].figures == {"train_loss": pytest.approx(mirror.runs[0].figures["train_loss"])}
    assert (mirror.folder / "history.csv").read_text().splitlines()[0] == "epoch,train_loss"


def test_a_broken_default_metric_costs_no_run(tmp_path: Path) -> None:
    registry.add("broken", MetricSpec(target="no_such_module:Metric", default=True))
    try:
        with pytest.warns(UserWarning, match="no_such_module"):
            assert default_metrics().count("broken") == 0
        assert "no_such_module" in log_of(run_experiment(config(tmp_path)))
        with pytest.raises(PluginError, match="no_such_module"):
            run_experiment(config(tmp_path, **{"base.metrics": ["broken"]}))
    finally:
        registry.remove("broken", "metric")


def test_a_method_knows_its_categories_and_the_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts: list[ModelContext] = []
    build = Palette.__init__

    def noted(self: Palette, settings: Any, context: ModelContext | None = None) -> None:
        contexts.append(context)
        build(self, settings, context)

    monkeypatch.setattr(Palette, "__init__", noted)
    options = {"data.category": ["linen", "wool"], "data.unified": True, "data.prompt": "a cloth"}
    run_experiment(config(tmp_path, **options))
    assert contexts == [ModelContext(True, ("linen", "wool"), "a cloth")]


def test_a_method_warms_up_while_its_images_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the images decoded first, they would wait for it in vain."""
    steps: list[str] = []
    examined, collect = ImageReader.examined, Palette.collect
    warm = threading.Event()

    def waiting(reader: ImageReader, path: Path, **options: Any) -> Any:
        assert warm.wait(timeout=60)
        steps.append("decoded")
        return examined(reader, path, **options)

    def warm_up(palette: Palette, device: torch.device) -> None:
        steps.append(f"warm on {device}")
        warm.set()

    def collected(palette: Palette, images: Tensor) -> None:
        steps.append("fitted")
        collect(palette, images)

    monkeypatch.setattr(ImageReader, "examined", waiting)
    monkeypatch.setattr(Palette, "warm_up", warm_up)
    monkeypatch.setattr(Palette, "collect", collected)
    run_experiment(config(tmp_path))
    assert steps[:2] == ["warm on cpu", "decoded"] and steps[-1] == "fitted"
    assert steps.count("warm on cpu") == 1


def test_a_method_that_needs_no_image_is_fitted_on_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(self: Palette) -> None:
        self.darkest, self.brightest = torch.zeros(1, 3), torch.ones(1, 3)

    monkeypatch.setattr(Palette, "fewest_images", 0)
    monkeypatch.setattr(Palette, "build", build)
    monkeypatch.setattr("tiny.data.Tree.train_samples", lambda self, category: [])
    result = run_experiment(config(tmp_path))
    assert RunFolder.open(result.folder).manifest()["data"]["fit"] == 0
    assert result.runs[0].calibration.threshold is None
    assert np.isfinite(scores(result)).all()


@pytest.mark.reliability
def test_a_reading_process_that_dies_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record) -> None:
    read = ImageReader.read

    def deadly(reader: ImageReader, path: Path, **options: bool) -> Any:
        if get_worker_info() is not None and path.name == "3.png":
            os.kill(os.getpid(), signal.SIGKILL)
        return read(reader, path, **options)

    monkeypatch.setattr(ImageReader, "read", deadly)
    with pytest.raises(DataError, match=r"a process that reads images died.*data\.num_workers.*--resume"):
        run_experiment(config(tmp_path, **{"data.num_workers": 1, "data.image_cache": 0}))
    assert statuses(tmp_path) == ["failed"]
    record("fault", "a process that reads images is killed")


@pytest.mark.reliability
def test_a_reading_process_hands_over_the_error_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bad(reader: ImageReader, path: Path, **options: bool) -> Any:
        raise DataError("cannot read the image 'x.png': it is no image. Remove it.")

    monkeypatch.setattr(ImageReader, "read", bad)
    with pytest.raises(DataError) as caught:
        run_experiment(config(tmp_path, **{"data.num_workers": 1, "data.image_cache": 0}))
    assert str(caught.value) == "cannot read the image 'x.png': it is no image. Remove it."


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Terminated(143)])
def test_a_run_that_is_stopped_is_interrupted_and_not_failed(
    stop: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self: Palette) -> None:
        raise stop

    monkeypatch.setattr(Palette, "build", stopped)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run_experiment(config(tmp_path))
    assert statuses(tmp_path) == ["interrupted"]


def test_the_first_error_is_the_one_that_is_raised_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from anomaly_core import RunError

    writes = iter(range(100))

    def full(path: Path, content: bytes, advice: str = "", within: Path | None = None) -> None:
        if next(writes) > 2:  # config.yaml and the first two of manifest.json had room
            raise RunError(f"cannot write {path.name}: No space left on device. Free some space.")
        path.write_bytes(content)

    monkeypatch.setattr("anomaly_core.run.folder.write_whole", full)
    with pytest.raises(RunError, match=r"cannot write history\.csv"):
        run_experiment(config(tmp_path))
    assert "does not tell that its run did not complete" in caplog.text


# catch_warnings is of the process: one thread's end gives the others the filters back, which make errors of warnings here.
@pytest.mark.filterwarnings("default")
def test_runs_in_threads_do_not_meet(tmp_path: Path, finished: RunResults) -> None:
    """As a grid runs them: each in its own thread of one process."""
    results: dict[int, RunResults] = {}

    def fit(number: int) -> None:
        results[number] = run_experiment(config(tmp_path / str(number)))

    threads = [threading.Thread(target=fit, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(scores(result), scores(finished)) for result in results.values()) and len(results) == 3


def statuses(output: Path) -> list[str]:
    return [json.loads(path.read_text())["status"] for path in sorted(output.rglob("manifest.json"))]
