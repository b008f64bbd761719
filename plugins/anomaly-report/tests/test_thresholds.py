"""The threshold in words: what it found, what it rests on, and the thresholds before it."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace

import pytest

from anomaly_core import Calibration
from anomaly_report.finished import FinishedRun
from anomaly_report.report import write_report
from anomaly_report.thresholds import former, headline, promise, shell_path

SCALE = Calibration(5.0, 0.01, 3, "3 held-out normal images", scores=(2.0, 3.0, 5.0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "1 % was asked for; by 3 normal images, held out of fitting, the true rate lies between"),
        ({"scored_by": "leave_one_out"}, "by 3 normal images, each scored without itself, the true rate"),
        ({"scored_by": "folds"}, "by 3 normal images, each scored by a detector fitted on the others, the true rate"),
        ({"chosen_by": "tail", "interval": (0.0, 0.25)}, "extrapolated by a curve through the highest scores; by 3"),
        ({"chosen_by": "value", "interval": (0.01, 0.25)}, "about 1 % is expected; by 3"),
        ({"chosen_by": "costs", "interval": (0.01, 0.25)}, "the true rate lies between 1 and 25 % (95 % confidence)"),
    ],
)
def test_a_rate_is_promised_as_it_was_found(changes, words):
    assert words in promise(replace(SCALE, **changes))


def test_without_a_threshold_nothing_is_promised():
    assert promise(Calibration(None, 0.01, 0, "none")) == ""


@pytest.mark.parametrize(
    ("labels", "scores", "sentence"),
    [
        ([1, 1, 0], [9, 1, 9], "Found 1 of 2 defects, 1 false alarm in 1 good image."),
        ([0, 0], [1, 1], "0 false alarms in 2 good images."),
        ([1], [9], "Found 1 of 1 defect."),
        ([None, None], [9, 1], "Called 1 of 2 images anomalous."),
        ([1, None], [9, 1], "Found 1 of 1 defect, called 0 of 1 image without a label anomalous."),
        ([], [], "No image was tested."),
    ],
)
def test_what_was_found_is_one_sentence(make_run, row, tmp_path, labels, scores, sentence):
    rows = [row(f"{n}.png", label, float(score)) for n, (label, score) in enumerate(zip(labels, scores, strict=True))]
    assert headline(FinishedRun.read(make_run(tmp_path, rows=rows))) == sentence


@pytest.mark.skipif(os.name == "nt", reason="shlex splits as POSIX shells do")
def test_the_command_names_the_run_that_has_the_threshold(make_run, tmp_path):
    folder = make_run(tmp_path / "it's here; rm -rf $HOME")
    assert shlex.split(f"anomaly threshold {shell_path(FinishedRun.read(folder))}") == ["anomaly", "threshold", str(folder)]
    evaluation = make_run(tmp_path / "b", manifest={"evaluates": "/runs/the first"})
    assert shlex.split(shell_path(FinishedRun.read(evaluation))) == ["/runs/the first"]
    assert "evaluate it again after the change" in write_report(evaluation).read_text("utf-8")


def test_former_thresholds_are_listed_the_last_first(make_run, tmp_path):
    first = {"time": 1795493596.7, "threshold": 4.5, "false_alarm_rate": 0.01, "chosen_by": "rate", "source": "9 images"}
    second = {**first, "threshold": 6.5, "chosen_by": "value", "source": "a value <b>"}
    folder = make_run(tmp_path, manifest={"former_thresholds": [first, second]})
    rows = former(FinishedRun.read(folder))
    assert [(row["threshold"], row["rate"], row["chosen_by"]) for row in rows] == [
        (6.5, "1 %", "its value"),
        (4.5, "1 %", "a false-alarm rate"),
    ]
    text = write_report(folder).read_text("utf-8")
    assert "Former thresholds" in text and "2026-11-24 04:13 UTC" in text and "a value &lt;b&gt;" in text
    assert "were chosen and drawn at the threshold that the run had then" in text


@pytest.mark.parametrize("nonsense", [5, [5, None, {}], [{"threshold": "1"}], [{"threshold": True}], {"threshold": 1.0}])
def test_what_is_no_list_of_thresholds_is_left_out(make_run, tmp_path, nonsense):
    folder = make_run(tmp_path, manifest={"former_thresholds": nonsense})
    assert former(FinishedRun.read(folder)) == []
    assert "Former thresholds" not in write_report(folder).read_text("utf-8")


def test_facts_of_a_former_threshold_may_be_anything(make_run, tmp_path):
    entry = {"time": "yesterday", "threshold": 4.5, "false_alarm_rate": [1], "chosen_by": {}, "source": ["a"] * 9999}
    (row,) = former(FinishedRun.read(make_run(tmp_path, manifest={"former_thresholds": [entry]})))
    assert (row["until"], row["rate"], row["chosen_by"]) == (None, "", "") and len(row["source"]) <= 600
