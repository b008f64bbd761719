"""Paired bootstrap, spreads and rank tests against independent references."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from anomaly_core.benchmark import Cell
from anomaly_core.calibration import Calibration
from anomaly_core.compare import compare
from anomaly_core.errors import RunError
from anomaly_core.statistics import rank_test, spread
from anomaly_core.tables import Summary, rows, to_csv, to_latex, to_markdown


def run_folder(folder: Path, scores: np.ndarray, labels: np.ndarray, category: str = "c") -> Path:
    """A complete run's folder with these predictions."""
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"status": "complete", "category": category}))
    (folder / "metrics.json").write_text(json.dumps({"image_auroc": 0.5, "undefined": {}}))
    (folder / "calibration.json").write_text(json.dumps(Calibration(1.0, 0.01, 10, "here").to_dict()))
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "category", "defect", "label", "score", "is_anomalous", "picture"])
        for i, (score, label) in enumerate(zip(scores, labels, strict=True)):
            writer.writerow(
                [f"/{folder.name}/{i}.png", category, "bad" if label else "good", int(label), repr(float(score)), 0, ""]
            )
    return folder


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3 == 0
    hard = random.normal(size=120)
    good = hard + 2.0 * labels + random.normal(size=120) * 0.3
    return labels, good.round(1), (hard + 0.8 * labels + random.normal(size=120) * 0.3).round(1)


def test_aurocs_and_interval_agree_with_a_plain_bootstrap(tmp_path: Path, scored: tuple[np.ndarray, ...]) -> None:
    labels, good, poor = scored
    first, second = compare([run_folder(tmp_path / "a", poor, labels), run_folder(tmp_path / "b", good, labels)], draws=4000)
    assert first.auroc == pytest.approx(roc_auc_score(labels, poor))
    assert second.auroc == pytest.approx(roc_auc_score(labels, good))
    assert (first.difference, first.low, first.high) == (0, 0, 0)
    random, differences = np.random.default_rng(1), []
    anomalous, normal = np.flatnonzero(labels), np.flatnonzero(~labels)
    for _ in range(1000):
        drawn = np.concatenate([random.choice(anomalous, len(anomalous)), random.choice(normal, len(normal))])
        differences.append(roc_auc_score(labels[drawn], good[drawn]) - roc_auc_score(labels[drawn], poor[drawn]))
    low, high = np.percentile(differences, [2.5, 97.5])
    assert second.low == pytest.approx(low, abs=0.02)
    assert second.high == pytest.approx(high, abs=0.02)
    assert second.is_real


def test_a_run_against_itself_is_never_a_difference(tmp_path: Path, scored: tuple[np.ndarray, ...]) -> None:
    labels, good, _ = scored
    _, same = compare([run_folder(tmp_path / "a", good, labels), run_folder(tmp_path / "b", good * 3 + 1, labels)])
    assert (same.difference, same.low, same.high, same.is_real) == (0, 0, 0, False)


def test_runs_of_different_test_sets_are_refused(tmp_path: Path, scored: tuple[np.ndarray, ...]) -> None:
    labels, good, _ = scored
    with pytest.raises(RunError, match="share 0 labelled"):
        compare([run_folder(tmp_path / "a", good, labels, "x"), run_folder(tmp_path / "b", good, labels, "y")])


def test_bad_input_is_one_error_that_says_which(tmp_path: Path, scored: tuple[np.ndarray, ...]) -> None:
    labels, good, _ = scored
    whole = run_folder(tmp_path / "a", good, labels)
    other = run_folder(tmp_path / "b", good, labels)
    with pytest.raises(RunError, match=r"no manifest\.json"):
        compare([whole, tmp_path])
    with pytest.raises(RunError, match="normal and anomalous ones are needed"):
        ones = [run_folder(tmp_path / name, good, labels | True) for name in ("ones", "more")]
        compare(ones)
    predictions = other / "predictions.csv"
    text = predictions.read_text()
    predictions.write_text(text.replace(text.splitlines()[1].split(",")[4], "much", 1))
    with pytest.raises(RunError, match="no finite number"):
        compare([whole, other])
    predictions.write_text(text.replace("score", "scores", 1))
    with pytest.raises(RunError, match="no column score"):
        compare([whole, other])
    predictions.unlink()
    with pytest.raises(RunError, match=r"cannot read .*predictions\.csv"):
        compare([whole, other])


def test_images_of_one_name_in_two_folders_are_two_images(tmp_path: Path, scored: tuple[np.ndarray, ...]) -> None:
    labels, good, _ = scored
    folders = [run_folder(tmp_path / name, good, labels) for name in "ab"]
    for folder in folders:
        rows = (folder / "predictions.csv").read_text().splitlines()
        same = [row.replace(row.split(",")[0], f"/x/{number}/image.png") for number, row in enumerate(rows[1:])]
        (folder / "predictions.csv").write_text("\n".join([rows[0], *same]) + "\n")
    assert [row.images for row in compare(folders)] == [len(labels)] * 2


def test_spread_is_students_interval() -> None:
    values = [0.91, 0.95, 0.92, 0.97]
    found = spread(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert spread([0.9]).low is None


def test_friedman_and_nemenyi_find_the_one_that_differs() -> None:
    random = np.random.default_rng(0)
    base = random.uniform(0.7, 0.9, 12)
    values = {"best": base + 0.08, "middle": base + random.normal(0, 0.01, 12), "other": base + random.normal(0, 0.01, 12)}
    ranks = rank_test({name: list(v) for name, v in values.items()})
    assert ranks is not None
    assert ranks.p_value == pytest.approx(stats.friedmanchisquare(*values.values()).pvalue)
    assert ranks.mean_ranks["best"] == 1.0
    assert ranks.pairs["best", "middle"] < 0.05 < ranks.pairs["middle", "other"]
    # Demsar's table: the critical difference of 3 models on 12 data sets is 2.343 * sqrt(3 * 4 / (6 * 12))
    critical = 2.343 * (3 * 4 / (6 * 12)) ** 0.5
    for (a, b), p_value in ranks.pairs.items():
        assert (abs(ranks.mean_ranks[a] - ranks.mean_ranks[b]) > critical) == (p_value < 0.05)
    flipped = rank_test({name: list(v) for name, v in values.items()}, higher_is_better=False)
    assert flipped is not None
    assert flipped.mean_ranks["best"] == 3.0


def test_no_rank_test_where_none_can_tell() -> None:
    assert rank_test({"a": [0.9, 0.8]}) is None
    assert rank_test({"a": [0.9, 0.8], "b": [0.1, 0.2]}) is None
    alike = rank_test({"a": [0.9] * 6, "b": [0.9] * 6, "c": [0.9] * 6})
    assert alike is not None
    assert alike.p_value == 1.0


@pytest.fixture
def summary() -> Summary:
    def cell(model: str, category: str, seed: int, auroc: float | None, error: str = "") -> Cell:
        figures = (
            {} if error else {"image_auroc": auroc, "fit_seconds": 2.0, "images_per_second": 10.0, "peak_memory_mb": 100.0}
        )
        return Cell("toy", category, model, seed, {}, "", figures, error)

    values = {("a_1", "x"): (0.9, 0.8), ("a_1", "y"): (0.7, 0.6), ("b", "x"): (0.5, 0.7), ("b", "y"): (1.0, 1.0)}
    cells = [cell(m, c, seed, value) for (m, c), pair in values.items() for seed, value in enumerate(pair)]
    return Summary(
        [*cells, cell("a_1", "z", 0, 0.9), cell("a_1", "z", 1, 0.9), *(cell("b", "z", s, None, "no memory") for s in (0, 1))]
    )


def test_tables_say_what_an_oracle_is_and_at_which_resolution(summary: Summary) -> None:
    cells = [
        dataclasses.replace(
            cell,
            config={"base": {"metrics": ["image_f1_max", "lpips"]}},
            metrics={"image_f1_max": 0.9, "lpips": 0.1 if cell.model == "b" else 0.2},
            resolution="32 × 32 pixels, the images' own",
        )
        for cell in summary.cells
        if cell.category != "z"
    ]
    named = Summary(cells)
    assert named.metrics == ["image_f1_max", "lpips"]
    for text in (to_markdown(named), to_latex(named)):
        assert "image_f1_max (oracle)" in text
        assert "lpips (oracle)" not in text
        assert "An oracle's threshold is chosen on the test set itself" in text
        assert "Pixels judged at: 32 × 32 pixels, the images' own." in text
    more = Summary([*cells, *(dataclasses.replace(c, category=f"{c.category}{n}") for c in cells for n in range(2))])
    ranks = more.ranks("lpips")
    assert ranks is not None
    assert ranks.mean_ranks["b"] == 1.0  # of a distance, the lower is the better


def test_tables_average_over_what_every_model_has_done(summary: Summary) -> None:
    assert summary.shared_blocks("image_auroc") == [("toy", "x"), ("toy", "y")]
    header, body = rows(summary, "image_auroc")
    assert header == ["category", "a_1", "b"]
    assert body[0] == ["x", "0.8500", "0.6000"]
    assert body[2] == ["z", "0.9000", "-"]
    mean = summary.spread("a_1", "image_auroc")
    assert mean is not None
    assert (mean.mean, mean.std) == (pytest.approx(0.75), pytest.approx(np.std([0.8, 0.7], ddof=1)))
    assert "failed" in to_markdown(summary)
    assert "b on toy/z, seed 1: no memory" in to_markdown(summary)
    assert r"a\_1" in to_latex(summary)
    table = list(csv.DictReader(to_csv(summary).splitlines()))
    assert len(table) == 12
    assert table[-1]["error"] == "no memory"
