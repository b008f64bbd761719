"""``anomaly threshold RUN``: the table, another threshold, what follows from it, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from anomaly_core import RunFolder, run_experiment
from anomaly_teach.threshold_table import expected_alarms, rows_of
from tiny.data import draw, write_image
from tiny.runs import config

pytestmark = pytest.mark.usefixtures("tiny")
EXTRA = {"data.train_count": 60, "data.good_count": 10, "data.bad_count": 8, "data.holdout": 0.5, "base.false_alarm_rate": 0.1}


@pytest.fixture(scope="session")
def companions() -> tuple[str, ...]:
    return ("anomaly-predict", "anomaly-teach")


@pytest.fixture(scope="module")
def finished(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_experiment(config(tmp_path_factory.mktemp("finished"), **EXTRA)).runs[0].folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Iterator[Path]:
    yield shutil.copytree(finished, tmp_path / "run")


def values(run: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / name).read_text())
    return content


def test_the_table_says_what_each_rate_costs(anomaly: Callable[..., Any], run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = anomaly("threshold", run)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == f"{run}: 30 normal images, held out of fitting"
    assert [line.split("%")[0].strip(" >") for line in lines[2:10]] == ["10", "5", "3.23", "2", "1", "0.5", "0.2", "0.1"]
    assert lines[2].startswith(" >") and " of " in lines[2]
    assert lines[5].endswith("needs 49 images") and "choose" not in lines[5]
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_alarms_are_those_of_the_order_statistic(run: Path) -> None:
    calibration = RunFolder.open(run).calibration()
    row = next(row for row in rows_of(calibration) if row.choice == "5 %")
    assert row.calibration is not None
    mean, low, high = expected_alarms(row.calibration) or (0, 0, 0)
    alarms = stats.betabinom(1000, 31 - 30, 30)  # above the 30th of 30
    assert (mean, low, high) == (pytest.approx(1000 / 31), *alarms.interval(0.95))


def test_a_rate_changes_all_that_rests_on_the_threshold(anomaly: Callable[..., Any], run: Path) -> None:
    old, metrics = RunFolder.open(run).calibration(), values(run, "metrics.json")["metrics"]
    done = anomaly("threshold", run, "--false-alarm-rate", "0.3")
    assert done.code == 0, done.err
    assert "on the test set: found " in done.out
    opened = RunFolder.open(run)
    new, result = opened.calibration(), opened.result()
    assert (new.threshold, new.map_threshold) == (new.scores[21], new.map_maxima[21])  # ceil(31 * 0.7) = 22
    assert (new.chosen_by, new.source, new.scores) == ("rate", old.source, old.scores)
    for row in result.predictions:
        assert row.is_anomalous == (row.score > (new.threshold or 0)) and row.regions is None
    normal = [row.score for row in result.predictions if row.label == 0]
    share = sum(score > (new.threshold or 0) for score in normal) / len(normal)
    assert result.metrics["alarms"] == pytest.approx(share) and share != metrics["alarms"]["value"]
    assert result.metrics["auroc"] == metrics["auroc"]["value"] and result.metrics["contrast"] == metrics["contrast"]["value"]
    assert values(run, "metrics.json")["threshold"]["value"] == new.threshold
    (former,) = values(run, "manifest.json")["former_thresholds"]
    assert (former["threshold"], former["false_alarm_rate"], former["chosen_by"]) == (old.threshold, 0.1, "rate")
    assert not opened.differing()


def test_a_value_says_about_how_many_alarms_it_gives(anomaly: Callable[..., Any], run: Path) -> None:
    scores = RunFolder.open(run).calibration().scores
    value = scores[20]
    above = sum(score > value for score in scores)
    done = anomaly("threshold", run, "--value", value)
    low, high = stats.binomtest(above, 30).proportion_ci(0.95)
    rate = (above + 1) / 32
    assert done.code == 0 and f"false alarms: about {100 * rate:.3g} %, {100 * low:.2g} to {100 * high:.2g} %" in done.out
    calibration = RunFolder.open(run).calibration()
    assert calibration.false_alarm_interval() == pytest.approx((low, high))
    assert (calibration.chosen_by, calibration.false_alarm_rate) == ("value", rate)
    assert calibration.map_threshold == calibration.map_maxima[30 - above - 1]
    again = anomaly("threshold", run, "--value", calibration.threshold)
    assert "already; nothing was changed" in again.out
    with pytest.warns(UserWarning, match="every image will be called anomalous"):
        anomaly("threshold", run, "--value", scores[0] - 1)
    assert "by hand" in anomaly("threshold", run).out


def test_other_normal_images_set_it(anomaly: Callable[..., Any], run: Path, tmp_path: Path) -> None:
    old = RunFolder.open(run).calibration()
    for number in range(20):
        write_image(tmp_path / "new" / f"{number}.png", draw(5000 + number)[0])
    done = anomaly("threshold", run, "--from", tmp_path / "new")
    assert done.code == 0, done.err
    assert "the new images score" in done.out and "learnt" not in done.err
    opened = RunFolder.open(run)
    new = opened.calibration()
    assert (new.count, new.false_alarm_rate, new.threshold) == (20, 0.1, new.scores[18])
    assert [image.score for image in sorted(opened.normals(), key=lambda one: one.score)] == list(new.scores)
    assert values(run, "calibration.1.json")["scores"] == list(old.scores)
    assert all(row.p_value == new.p_value(row.score) for row in opened.result().predictions)


def test_images_that_were_learnt_or_test_are_told(anomaly: Callable[..., Any], run: Path) -> None:
    config = RunFolder.open(run).config()
    root = Path(config.data.root or "") / "linen"
    odd = pytest.warns(UserWarning, match=r"the threshold is raised by images that stand out \(1 of 60\): '.*26\.png'")
    with odd, pytest.warns(UserWarning, match="30 of these images.*were learnt by the detector"):
        done = anomaly("threshold", run, "--from", root / "train")
    assert done.code == 0 and "test set any more" not in done.out
    done = anomaly("threshold", run, "--from", root / "test" / "good", "--false-alarm-rate", "0.5")
    tested = len(list((root / "test" / "good").iterdir()))
    assert f"{tested} images are not in the test set any more" in done.out
    assert {row.label for row in RunFolder.open(run).result().predictions} == {1}


def test_costs_take_anomalous_images_out_of_the_test(anomaly: Callable[..., Any], run: Path) -> None:
    before = RunFolder.open(run).result()
    bad = sum(row.label == 1 for row in before.predictions)
    done = anomaly("threshold", run, "--cost-miss", "100", "--defect-rate", "0.05")
    assert done.code == 0, done.err
    opened = RunFolder.open(run)
    after, used = opened.result(), values(run, "manifest.json")["threshold_images"]
    assert len(used) == round(bad / 2) and sum(row.label == 1 for row in after.predictions) == bad - len(used)
    assert not {row.path for row in after.predictions} & set(used)
    assert (run / "threshold_images.txt").read_text().split("\n")[:-1] == used
    assert after.calibration.chosen_by == "costs" and "100 for a miss" in after.calibration.source
    assert after.metrics["contrast"] is None and "data.exclude" in after.undefined["contrast"]
    assert anomaly("threshold", run, "--cost-miss", "1").code == 0
    assert values(run, "manifest.json")["threshold_images"] == used  # the same images choose again
    assert "leave --share out" in anomaly("threshold", run, "--cost-miss", "1", "--share", "0.5").err


def test_what_the_run_left_out_before_does_not_test_again(anomaly: Callable[..., Any], tmp_path: Path) -> None:
    first = run_experiment(config(tmp_path, **EXTRA)).runs[0]
    apart = next(row.path for row in first.predictions if row.label == 1)
    (tmp_path / "apart.txt").write_text(f"{apart}\n")
    run = run_experiment(config(tmp_path, **EXTRA, **{"data.exclude": str(tmp_path / "apart.txt")})).runs[0].folder
    assert anomaly("threshold", run, "--cost-miss", "100").code == 0
    used = values(run, "manifest.json")["threshold_images"]
    assert apart not in used
    assert (run / "threshold_images.txt").read_text().split("\n")[:-1] == [str(Path(apart).resolve()), *used]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--value", "1", "--false-alarm-rate", "0.1"], 2, "--value and --false-alarm-rate are two ways"),
        (["--false-alarm-rate", "5"], 2, "must lie between 0 and 1; for 5 % give 0.05"),
        (["--false-alarm-rate", "nan"], 2, "must lie between 0 and 1"),
        (["--value", "nan"], 2, "separates nothing"),
        (["--value", "1", "--tail"], 2, "--tail is for false-alarm rates"),
        (["--share", "0.5"], 2, "--share is for a choice by costs"),
        (["--cost-miss", "-1"], 2, "--cost-miss -1 is no cost"),
        (["--cost-miss", "1", "--share", "1"], 2, "--share 1 is no share"),
        (["--cost-miss", "1", "--share", "0.5", "--abnormal", "x"], 2, "two sources"),
        (["--value", "1", "--device", "cpu"], 2, "--device is for scoring"),
        (["--from", "/nowhere"], 1, "there is no folder '/nowhere'"),
        (["--false-alarm-rate", "0.001", "--tail"], 2, "needs 80 normal images, and there are 30"),
        (["--false-alarm-rate", "0.1", "--tail"], 2, "the scores themselves give"),
    ],
)
def test_bad_input_changes_nothing(
    anomaly: Callable[..., Any], finished: Path, arguments: list[str], code: int, words: str
) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    done = anomaly("threshold", finished, *arguments)
    assert (done.code, "Traceback" in done.err) == (code, False)
    assert words in " ".join(done.err.split())
    assert before == {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}


def test_a_run_without_scores_takes_a_value_alone(anomaly: Callable[..., Any], tiny: Any, tmp_path: Path) -> None:
    run = run_experiment(config(tmp_path, **{"data.holdout": 0.0})).runs[0].folder
    assert "give some images" in anomaly("threshold", run).err.lower()
    done = anomaly("threshold", run, "--value", "0.5")
    assert done.code == 0, done.err
    assert RunFolder.open(run).calibration().threshold == 0.5


def test_a_changed_run_is_refused_and_an_evaluation_is_not_changed(anomaly: Callable[..., Any], run: Path) -> None:
    evaluated = anomaly("evaluate", run).out.splitlines()[-1].partition("results in ")[2]
    assert "is an evaluation" in anomaly("threshold", evaluated, "--value", "1").err
    (run / "calibration.json").write_text((run / "calibration.json").read_text().replace('"count": 30', '"count":  30'))
    assert "is not what the run wrote" in anomaly("threshold", run, "--value", "1").err
    assert anomaly("threshold", run, "--value", "1", "--no-verify").code == 0
    assert anomaly("threshold", run).code == 0


def test_a_run_that_is_being_written_is_left_alone(
    anomaly: Callable[..., Any], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomaly_core.run.files.PATIENCE", 0.1)
    with RunFolder.open(run).locked():
        assert "another process is writing the run" in anomaly("threshold", run, "--value", "1").err
    monkeypatch.setattr("os.access", lambda _, mode, **__: mode != os.W_OK)
    assert "cannot write in" in anomaly("threshold", run, "--value", "1").err
