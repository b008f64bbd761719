"""An option that is given and would be ignored is an error; at its usual value, or in a finished run's config, it is none."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from pydantic import Field

from anomaly_core import ConfigError, ModelConfig, Needs, RunConfig, UnusedOption, needs_of, validate

pytestmark = pytest.mark.usefixtures("tiny")


def make(**arguments: Any) -> RunConfig:
    return RunConfig.create(model="palette", data="weave", **arguments)


@pytest.mark.parametrize(
    ("option", "value", "lacking"),
    [
        ("data.tile_overlap", 3, "data.tile"),
        ("data.augment_copies", 2, "data.augment"),
        ("base.folds", 3, "base.calibration!=holdout"),
    ],
)
def test_an_option_that_is_given_in_vain_is_refused(option: str, value: Any, lacking: str) -> None:
    overrides = {option: value, "base.calibration": "holdout"}
    with pytest.raises(UnusedOption, match=f"{option}={value} would be ignored: it acts only with {lacking}") as raised:
        make(overrides=overrides)
    assert raised.value.option == option
    with pytest.raises(UnusedOption):
        make(flags=overrides)


def test_beside_what_it_needs_it_acts(tmp_path: Path) -> None:
    config = make(overrides={"data.tile": 32, "data.tile_overlap": 3})
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert make(config=tmp_path / "config.yaml") == config


def test_no_threshold_no_rate() -> None:
    with pytest.raises(UnusedOption, match=r"base.false_alarm_rate=0.2 would be ignored: it acts only with data.holdout!=0"):
        make(overrides={"base.false_alarm_rate": 0.2, "data.holdout": 0})
    make(overrides={"base.false_alarm_rate": 0.2})
    make(overrides={"base.false_alarm_rate": 0.2, "data.holdout": 0, "base.calibration": "cross"})


def test_the_usual_value_is_no_order() -> None:
    config = make()
    everything = {f"{section}.{key}": value for section, values in config.to_dict().items() for key, value in values.items()}
    assert make(overrides=everything) == config


def test_a_presets_value_is_usual(preset: Any, tmp_path: Path) -> None:
    preset("tiled", "data: {tile_overlap: 4}\n")
    (tmp_path / "config.yaml").write_text(make(preset="tiled").to_yaml())
    assert make(config=tmp_path / "config.yaml").data.tile_overlap == 4
    with pytest.raises(UnusedOption):
        make(preset="tiled", overrides={"data.tile_overlap": 5})


def test_a_file_is_judged_and_the_command_line_may_take_back_what_it_needs(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("data: {tile_overlap: 4}\n")
    with pytest.raises(UnusedOption, match=r"data.tile"):
        make(config=file)
    file.write_text("data: {tile: 32, tile_overlap: 4}\n")
    assert make(config=file).data.tile_overlap == 4
    assert make(config=file, overrides={"data.tile": None}).data.tile_overlap is None  # as if the file had neither
    with pytest.raises(UnusedOption):
        make(config=file, overrides={"data.tile": None, "data.tile_overlap": 5})


def test_a_finished_run_is_taken_as_it_is() -> None:
    saved = make().to_dict()
    saved["data"]["tile_overlap"] = 4  # of a version that did not refuse it
    assert RunConfig.create(config=saved).data.tile_overlap == 4


@pytest.mark.parametrize(
    ("others", "search", "copies", "lacking"),
    [
        ("model.search", "", 0, "model.search"),
        ("model.search", "ivf", 0, ""),
        ("model.search=ivf|hnsw", "hnsw", 0, ""),
        ("model.search=ivf|hnsw", "exact", 0, "model.search=ivf|hnsw"),
        ("model.search!=exact", "exact", 0, "model.search!=exact"),
        ("model.search=null", None, 0, ""),
        ("model.copies!=1", "", 1.0, "model.copies!=1"),
        ("model.copies=0.5", "", 0.5, ""),
        ("model.copies=true", "", True, ""),
        ("model.search or model.copies", "", 1, ""),
        ("model.search or model.copies and model.search", "", 1, "model.search"),
        ("train.absent", "", 1, "train.absent"),
        ("train.absent=null", "", 1, ""),
    ],
)
def test_the_terms(others: str, search: Any, copies: Any, lacking: str) -> None:
    config = SimpleNamespace(model=SimpleNamespace(search=search, copies=copies), train=SimpleNamespace())
    assert Needs(others).lacking(config) == lacking


@pytest.mark.parametrize("others", ["tile", "data.tile == 3", "data.tile, data.roi", "weave.tile", "data.tile and"])
def test_what_is_no_term_is_the_authors_error(others: str) -> None:
    with pytest.raises(ValueError, match=r"expected terms such as model.reweight"):
        Needs(others)


def test_what_an_option_needs_is_in_its_annotation() -> None:
    @dataclass(kw_only=True)
    class Own(ModelConfig):
        share: float = 1.0

    assert needs_of(Own) == {}
    assert str(Needs("data.tile", fitting=True)) == "only with data.tile; in fitting alone"
    assert needs_of(WithNeeds) == {"count": Needs("model.name")}
    assert validate(WithNeeds, {"count": "3"}, "model").count == 3
    with pytest.raises(ConfigError, match="greater than or equal to 2"):
        validate(WithNeeds, {"count": "1"}, "model")


@dataclass(kw_only=True)
class WithNeeds(ModelConfig):
    count: Annotated[int, Field(ge=2), Needs("model.name")] = 5


def test_the_error_crosses_processes() -> None:
    error = UnusedOption("data.tile_overlap=3 would be ignored.", "data.tile_overlap")
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (str(same), same.option) == (str(error), error.option)
