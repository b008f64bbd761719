"""The report as a file: what stands in it, what is escaped, what happens where parts are missing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import f1_score

from anomaly_core import Hooks, Measure, Registry, RunError, RunFolder
from anomaly_report.commands import report
from anomaly_report.finished import FinishedRun
from anomaly_report.page import relative_url, script_json
from anomaly_report.report import page_data, write_report
from anomaly_report.verdicts import Oracle

HOSTILE = "<img src=x onerror=alert(1)>.png"


class Page(HTMLParser):
    """The page's elements with their attributes, and its visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text("utf-8"))


def test_the_report_tells_what_the_run_found(make_run, tmp_path):
    measures = [Measure.of("image_auroc", 0.9), Measure.of("pixel_ap", None, "no image has a mask")]
    facts = {"warnings": ["the disk is slow"]}
    page = page_of(make_run(tmp_path, warning="3 images are few", measures=measures, manifest=facts))
    for words in "bolts|m6|patchcore|edge|0.9000|Image AUROC|3 images are few|the disk is slow|12.5 s".split("|"):
        assert words in page.text
    assert "Undefined: no image has a mask." in page.text
    assert "2026-11-24 04:13 UTC" in page.text
    assert "memory bank size" in page.text


def test_dropped_and_excluded_images_are_not_counted_as_fitted(make_run, tmp_path):
    facts = {"data": {"fit": 9, "held_out": 0}, "dropped": 2, "excluded": 1}
    text = page_of(make_run(tmp_path, manifest=facts)).text
    assert "7 fitted, 2 dropped as suspects" in text and "Left out by data.exclude1 image" in re.sub(r"\s*\n\s*", "", text)
    assert "data.exclude" not in page_of(make_run(tmp_path / "all")).text


def test_a_metric_is_shown_as_the_run_describes_it_whether_or_not_it_is_installed(make_run, tmp_path):
    missed = Measure("missed_defects", 4.0, title="Missed defects", meaning="How many were overlooked.", prominence="headline")
    chosen = Measure("best_f9", 0.25, title="Best F9", meaning="Of all thresholds.", prominence="headline", oracle=True)
    detail = Measure("detail", 0.125, title="A detail", meaning="Nobody asks.", level="pixel")
    measures = [detail, chosen, replace(missed, higher_is_better=False), Measure.of("image_auroc", 0.9)]
    page = page_of(make_run(tmp_path, measures=measures))
    tiles = re.findall(
        r"(Missed defects|Best F9 \(oracle\)|Image AUROC|A detail)(4\.000|0\.250|0\.900)(\w+) is better", page.text
    )
    assert tiles == [
        ("Best F9 (oracle)", "0.250", "higher"),
        ("Image AUROC", "0.900", "higher"),
        ("Missed defects", "4.000", "lower"),
    ]
    table = page.text[page.text.index("in plain words") :]
    order = [table.index(words) for words in ("Best F9 oracle", "Image AUROC", "Missed defects", "A detail")]
    assert order == sorted(order)
    for words in ("How many were overlooked.", "Of all thresholds.", "Nobody asks.", "0.1250"):
        assert words in table
    for title in ("Missed defects", "Best F9", "A detail"):
        assert page.text.count(title) == (1 if title == "A detail" else 2)


def test_each_category_and_the_mean_stand_in_a_table(make_run, row, tmp_path):
    rows = [row("good/0.png", 0, 1.0, category="left"), row("dent/0.png", 1, 9.0, category="right")]
    measures = [
        Measure.of("image_auroc", 0.75, categories={"left": 0.5, "right": 1.0}),
        Measure.of("image_f1_max", None, "one class alone", {"left": 0.25, "right": None}),
    ]
    text = page_of(make_run(tmp_path, rows=rows, measures=measures)).text
    table = " ".join(text[text.index("Each category") : text.index("An image is called anomalous when")].split())
    assert "Image AUROC" in table and "Image F1-max oracle" in table
    assert re.search(r"left\s*0\.5000\s*0\.2500\s*right\s*1\.0000\s*–\s*mean\s*0\.7500\s*–", table), table


def test_nothing_is_fetched_and_nothing_but_its_own_script_may_run(make_run, tmp_path):
    page = page_of(make_run(tmp_path))
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "srcset", "data"):
            assert not re.match(r"\s*(https?:|//|javascript:)", attributes.get(name, "")), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
    (policy,) = (a["content"] for tag, a in page.elements if tag == "meta" and a.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_hostile_name_stays_text(make_run, row, tmp_path):
    rows = [
        row(f"good/{HOSTILE}", 0, 1.0, category=HOSTILE, picture="maps/0.png"),
        row(f"{HOSTILE}</script><script>alert(2)</script>/1.png", 1, 9.0, category=HOSTILE),
    ]
    measures = [
        Measure.of("image_auroc", 0.75, categories={HOSTILE: 0.5, "b": 1.0}),
        Measure("m", None, HOSTILE, title=HOSTILE, meaning=HOSTILE, prominence="headline"),
        Measure("n", 1.0, title=HOSTILE, meaning=HOSTILE, prominence="headline"),
    ]
    facts = {"category": HOSTILE, "versions": {HOSTILE: HOSTILE}, "warnings": [HOSTILE]}
    folder = make_run(tmp_path, rows=rows, warning=HOSTILE, measures=measures, manifest=facts, dataset=f"'{HOSTILE}'")
    text = write_report(folder).read_text("utf-8")
    assert "<img src=x" not in text
    assert "alert(2)</script>" not in text
    assert HOSTILE in Page(text).text
    assert [a for tag, a in Page(text).elements if a.get("onerror")] == []


def test_script_json_holds_anything():
    value = {"a": "</script><!--<script>&\u2028\udcff", "b": [1.5, None]}
    text = script_json(value)
    assert not set("<>&\u2028") & set(text) and text.isascii()
    assert json.loads(text) == value


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("maps/a b.png", "maps/a%20b.png"),
        ("maps/100%#?.png", "maps/100%25%23%3F.png"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
        ("//host/x.png", "host/x.png"),
        ("maps/\udcff.png", "maps/%FF.png"),
        ("", ""),
    ],
)
def test_a_path_is_never_more_than_a_relative_link(path, expected):
    assert relative_url(path) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"pictures": False},
        {"threshold": None, "held_out": ()},
        {"rows": []},
        {"maps": False, "measures": [Measure.of("image_auroc", None), Measure.of("pixel_auroc", None)]},
        {"manifest": {"versions": {}, "data": {}, "started": 0, "fit_seconds": 0, "test_images_per_second": 0}},
    ],
    ids=lambda options: next(iter(options)),
)
def test_missing_parts_are_said_not_fatal(make_run, tmp_path, options):
    page = page_of(make_run(tmp_path, **options))
    assert "bolts" in page.text
    assert "None" not in re.sub(r"None\.", "", page.text.partition('"use strict"')[0])


def test_images_without_labels_or_scores(make_run, row, tmp_path):
    rows = [
        row("a.png", None, 1.0),
        row("b.png", None, 9.0),
        replace(row("c.png", None, float("nan")), is_anomalous=None, error="no finite score"),
    ]
    run = make_run(tmp_path, rows=rows)
    page = page_of(run)
    assert "1 of 3" in page.text and "no labels" in page.text
    data = page_data(FinishedRun.read(run))
    assert data["labels"] == [-1, -1, -1] and data["scores"] == [1.0, 9.0, None] and data["oracle"] is None
    assert data["names"] == ["a.png", "b.png", "c.png"]


def test_files_that_every_run_has_are_not_missed_silently(make_run, tmp_path):
    (make_run(tmp_path / "a") / "predictions.csv").unlink()
    with pytest.raises(RunError, match=r"predictions\.csv"):
        write_report(tmp_path / "a")
    (make_run(tmp_path / "b") / "predictions.csv").write_text("path,score\nx,abc\n")
    with pytest.raises(RunError, match=r"predictions\.csv"):
        write_report(tmp_path / "b")
    with pytest.raises(RunError, match="failed"):
        write_report(make_run(tmp_path / "c", manifest={"status": "failed"}))


def test_the_oracle_is_the_best_f1_of_the_test_set(make_run, tmp_path):
    run = FinishedRun.read(make_run(tmp_path))
    scores, labels = run.labelled()
    oracle = Oracle.of(run)
    best = max(f1_score(labels, scores > value) for value in [scores.min() - 1, *scores])
    assert oracle.f1 == pytest.approx(best)
    assert f1_score(labels, scores > oracle.threshold) == pytest.approx(best)
    assert not np.isin(oracle.threshold, scores)


def test_the_command_rebuilds_a_report(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    result = CliRunner().invoke(report, [str(run)])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(run / "report.html")
    assert (run / "report.html").stat().st_size > 20_000
    refused = CliRunner().invoke(report, [str(run), "--each"])
    assert refused.exit_code == 2 and "one run" in refused.output


def test_the_hook_writes_the_report_and_costs_no_run(make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("ANOMALY_PLUGINS", "anomaly-report")
    failures: list[str] = []
    hooks = Hooks(Registry(), failures.append)
    hooks.call("anomaly_run_end", run=RunFolder(make_run(tmp_path)), results=None)
    assert (tmp_path / "report.html").is_file() and not failures
    (tmp_path / "predictions.csv").unlink()
    hooks.call("anomaly_run_end", run=RunFolder(tmp_path), results=None)
    (text,) = failures
    assert "anomaly-report" in text and "The run goes on" in text
