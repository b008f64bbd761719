"""Which method is named the best: as often wrongly as is stated, rightly where the difference is plain, and in which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sealing import seal

from anomaly_benchmark import Cell, Summary, to_latex, to_markdown
from anomaly_benchmark.best import advantages, sentence
from anomaly_benchmark.comparison import drawn_aurocs
from anomaly_core import Calibration, Measure, RunFolder, RunResult, TestedImage


def cells(table: dict[str, list[list[float]]], name: str = "pixel_auroc", **facts: bool) -> list[Cell]:
    """By model: a row a category, a column a seed."""
    return [
        Cell("toy", str(c), model, seed, {}, measures={name: Measure(name, value, prominence="headline", **facts)})
        for model, rows in table.items()
        for c, row in enumerate(rows)
        for seed, value in enumerate(row)
    ]


def test_the_best_is_named_where_seeds_agree_on_it() -> None:
    summary = Summary(cells({"a": [[0.90, 0.91, 0.92]], "b": [[0.80, 0.82, 0.81]], "c": [[0.70, 0.71, 0.73]]}))
    text = sentence(summary, "pixel_auroc")
    assert text.startswith("a is the best, by 0.1000 over b (95 % interval +0.0")
    assert "paired over 3 seeds; what other images would change is not counted)" in text
    assert text in to_markdown(summary) and f"% pixel_auroc: {text}" in to_latex(summary)


def test_of_a_distance_the_lower_is_the_better() -> None:
    table = {"a": [[0.9, 0.91, 0.92]], "b": [[0.2, 0.22, 0.21]]}
    assert sentence(Summary(cells(table, "distance", higher_is_better=False)), "distance").startswith("b is the best, by 0.7")


def test_the_data_may_not_tell_and_then_the_worse_ones_are_named() -> None:
    table = {"a": [[0.90, 0.93, 0.91]], "b": [[0.91, 0.89, 0.92]], "c": [[0.5, 0.51, 0.5]]}
    text = sentence(Summary(cells(table)), "pixel_auroc")
    assert text.startswith("The data cannot tell which is best: a leads b by 0.0067 (95 % interval -0.")
    assert text.endswith(" It is better than c.")


def test_one_seed_pairs_over_categories() -> None:
    text = sentence(Summary(cells({"a": [[0.9], [0.8], [0.7]], "b": [[0.6], [0.51], [0.4]]})), "pixel_auroc")
    assert text.startswith("a is the best") and "paired over 3 categories" in text


@pytest.mark.parametrize("table", [{"a": [[0.9]], "b": [[0.5]]}, {"a": [[0.9, 0.9]], "b": [[0.5, 0.5]]}])
def test_what_does_not_vary_tells_nothing(table: dict[str, list[list[float]]]) -> None:
    assert sentence(Summary(cells(table)), "pixel_auroc").startswith("The data cannot tell which is best. Repeat the grid")


def test_one_method_has_no_rival_and_a_failed_one_shares_no_category() -> None:
    assert sentence(Summary(cells({"a": [[0.9, 0.8]]})), "pixel_auroc") == ""
    failed = [*cells({"a": [[0.9, 0.8]]}), Cell("toy", "0", "b", 0, {}, error="no memory")]
    assert "no category in which every method has a result" in sentence(Summary(failed), "pixel_auroc")


def test_equal_methods_are_rarely_told_apart_by_seeds() -> None:
    """The leader of four alike is called the best in at most 5 % of the grids, though it is chosen by the same data."""
    random, wrong = np.random.default_rng(0), 0
    for _ in range(1000):
        units = 0.9 + random.normal(scale=0.01, size=(4, 4)) + random.normal(scale=0.02, size=4)  # seeds in common
        _, found = advantages(list("abcd"), units.mean(axis=1), units) or ("", [])
        wrong += all(one.is_real for one in found)
    assert wrong <= 50 + 3 * 7


@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, 0, 31), (0.8, 270, 300)])
def test_images_and_seeds_together_tell_a_difference_and_none_where_there_is_none(shift: float, least: int, most: int) -> None:
    """300 grids of two methods and three seeds: each image is as hard for both, and each seed adds its own noise."""
    random, named = np.random.default_rng(1), 0
    labels = np.arange(120) % 2 == 1
    for _ in range(300):
        hard = random.normal(size=120)
        gains = (1.0 + shift) * labels, 1.0 * labels
        scores = [hard + gain + random.normal(scale=0.4, size=(3, 120)) for gain in gains]
        pairs = [(s[:, labels][:, :, None] > s[:, ~labels][:, None, :]).astype(np.float32) for s in scores]
        units = np.array([won.mean(axis=(1, 2)) for won in pairs])
        drawn = np.array(drawn_aurocs([won.mean(axis=0) for won in pairs], 300, random))
        _, (found,) = advantages(["a", "b"], units.mean(axis=1), units, drawn) or ("", [])
        named += found.is_real
    assert least <= named <= most  # 5 % and three standard errors; 90 %


def finished(folder: Path, model: str, seed: int, gain: float) -> Cell:
    """A cell of image_auroc whose run is there."""
    random, labels = np.random.default_rng(0), np.arange(80) % 2
    scores = random.normal(size=80) + gain * labels + np.random.default_rng(seed + 1).normal(size=80) * 0.1
    rows = [
        TestedImage(f"{i}.png", "x", "", int(label), float(score))
        for i, (score, label) in enumerate(zip(scores, labels, strict=True))
    ]
    anomalous, normal = scores[labels == 1], scores[labels == 0]
    measure = Measure("image_auroc", float((anomalous[:, None] > normal).mean()), prominence="headline", bounded=True)
    place = folder / f"{model}-{seed}"
    place.mkdir()
    calibration = Calibration(1.0, 0.01, 0, "here")
    RunFolder(place).write_result(RunResult(place, "x", {}, {}, rows, calibration, 1.0, 1.0), {})
    RunFolder(place).write_json("calibration.json", calibration.to_dict())
    seal(place, category="x", test_images_per_second=1.0)
    return Cell("toy", "x", model, seed, {}, folder=str(place), measures={measure.name: measure})


@pytest.mark.parametrize("seeds", [1, 2])
def test_aurocs_are_paired_over_the_images_of_the_runs(tmp_path: Path, seeds: int) -> None:
    grid = [finished(tmp_path, m, seed, gain) for m, gain in (("weak", 0.5), ("strong", 3.0)) for seed in range(seeds)]
    text = sentence(Summary(grid), "image_auroc")
    assert text.startswith("strong is the best, by 0.")
    words = "80 test images and 2 seeds)" if seeds == 2 else "80 test images; what another seed would change is not counted)"
    assert f"paired over {words}" in text
    (tmp_path / "weak-0" / "predictions.csv").unlink()  # without the scores, the seeds must do
    text = sentence(Summary(grid), "image_auroc")
    assert ("2 seeds; what other images" in text) if seeds == 2 else ("Repeat the grid with more seeds" in text)
