"""``anomaly run``: from the command line to the table at the end, without a plugin."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import Calibration, Measure, RunFolder, RunResult, RunResults, TestedImage
from anomaly_core.cli.run import print_summary
from tiny.runs import arguments, config

pytestmark = pytest.mark.usefixtures("tiny")


def test_a_run_ends_with_a_table_and_says_where_it_is(anomaly: Callable[..., Any], tmp_path: Path) -> None:
    done = anomaly(*arguments(config(tmp_path)), "--seed", "3", "--metric", "auroc", "--metric", "best_accuracy")
    assert done.code == 0, done.err
    found, header, row, threshold, folder = done.out.splitlines()
    assert re.match(r"linen: found 4 of 4 defects, 2 false alarms in 3 good images, at a threshold for about 1 .* in 3", found)
    assert header.split() == ["category", "auroc", "best", "accuracy", "(oracle)", "threshold", "images/s"]
    assert row.split()[:3] == ["linen", "1.0000", "1.0000"]
    assert threshold.startswith("linen: threshold from 2 held-out normal images; false alarms: 1 % asked for")
    run = RunFolder.open(folder.removeprefix("linen: results in "))
    assert (run.config().base.seed, run.config().base.metrics) == (3, ["auroc", "best_accuracy"])
    assert done.err.startswith("warning: 2 held-out normal images cannot support")


def test_resume_goes_on_with_a_run_or_the_newest(anomaly: Callable[..., Any], tmp_path: Path) -> None:
    line = arguments(config(tmp_path))
    folder = anomaly(*line).out.splitlines()[-1].removeprefix("linen: results in ")
    for again in ([*line, "--resume"], ["run", "--resume", folder]):
        assert anomaly(*again).out.splitlines()[-1] == f"linen: results in {folder}"
    assert len(list((tmp_path / "runs").rglob("manifest.json"))) == 1
    assert anomaly(*line).code == 0
    assert len(list((tmp_path / "runs").rglob("manifest.json"))) == 2


def test_several_categories_end_with_their_mean(anomaly: Callable[..., Any], tmp_path: Path) -> None:
    line = [*arguments(config(tmp_path)), "--category", "all"]
    lines = anomaly(*line).out.splitlines()
    assert [row.split(" found")[0] for row in lines[:3]] == ["linen:", "wool:", "all:"]
    assert lines[2].endswith(" good images, each category at its own threshold")
    assert [row.split()[0] for row in lines[4:6]] == ["linen", "wool"]
    mean = [row.split()[1] for row in lines if row.split()[:1] == ["mean"]]
    assert mean == ["1.0000"]
    unified = anomaly(*line, "--unified").out.splitlines()
    assert [row.split(" found")[0] for row in unified[:3]] == ["linen:", "wool:", "unified:"]
    assert [row.split()[0] for row in unified[4:7]] == ["linen", "wool", "unified"]


def result(category: str, **facts: Any) -> RunResult:
    measures = {"auroc": Measure("auroc", 0.9, prominence="headline")}
    calibration = Calibration(1.0, 0.01, 3, "3 held-out normal images")
    rows = [TestedImage("a.png", category, "bad", 1, 2.0, True)]
    return replace(RunResult(Path("run"), category, measures, {}, rows, calibration, 1.0, 1.0), **facts)


HOSTILE = (
    "[/bold]",
    "[link=http://x]a[/link]",
    "a | b\nc",
    "<script>alert(1)</script>",
    r"\input{/etc/passwd}",
    "~^_%$#&{}",
    "=1+1",
)


@pytest.mark.reliability
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_in_the_table(name: str, capsys: pytest.CaptureFixture[str], record) -> None:
    measures = {"auroc": Measure("auroc", 0.9, categories={name: 0.9}, prominence="headline")}
    print_summary(RunResults([result(name, measures=measures)]))
    assert capsys.readouterr().out.count(name.split()[0][:12]) >= 2
    record("security", f"a category named {name!r} in the table on the screen", 1)


def test_what_is_undefined_and_at_which_resolution_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    from anomaly_core.run.result import Resolution

    measures = {
        "contrast": Measure("contrast", 0.25, level="pixel", prominence="table"),
        "aupro": Measure("aupro", None, "no mask marks a pixel", level="pixel", prominence="headline"),
        "pixel_ap": Measure("pixel_ap", None, "no mask marks a pixel", level="pixel"),
        "f1": Measure("f1", None, "there is no threshold"),
        "small": Measure("small", 0.5, prominence="detail"),
    }
    run = result("bolts", measures=measures, resolution=Resolution("native", (8, 9), (20, 30)))
    print_summary(RunResults([run, replace(run, category="nuts")]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split() == ["category", "contrast", "threshold", "images/s"]
    undefined = "aupro, pixel_ap are undefined: no mask marks a pixel; f1 is undefined: there is no threshold"
    assert [line for line in lines if "undefined" in line] == [f"bolts, nuts: {undefined}"]
    assert "bolts: pixels judged at 9 × 8 to 30 × 20 pixels, the images' own" in lines


def test_without_a_threshold_the_table_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    calibration = Calibration(None, 0.01, 0, "none: no held-out normal images (data.holdout=0)")
    print_summary(RunResults([result("bolts", calibration=calibration)]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[2] == "-"
    assert "bolts: threshold from none: no held-out normal images (data.holdout=0)" in lines


def test_help_needs_no_torch() -> None:
    program = (
        "import sys; from anomaly_core.cli import main\ntry: main(sys.argv[1:])\nfinally: assert 'torch' not in sys.modules"
    )
    for line in (["--help"], ["run", "--help"]):
        done = subprocess.run([sys.executable, "-c", program, *line], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout) > 100


def test_the_help_shows_a_command_that_cannot_be_imported_and_the_others(distributions, anomaly: Callable[..., Any]) -> None:
    from anomaly_core import registry

    info = distributions.install("anomaly-torn", points={"commands": {"torn": "no_such_module:TORN"}})
    (info / "METADATA").write_text((info / "METADATA").read_text() + "Summary: Tears \x1b[31mwhat is whole.\n")
    registry.refresh()
    out = anomaly("--help").out
    assert re.search(r"torn +Tears \\x1b\[31mwhat is whole\.", out)
    assert "Fit, calibrate and test a detector." in out
