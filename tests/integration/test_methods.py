"""One test for every installed method: it passes the conformance kit, and a run of it tells what it should."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anomaly_core import RunConfig, RunResults, registry, run_experiment
from anomaly_predict import load_run
from anomaly_testing import parametrize_with_checks

METHODS = sorted(registry.models)
SIDE = 64


# DRAEM needs more steps than a moment before it tells a defect; torch.export takes some seconds a method.
SLOW = {"exports": pytest.mark.soak}
SMALL = {"model.image_size": 64}
SLOW_DRAEM = {**SLOW, "higher_is_more_anomalous": pytest.mark.soak}


@parametrize_with_checks(*(("model", name) for name in METHODS if name != "draem"), marks=SLOW, overrides=SMALL)
def test_conformance(check: Callable[[], None]) -> None:
    check()


@parametrize_with_checks(("model", "draem"), marks=SLOW_DRAEM, overrides=SMALL)
def test_conformance_of_draem(check: Callable[[], None]) -> None:
    check()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sample")


def moment(name: str, root: Path, output: Path, **more: Any) -> RunConfig:
    """The `edge` preset on a few small images, for as little training as there is."""
    options: dict[str, Any] = {
        "data.size": SIDE,
        "data.train_count": 12,
        "data.good_count": 3,
        "data.bad_count": 5,
        "data.batch_size": 5,
        "data.root": str(root),
        "data.category": ["fabric"],
        "data.holdout": 0.2,
        "model.image_size": SIDE,
        "base.output": str(output),
        "base.pictures": 1,
    }
    trainer = registry.trainers[registry.models[name].spec.trainer]
    if hasattr(trainer.config_class(), "epochs"):
        options["train.epochs"] = 2
    return RunConfig.create(model=name, data="sample", preset="edge", overrides={**options, **more})


# Larger networks and close relatives, of which the conformance kit already fits each a dozen times.
LARGE = ("dinomaly", "efficientad", "unet_ae", "vanilla_vae")
RUN = [pytest.param(name, marks=pytest.mark.soak) if name in LARGE else name for name in METHODS]


@pytest.fixture(scope="module", params=RUN)
def finished(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return run_experiment(moment(request.param, root, tmp_path_factory.mktemp(request.param)))


def scores(result: RunResults) -> np.ndarray:
    return np.array([row.score for row in result.predictions])


def test_scores_and_maps_are_finite_and_of_the_right_shape(finished: RunResults) -> None:
    detector = load_run(finished.folder)
    prediction = detector.predict([row.path for row in finished.predictions])
    count = len(finished.predictions)
    assert prediction.scores.shape == (count,)
    assert prediction.scores.dtype == torch.float32
    assert bool(prediction.scores.isfinite().all())
    assert len(prediction.scores.unique()) > 1
    if prediction.maps is not None:
        assert prediction.maps.shape == (count, 1, *detector.modeler.input_spec.output_size)
        assert bool(prediction.maps.isfinite().all())
    if prediction.reconstruction is not None:
        assert prediction.reconstruction.shape == (count, 3, *detector.modeler.input_spec.output_size)
        assert 0 <= float(prediction.reconstruction.min()) <= float(prediction.reconstruction.max()) <= 1


def test_saved_and_loaded_it_scores_as_it_was_evaluated(finished: RunResults) -> None:
    again = load_run(finished.folder).predict([row.path for row in finished.predictions], batch_size=3)
    np.testing.assert_allclose(again.scores.numpy(), scores(finished), rtol=1e-4, atol=1e-6)


@pytest.mark.reliability
@pytest.mark.usefixtures("without_report")
def test_the_same_config_gives_the_same_bytes(finished: RunResults, tmp_path: Path, record: Callable[..., None]) -> None:
    """Once more, and by another number of processes that read images."""
    config = RunConfig.create(config=finished.folder / "config.yaml")
    assert config.data.num_workers is None  # which means none for so few images
    again = run_experiment(config.replace(**{"base.output": str(tmp_path), "data.num_workers": 2}))
    assert (again.folder / "predictions.csv").read_bytes() == (finished.folder / "predictions.csv").read_bytes()
    record("determinism", f"{config.model.name}: predictions.csv byte for byte, in this process and with two that read images")


@pytest.mark.reliability
def test_another_number_of_threads_scores_nearly_the_same(finished: RunResults, record: Callable[..., None]) -> None:
    """Sums are in another order; how far trainings part for it is measured in docs/guides/research.md."""
    manifest = json.loads((finished.folder / "manifest.json").read_text())
    threads = torch.get_num_threads()
    assert manifest["threads"] == threads
    paths = [row.path for row in finished.predictions[:3]]
    torch.set_num_threads(3 - min(threads, 2))  # 2 for 1, and 1 for more
    try:
        again = load_run(finished.folder).predict(paths)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(again.scores.numpy(), scores(finished)[:3], rtol=1e-3)
    record("determinism", f"{finished.folder.parent.name}: scored with another number of threads, to a thousandth")


# The figures that a fit leaves, and those that some methods name themselves.
GRADIENT = {"train_loss", "val_loss", "kept_epoch"}
OWN = {
    "fastflow": {"val_nll", "val_bits_per_dim"},
    "draem": {"train_l2_loss", "train_ssim_loss", "train_focal_loss", "val_synthetic_pixel_f1"},
}


def test_what_it_tells_of_itself_stands_beside_the_metrics(finished: RunResults) -> None:
    written = json.loads((finished.folder / "metrics.json").read_text())
    config = RunConfig.create(config=finished.folder / "config.yaml")
    trainer = registry.models[config.model.name].spec.trainer
    expected = (GRADIENT if trainer == "gradient" else set()) | OWN.get(config.model.name, set())
    assert expected <= set(written["figures"])
    assert not set(written["figures"]) & set(written["metrics"])
    assert (finished.folder / "history.csv").read_text().count("\n") >= 2
    assert bool(written["metrics"].get("psnr")) == (
        load_run(finished.folder).predict(finished.predictions[0].path).reconstruction is not None
    )


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("preset", ["paper", "edge"])
def test_every_method_has_both_presets(name: str, preset: str) -> None:
    config = RunConfig.create(model=name, data="sample", preset=preset)
    assert config.base.preset == preset
    assert RunConfig.create(config=config.to_dict()) == config
