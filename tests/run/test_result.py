"""What a run found, in memory and in its files: the same."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sealing import seal

from anomaly_core import Calibration, Measure, RunFolder, RunResult, RunResults, TestedImage, mean_values
from anomaly_core.run.result import Resolution

CALIBRATION = Calibration(0.5, 0.01, 3, "3 held-out normal images", scores=(0.125, 0.25, 0.5))
ROW = TestedImage("/data/a.png", "bolts", "dent", 1, 0.75, True, 0.25, "maps/a.png")


def result(folder: Path, **facts: object) -> RunResult:
    """Of a run that wrote it to its folder."""
    measures = {"auroc": Measure("auroc", 0.5), "aupro": Measure("aupro", None, "no mask", {"a": None, "b": 0.25}, oracle=True)}
    whole = replace(RunResult(folder, "bolts", measures, {"loss": 0.1 + 0.2}, [ROW], CALIBRATION, 3.0, 2.5), **facts)
    run = RunFolder(folder)
    run.write_json("calibration.json", whole.calibration.to_dict())
    run.write_result(whole, {})
    seal(folder, category="bolts", test_images_per_second=3.0, fit_seconds=2.5)
    return whole


@pytest.mark.parametrize(
    "resolution", [Resolution(), Resolution("input", (8, 9), (8, 9)), Resolution("native", (8, 9), (20, 30))]
)
def test_a_resolution_survives_json(resolution: Resolution, tmp_path: Path) -> None:
    whole = result(tmp_path, resolution=resolution)
    assert RunFolder.open(tmp_path).result() == whole
    words = {"": None, "9 × 8 pixels, the model's input": "input", "9 × 8 to 30 × 20 pixels, the images' own": "native"}
    assert str(resolution) in words


def test_without_a_threshold_nothing_is_decided(tmp_path: Path) -> None:
    row = TestedImage("a.png", "bolts", "", None, -1.5)
    whole = result(tmp_path, predictions=[row], calibration=Calibration(None, 0.01, 0, "none"))
    assert RunFolder.open(tmp_path).result() == whole
    assert (tmp_path / "predictions.csv").read_text().splitlines()[1] == "a.png,bolts,,,-1.5,,,"


text = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
floats = st.floats(allow_nan=False, allow_infinity=False)
rows = st.builds(
    TestedImage,
    path=text | st.sampled_from(["=1+1", "'=1", "a\nb", "a\rb", '"', ",", os.fsdecode(b"l\xe4tin.png")]),
    category=text,
    defect=text,
    label=st.sampled_from([None, 0, 1]),
    score=floats,
    is_anomalous=st.sampled_from([None, False, True]),
    p_value=st.none() | st.floats(0, 1),
    picture=text,
    regions=st.none()
    | st.lists(st.fixed_dictionaries({"box": st.lists(st.integers(0, 9), max_size=4), "peak": floats}), max_size=2),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first text takes seconds
@given(predictions=st.lists(rows, min_size=1, max_size=5))
def test_rows_of_any_text_and_number_come_back(
    predictions: list[TestedImage], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    run = RunFolder(folder)
    run.write_rows("predictions.csv", (row.to_row() for row in predictions))
    assert [TestedImage.from_row(row) for row in run.read_rows("predictions.csv")] == predictions


@pytest.mark.parametrize("column", ["path", "score", "label"])
def test_a_row_without_a_cell_or_with_a_wrong_one_is_an_error(column: str) -> None:
    cells = {name: str(value) for name, value in ROW.to_row().items()}
    assert TestedImage.from_row(cells) == ROW
    with pytest.raises(ValueError, match=column):
        TestedImage.from_row({name: cell for name, cell in cells.items() if name != column})
    if column != "path":
        with pytest.raises(ValueError, match=column):
            TestedImage.from_row({**cells, column: "much"})
    for wrong in ("much", "3", '[{"peak":NaN}]', '[{"peak":"3"}]', '[{"box":[-1]}]', "[[1]]", "[" * 9999):
        with pytest.raises(ValueError, match=r"valid|Invalid"):
            TestedImage.from_row({**cells, "regions": wrong})


def test_a_score_that_is_no_number_comes_back_as_that() -> None:
    row = TestedImage("/data/a.png", "bolts", "dent", 1, math.nan, error="no finite score")
    cells = {name: str(value) for name, value in row.to_row().items()}
    assert cells["score"] == cells["is_anomalous"] == cells["p_value"] == ""
    again = TestedImage.from_row(cells)
    assert math.isnan(again.score) and again.error == "no finite score" and again.is_anomalous is None
    for wrong in ({"error": ""}, {"is_anomalous": "0"}, {"score": "1.5"}):
        with pytest.raises(ValueError, match="score"):
            TestedImage.from_row({**cells, **wrong})
    for unusable in ("nan", "inf", "-inf", "1e999"):
        with pytest.raises(ValueError, match="score"):
            TestedImage.from_row({**{name: str(value) for name, value in ROW.to_row().items()}, "score": unusable})


def test_means_are_undefined_where_one_is() -> None:
    assert mean_values([{"a": 1.0, "b": None}, {"a": 2.0, "b": 3.0, "c": 1.0}]) == {"a": 1.5, "b": None, "c": None}
    assert mean_values([]) == {}


def test_several_runs_have_one_folder_and_one_mean(tmp_path: Path) -> None:
    first, second = (
        result(tmp_path / "d" / category / "m" / "run", category=category, measures={"auroc": Measure("auroc", value)})
        for category, value in (("a", 0.5), ("b", 1.0))
    )
    assert RunResults([first]).folder == first.folder
    both = RunResults([first, second])
    assert (both.folder, both.metrics) == (tmp_path / "d", {"auroc": 0.75})
    assert both.predictions == [ROW, ROW]
    assert first.undefined == {}


def test_a_measure_says_what_must_be_said_of_it() -> None:
    oracle = Measure("best", 1.0, oracle=True)
    assert (oracle.label, Measure("auroc", 1.0).label) == ("best (oracle)", "auroc")
    shown = sorted(
        [
            Measure("z", 1.0, prominence="headline"),
            Measure("p", 1.0, level="pixel", prominence="headline"),
            Measure("a", 1.0, prominence="table"),
            Measure("r", 1.0, level="reconstruction", prominence="headline"),
            Measure("b", 1.0, prominence="headline"),
        ],
        key=lambda measure: measure.rank,
    )
    assert [measure.name for measure in shown] == ["b", "z", "a", "p", "r"]
