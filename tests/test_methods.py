"""One test for every installed method: trained for a moment on generated images, it keeps the contract of a modeler."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import RunConfig, load_run, run_experiment
from anomaly_core.backbones import Backbones
from anomaly_core.base.modeler import GradientModeler
from anomaly_core.registry import registry
from anomaly_core.results import ExperimentResult

METHODS = sorted(registry.models)
SIDE = 96


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


@pytest.fixture(scope="module", params=METHODS)
def finished(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> ExperimentResult:
    return run_experiment(moment(request.param, root, tmp_path_factory.mktemp(request.param)))


def scores(result: ExperimentResult) -> np.ndarray:
    return np.array([float(row["score"]) for row in result.predictions])


def test_scores_and_maps_are_finite_and_of_the_right_shape(finished: ExperimentResult) -> None:
    detector = load_run(finished.folder)
    prediction = detector.predict([row["path"] for row in finished.predictions])
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


def test_saved_and_loaded_it_scores_as_it_was_evaluated(finished: ExperimentResult) -> None:
    again = load_run(finished.folder).predict([row["path"] for row in finished.predictions], batch_size=3)
    np.testing.assert_allclose(again.scores.numpy(), scores(finished), rtol=1e-4, atol=1e-6)


@pytest.mark.reliability
def test_the_same_config_gives_the_same_bytes(finished: ExperimentResult, tmp_path: Path, record: Callable[..., None]) -> None:
    """Once more, and by another number of processes that read images."""
    config = RunConfig.create(config=finished.folder / "config.yaml")
    assert config.data.num_workers is None  # which means none for so few images
    again = run_experiment(config.replace(**{"base.output": str(tmp_path), "data.num_workers": 2}))
    assert (again.folder / "predictions.csv").read_bytes() == (finished.folder / "predictions.csv").read_bytes()
    record("determinism", f"{config.model.name}: predictions.csv byte for byte, in this process and with two that read images")


def test_a_score_does_not_depend_on_the_other_images(finished: ExperimentResult) -> None:
    detector = load_run(finished.folder)
    paths = [row["path"] for row in finished.predictions]
    together = detector.predict(paths).scores
    alone = torch.cat([detector.predict(path).scores for path in paths])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_scoring_changes_no_state(finished: ExperimentResult) -> None:
    detector = load_run(finished.folder)
    before = {name: value.clone() for name, value in detector.modeler.state_dict().items()}
    detector.predict(finished.predictions[0]["path"])
    after = detector.modeler.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_what_it_tells_of_itself_stands_among_the_metrics(finished: ExperimentResult) -> None:
    metrics = json.loads((finished.folder / "metrics.json").read_text())
    config = RunConfig.create(config=finished.folder / "config.yaml")
    own = {name for name in metrics if not name.startswith(("image_", "pixel_", "aupro"))}
    expected = {
        "memory": set(),
        "gradient": {"train_loss", "val_loss", "kept_epoch"},
        "flow": {"val_nll", "val_bits_per_dim"},
        "classification": {"train_l2_loss", "train_ssim_loss", "train_focal_loss", "val_synthetic_pixel_f1"},
    }
    trainer = registry.models[config.model.name].spec.trainer
    assert expected.get(trainer, set()) <= own
    assert (finished.folder / "history.csv").read_text().count("\n") >= 2
    assert bool(metrics.get("psnr")) == (
        load_run(finished.folder).predict(finished.predictions[0]["path"]).reconstruction is not None
    )


@pytest.mark.parametrize("name", METHODS)
def test_an_obvious_defect_scores_higher(name: str, root: Path, tmp_path: Path) -> None:
    """After enough training to mean it, a black and white blot on a normal image is more anomalous than the image."""
    longer = {"train.epochs": 8} if "train.epochs" in _keys(name) else {}
    result = run_experiment(moment(name, root, tmp_path, **longer))
    detector = load_run(result.folder)
    normal = next(row["path"] for row in result.predictions if row["label"] == 0)
    with Image.open(normal) as opened:
        clean = np.array(opened.convert("RGB"))
    spoilt = clean.copy()
    spoilt[30:60, 30:60] = 255 * (np.indices((30, 30)).sum(axis=0) // 3 % 2)[..., None]
    good, bad = detector.predict([clean, spoilt]).scores.tolist()
    assert bad > good


def _keys(name: str) -> set[str]:
    trainer = registry.trainers[registry.models[name].spec.trainer]
    return {f"train.{key}" for key in trainer.config_class().__dataclass_fields__}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [(64, 96), (96, 72)])
@pytest.mark.filterwarnings("ignore:draem")  # which says where its textures come from
@pytest.mark.filterwarnings("ignore:PaDiM saw")  # four images
def test_images_need_not_be_square(name: str, size: tuple[int, int], root: Path, tmp_path: Path) -> None:
    config = moment(name, root, tmp_path, **{"model.image_size": size})
    torch.manual_seed(0)
    modeler = registry.models[name].build(config.model, backbones=Backbones())
    images = torch.rand(4, 3, *size)
    if isinstance(modeler, GradientModeler):
        modeler.eval()
    else:
        with torch.inference_mode():
            modeler.eval()
            modeler.collect(images)
            modeler.build()
    with torch.inference_mode():
        prediction = modeler.predict_step(images)
    assert prediction.maps is None or prediction.maps.shape == (4, 1, *size)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("preset", ["paper", "edge"])
def test_every_method_has_both_presets(name: str, preset: str) -> None:
    config = RunConfig.create(model=name, data="sample", preset=preset)
    assert config.base.preset == preset
    assert RunConfig.create(config=config.to_dict()) == config
