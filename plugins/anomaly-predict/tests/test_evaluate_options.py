"""An evaluation's options act or are refused: another rate moves its threshold, what belongs to fitting is an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import ConfigError, RunFolder, RunResults, run_experiment
from anomaly_predict import evaluate
from tiny.runs import config

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def finished(tiny: object, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return run_experiment(config(tmp_path_factory.mktemp("finished"), **{"data.train_count": 24, "data.holdout": 0.5}))


def test_another_rate_moves_the_threshold_of_the_evaluation_alone(finished: RunResults) -> None:
    own = RunFolder.open(finished.folder).calibration()
    before = (finished.folder / "calibration.json").read_bytes()
    result = evaluate(finished.folder, overrides={"base.false_alarm_rate": "0.25"})
    assert len(own.scores) == 12
    assert result.calibration.threshold == own.scores[9]  # ceil(13 * 0.75) = 10th of 12
    assert result.calibration.map_threshold == own.map_maxima[9]
    assert (result.calibration.map_low, result.calibration.scores) == (own.map_low, own.scores)
    assert result.calibration.source == f"{own.source}, at the rate that this evaluation asks for"
    assert [row.is_anomalous for row in result.predictions] == [row.score > own.scores[9] for row in result.predictions]
    written = RunFolder.open(result.folder)
    assert written.calibration() == result.calibration
    assert written.config().base.false_alarm_rate == 0.25
    assert (finished.folder / "calibration.json").read_bytes() == before


def test_a_rate_that_the_images_cannot_support_is_said(finished: RunResults) -> None:
    result = evaluate(finished.folder, overrides={"base.false_alarm_rate": 0.02})
    assert result.calibration.threshold == result.calibration.scores[-1]
    assert "cannot support a false-alarm rate of 0.02" in (result.folder / "log.txt").read_text()


def test_without_scores_a_rate_is_refused(tmp_path: Path) -> None:
    bare = run_experiment(config(tmp_path, **{"data.holdout": 0}))
    with pytest.raises(ConfigError, match=r"base.false_alarm_rate=0.2 needs the scores of normal images, and .* has none"):
        evaluate(bare.folder, overrides={"base.false_alarm_rate": 0.2})
    with pytest.raises(ConfigError, match=r"base.false_alarm_rate='2' is not valid"):
        evaluate(bare.folder, overrides={"base.false_alarm_rate": "2"})


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("base.seed", 3, "fit again: `anomaly run --config"),
        ("base.calibration", "cross", "fit again"),
        ("base.folds", 3, "fit again"),
        ("base.preset", "edge", "with its own preset"),
        ("base.output", "elsewhere", "--output"),
        ("base.device", "cpu", "--device"),
        ("data.name", "tree", "--data"),
        ("data.unified", True, "fit again"),
        ("data.holdout", 0.3, "fit again"),
        ("data.drop_suspects", True, "fit again"),
        ("data.image_cache", 0, "fit again"),
        ("data.augment", ["rotate:5"], "fit again"),
        ("data.augment_copies", 2, "fit again"),
        ("data.prompt", "a cloth", "fit again"),
        ("data.tile_overlap", 2, "it acts only with data.tile"),
        ("model.share", 0.5, "fit again"),
        ("train.name", "descent", "fit again"),
    ],
)
def test_what_an_evaluation_would_ignore_is_refused(finished: RunResults, option: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match="would be ignored") as raised:
        evaluate(finished.folder, overrides={option: value})
    assert option in str(raised.value) and words in str(raised.value)
    assert not any((finished.folder / "evaluations").rglob("*failed*"))


@pytest.mark.parametrize(
    "overrides",
    [
        {"base.metrics": ["alarms"]},
        {"base.pictures": 0},
        {"data.batch_size": 2},
        {"data.num_workers": 0},
        {"data.evaluate_at": "native"},
        {"data.tile": 16, "data.tile_overlap": 4},
        {"data.good_count": 1},
        {"data.category": ["wool"]},
    ],
    ids=lambda overrides: next(iter(overrides)),
)
def test_what_acts_stays(finished: RunResults, overrides: dict[str, Any]) -> None:
    evaluated = RunFolder.open(evaluate(finished.folder, overrides=overrides).folder).config().to_dict()
    for key, value in overrides.items():
        section, _, option = key.partition(".")
        assert evaluated[section][option] == value


def test_the_command_refuses_alike(finished: RunResults, anomaly: Callable[..., Any]) -> None:
    done = anomaly("evaluate", finished.folder, "--set", "data.holdout=0.3")
    assert done.code == 2 and "data.holdout=0.3 would be ignored" in done.err and "Traceback" not in done.err
    done = anomaly("evaluate", finished.folder, "--set", "base.false_alarm_rate=0.25")
    folder = Path(done.out.splitlines()[-1].removeprefix("linen: results in "))
    assert json.loads((folder / "calibration.json").read_text())["false_alarm_rate"] == 0.25
