"""Comparing finished runs: the paired bootstrap against a plain one, which images are shared, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sealing import seal
from sklearn.metrics import roc_auc_score

from anomaly_benchmark import compare
from anomaly_core import Calibration, RunError, RunFolder, RunResult, TestedImage


def run_folder(folder: Path, scores: np.ndarray, labels: np.ndarray, category: str = "c") -> Path:
    """A complete run's folder with these predictions."""
    folder.mkdir(parents=True)
    rows = [
        TestedImage(f"/{folder.name}/{i}.png", category, "bad" if label else "good", int(label), float(score))
        for i, (score, label) in enumerate(zip(scores, labels, strict=True))
    ]
    calibration = Calibration(1.0, 0.01, 0, "here")
    run = RunFolder(folder)
    run.write_result(RunResult(folder, category, {}, {}, rows, calibration, 1.0, 1.0), {})
    run.write_json("calibration.json", calibration.to_dict())
    seal(run.folder, category=category, test_images_per_second=1.0)
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
    score = text.splitlines()[1].split(",")[4]
    predictions.write_text(text.replace(score, "0.5", 1))
    with pytest.raises(RunError, match=r"predictions\.csv' is not what the run wrote"):
        compare([whole, other])
    for unusable in ("nan", "inf", "much"):
        predictions.write_text(text.replace(score, unusable, 1))
        seal(other)
        with pytest.raises(RunError, match=r"predictions\.csv.*score.*[Rr]un it again"):
            compare([whole, other])
    predictions.write_text("\n".join(line + "," for line in text.splitlines()).replace("picture,", "picture,error", 1))
    lines = predictions.read_text().splitlines()
    predictions.write_text("\n".join([lines[0], "/b/0.png,c,bad,1,,,,,the method gave NaN", *lines[2:]]))
    seal(other)
    with pytest.raises(RunError, match=r"gave '/b/0.png' the score nan, which is no finite number"):
        compare([whole, other])
    predictions.write_text(text.replace("score", "scores", 1))
    seal(other)
    with pytest.raises(RunError, match=r"(?s)predictions\.csv.*score.*[Rr]un it again"):
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
        seal(folder)
    assert [row.images for row in compare(folders)] == [len(labels)] * 2
