"""Numbers that go wrong: losses that are not finite, images without contrast, fewer of them than a method would like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from anomaly_core import AnomalyError, BaseModeler, RunConfig, RunError, registry, run_experiment

pytestmark = [pytest.mark.usefixtures("unobserved"), pytest.mark.reliability("input")]

METHODS = sorted(registry.models)
NEED_SEVERAL = ("ensemble", "musc", "padim", "visual_words")  # a covariance, or images to compare with one another


def grey(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (value, value, value)).save(path)


def constant(root: Path, distinct: bool) -> Path:
    """Images of one colour each: all the same one, or shades of grey."""
    for index in range(5):
        grey(root / "train" / "good" / f"{index}.png", 100 + index * distinct)
    grey(root / "test" / "good" / "0.png", 100)
    grey(root / "test" / "white" / "0.png", 255)
    return root


def config(name: str, root: Path, output: Path, **more: Any) -> RunConfig:
    options: dict[str, Any] = {
        "data.root": str(root),
        "data.holdout": 0.4,
        "data.batch_size": 2,
        "model.image_size": 64,
        "base.output": str(output),
        "base.pictures": 0,
        "base.metrics": ["image_auroc"],
    }
    trainer = registry.trainers[registry.models[name].spec.trainer]
    if hasattr(trainer.config_class(), "epochs"):
        options["train.epochs"] = 1
    return RunConfig.create(model=name, data="folder", preset="edge", overrides={**options, **more})


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.soak) if n == "dinomaly" else n for n in METHODS])
def test_images_of_one_colour_give_finite_scores_or_one_clear_error(name: str, tmp_path: Path) -> None:
    """All of one colour: features without any variance, and no two that differ."""
    try:
        result = run_experiment(config(name, constant(tmp_path / "grey", False), tmp_path / "runs"))
    except AnomalyError as error:
        assert len(str(error)) > 40
        return
    scores = [row.score for row in result.predictions]
    assert np.isfinite(scores).all()
    assert "alike" in (result.folder / "log.txt").read_text()


@pytest.mark.parametrize("name", METHODS)
def test_a_single_training_image(name: str, tmp_path: Path) -> None:
    root = constant(tmp_path / "grey", True)
    for index in range(1, 5):
        (root / "train" / "good" / f"{index}.png").unlink()
    try:
        result = run_experiment(config(name, root, tmp_path / "runs", **{"data.holdout": 0.0}))
    except AnomalyError as error:
        assert "Add normal images" in str(error) or "Add images" in str(error)
        assert name in NEED_SEVERAL
        return
    assert np.isfinite([row.score for row in result.predictions]).all()


def test_padim_says_when_it_has_fewer_images_than_dimensions(tmp_path: Path) -> None:
    result = run_experiment(config("padim", constant(tmp_path / "grey", True), tmp_path / "runs"))
    assert "model.regularization" in (result.folder / "log.txt").read_text()


@pytest.mark.parametrize("ratio", [1.0, 0.999])
def test_a_coreset_as_large_as_the_set(ratio: float, tmp_path: Path) -> None:
    result = run_experiment(
        config("patchcore", constant(tmp_path / "grey", True), tmp_path / "runs", **{"model.coreset_ratio": ratio})
    )
    assert np.isfinite([row.score for row in result.predictions]).all()
    assert result.runs[0].figures["memory_bank_size"] > 0


def diverging(monkeypatch: pytest.MonkeyPatch, wrong: Any) -> None:
    """Vanilla autoencoder whose n-th training step is tampered with."""
    target = registry.models["vanilla_ae"].load()
    real, calls = target.training_step, [0]

    def step(self: BaseModeler, batch: Any) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = real(self, batch)
        if self.training:
            calls[0] += 1
        return wrong(self, calls[0], losses)  # type: ignore[no-any-return]

    monkeypatch.setattr(target, "training_step", step)


def nan_in_epoch_two(modeler: BaseModeler, call: int, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value * (float("nan") if call == 4 and modeler.training else 1) for name, value in losses.items()}


def test_a_loss_that_is_not_finite_keeps_the_last_good_epoch_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = constant(tmp_path / "grey", True)
    plain = config("vanilla_ae", root, tmp_path / "runs", **{"train.epochs": 2})
    with monkeypatch.context() as broken:
        diverging(broken, nan_in_epoch_two)
        with pytest.raises(RunError, match=r"epoch 2, batch 2 of 2: .*Epoch 1 and the best one are kept.*--resume"):
            run_experiment(plain)
    folder = next((tmp_path / "runs").glob("*/*/*/*/checkpoints")).parent
    content = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    assert content["epoch"] == 1
    assert all(value.isfinite().all() for value in content["modeler"].values())
    resumed = run_experiment(plain, resume=folder)
    straight = run_experiment(config("vanilla_ae", root, tmp_path / "again", **{"train.epochs": 2}))
    assert [row.score for row in resumed.predictions] == [row.score for row in straight.predictions]


def spoilt_weights(modeler: BaseModeler, call: int, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    if call == 2:
        with torch.no_grad():
            next(iter(modeler.parameters())).fill_(float("inf"))
        return {name: value * float("nan") for name, value in losses.items()}
    return losses


def held_out_only(modeler: BaseModeler, call: int, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return losses if modeler.training else {name: value * float("inf") for name, value in losses.items()}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (spoilt_weights, "epoch 1, batch 2 of 2: the weights .* no longer finite.*No epoch was complete"),
        (held_out_only, "held-out images is inf after epoch 1.*No epoch was complete"),
        (nan_in_epoch_two, "weights and images are finite"),
    ],
)
def test_the_likely_cause_is_said(wrong: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diverging(monkeypatch, wrong)
    with pytest.raises(RunError, match=said):
        run_experiment(config("vanilla_ae", constant(tmp_path / "grey", True), tmp_path / "runs", **{"train.epochs": 2}))
