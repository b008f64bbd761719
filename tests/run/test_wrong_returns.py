"""Plugins that return what they must not: one error that names the plugin, or a warning where the run can go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rogues import manifest

from anomaly_core import PluginFailure, Prediction, RunFolder, Sample, run_experiment
from tiny.runs import config

pytestmark = [pytest.mark.usefixtures("tiny"), pytest.mark.reliability("fault")]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", None, torch.zeros(2), [1.0]])
def test_a_metric_that_is_no_number_has_no_value(value: Any, rogue: Any, tmp_path: Path) -> None:
    rogue["compute"] = lambda _: value
    (run,) = run_experiment(config(tmp_path)).runs
    assert run.metrics["rogue"] is None and "in anomaly-rogue 0.3" in run.undefined["rogue"] and run.metrics["auroc"] == 1
    assert RunFolder.open(run.folder).result().metrics["rogue"] is None


@pytest.mark.parametrize(
    "curves", [{"c": ([0.0], [float("nan")])}, {"c": 3}, {"c": ("ab", [0.0, 1.0])}, None, [("c", [0.0])]], ids=repr
)
def test_a_curve_that_is_none_costs_itself(curves: Any, rogue: Any, tmp_path: Path) -> None:
    rogue["curves"] = lambda _: curves
    (run,) = run_experiment(config(tmp_path)).runs
    assert run.metrics["rogue"] == 0.5 and "anomaly-rogue 0.3" in (run.folder / "log.txt").read_text()


PREDICTIONS: dict[str, Callable[[Prediction], Any]] = {
    "nothing": lambda right: None,
    "a tuple": lambda right: (right.scores, right.maps),
    "a column": lambda right: Prediction(right.scores[:, None], right.maps),
    "one score": lambda right: Prediction(right.scores[0], right.maps),
    "too many": lambda right: Prediction(torch.cat([right.scores, right.scores]), right.maps),
    "truth values": lambda right: Prediction(right.scores > 0, right.maps),
    "an array": lambda right: Prediction(right.scores.numpy(), right.maps),
    "a list": lambda right: Prediction(right.scores.tolist(), right.maps),
    "maps without a channel": lambda right: Prediction(right.scores, right.maps[:, 0]),  # type: ignore[index]
    "a map for all": lambda right: Prediction(right.scores, right.maps[:1].repeat(9, 1, 1, 1)),  # type: ignore[index]
    "a grey reconstruction": lambda right: Prediction(right.scores, right.maps, right.maps),
}


@pytest.mark.parametrize("tile", [None, 16])
@pytest.mark.parametrize("kind", PREDICTIONS)
def test_a_wrong_prediction_names_the_method(kind: str, tile: int | None, rogue: Any, tmp_path: Path) -> None:
    rogue["predict_step"] = PREDICTIONS[kind]
    with pytest.raises(PluginFailure, match=r"Model.predict_step returned a \w+ with \w+ of type .*, in anomaly-rogue 0.3"):
        run_experiment(config(tmp_path, model="rogue", **{"data.tile": tile}))
    assert manifest(tmp_path)["status"] == "failed"


@pytest.mark.parametrize("value", [None, [], {"loss": 1.0}])
def test_a_trainer_that_returns_no_history_is_named(value: Any, rogue: Any, tmp_path: Path) -> None:
    rogue["fit"] = lambda _: value
    with pytest.raises(PluginFailure, match=r"Trainer.fit returned \w+, not a History, in anomaly-rogue 0.3"):
        run_experiment(config(tmp_path, model="rogue"))


@pytest.mark.parametrize("figures", [{"radius": float("nan")}, {"radius": "wide"}, {"radius": None}])
def test_figures_that_are_no_numbers_are_left_out(figures: dict[str, Any], rogue: Any, tmp_path: Path) -> None:
    def fit(history: Any) -> Any:
        history.figures |= figures
        return history

    rogue["fit"] = fit
    (run,) = run_experiment(config(tmp_path, model="rogue")).runs
    assert "radius" not in run.figures and "'radius'" in (run.folder / "log.txt").read_text()


SAMPLES: dict[str, Callable[[list[Sample]], Any]] = {
    "nothing": lambda samples: None,
    "paths": lambda samples: [sample.path for sample in samples],
    "text": lambda samples: [Sample(str(sample.path), sample.label) for sample in samples],  # type: ignore[arg-type]
    "a number": lambda samples: 7,
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_wrong_samples_name_the_data_set(kind: str, rogue: Any, tmp_path: Path) -> None:
    rogue["test_samples"] = SAMPLES[kind]
    with pytest.raises(PluginFailure, match=r"the samples of Data are wrong: \w+Error: .*, in anomaly-rogue 0.3"):
        run_experiment(config(tmp_path, data="rogue", **{"data.root": str(tmp_path / "weave"), "data.category": ["linen"]}))
