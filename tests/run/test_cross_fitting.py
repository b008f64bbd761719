"""Cross-fitting: each normal image is scored by a detector that did not see it, and the run's own is fitted on all."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from anomaly_core import ConfigError, NormalImage, RunFolder, RunResult, Sample, build_data, run_experiment, stands_out
from anomaly_core.base.data import groups
from anomaly_core.run.cross_fitting import folds
from tiny.methods import Palette
from tiny.runs import config, log_of

pytestmark = pytest.mark.usefixtures("tiny")


def run(output: Path, model: str = "palette", **options: object) -> RunResult:
    return run_experiment(config(output, model=model, **{"data.holdout": None, **options})).runs[0]


def normals(result: RunResult) -> dict[str, float]:
    return {Path(row.path).name: row.score for row in RunFolder.open(result.folder).normals()}


def refitted_scores(output: Path, **options: object) -> dict[str, float]:
    """Of each normal image by a detector that is fitted on the others, done by hand."""
    of_run = config(output, **{"data.holdout": 0, **options})
    data = build_data(of_run)
    data.chosen_categories()  # draws the images
    samples = data.train_samples("linen")
    scores = {}
    for own in groups(samples):
        model = Palette(of_run.model)
        for batch in data.loader([s for i, s in enumerate(samples) if i not in own], model.input_spec):
            model.collect(batch.images)
        model.build()
        for batch in data.loader([samples[i] for i in own], model.input_spec):
            scores |= {
                s.path.name: v for s, v in zip(batch.samples, model.predict_step(batch.images).scores.tolist(), strict=True)
            }
    return scores


def test_a_memory_scores_each_image_without_itself_and_keeps_all(tmp_path):
    result = run(tmp_path)
    assert result.calibration.scored_by == "leave_one_out"
    assert "each scored without itself" in result.calibration.source
    expected = refitted_scores(tmp_path)
    assert normals(result) == pytest.approx(expected)
    assert result.figures["remembered_images"] == len(expected) == result.calibration.count
    assert list(result.calibration.scores) == pytest.approx(sorted(expected.values()))
    assert len(result.calibration.map_maxima) == len(expected)
    assert RunFolder.open(result.folder).manifest()["data"]["held_out"] == 0


def test_folds_for_a_memory_that_cannot_leave_out(tmp_path, monkeypatch):
    monkeypatch.setattr(Palette, "leaves_out", 0)
    result = run(tmp_path, **{"base.folds": 1000})  # as many as there are images: leave-one-out, by fitting
    assert result.calibration.scored_by == "folds"
    assert normals(result) == pytest.approx(refitted_scores(tmp_path))
    assert result.figures["remembered_images"] == result.calibration.count
    few = run(tmp_path, **{"base.folds": 2})
    assert few.calibration.count == result.calibration.count
    assert normals(few) != pytest.approx(normals(result))


def test_the_same_run_with_images_held_out(tmp_path):
    held = run(tmp_path, **{"data.holdout": 0.25})
    assert held.calibration.scored_by == "holdout"
    assert "held-out" in held.calibration.source
    count = held.calibration.count
    assert held.figures["remembered_images"] == len(refitted_scores(tmp_path)) - count
    assert len(normals(held)) == count
    asked = run(tmp_path, **{"base.calibration": "holdout"})
    assert asked.calibration.scored_by == "holdout"
    assert run(tmp_path, **{"data.holdout": 0}).calibration.threshold is None


def test_a_trained_method_crosses_only_if_asked(tmp_path):
    assert run(tmp_path, "mirror").calibration.scored_by == "holdout"
    crossed = run(tmp_path, "mirror", **{"base.calibration": "cross", "base.folds": 3})
    assert crossed.calibration.scored_by == "folds"
    assert crossed.calibration.count == len(refitted_scores(tmp_path))
    assert "calibration_seconds" in RunFolder.open(crossed.folder).manifest()
    assert not (crossed.folder / "checkpoints").exists()
    alone = run(tmp_path, "mirror", **{"data.holdout": 0})  # the run's own detector is that of all images
    assert [row.score for row in crossed.predictions] == [row.score for row in alone.predictions]


def test_with_tiles_an_image_is_left_out_whole(tmp_path):
    result = run(tmp_path, **{"data.tile": 16, "data.tile_overlap": 0})
    assert result.calibration.scored_by == "leave_one_out"
    images = len(refitted_scores(tmp_path))
    assert result.calibration.count == images < result.figures["remembered_images"]
    whole = run(tmp_path, **{"data.tile": 16, "data.tile_overlap": 0, "base.calibration": "holdout"})
    assert min(result.calibration.scores) > 0.5 < min(whole.calibration.scores)


def test_options_that_contradict_each_other(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.holdout=0\.2 keeps a share .* Leave one of them out"):
        run(tmp_path, **{"base.calibration": "cross", "data.holdout": 0.2})
    with pytest.raises(ConfigError, match=r"drop_suspects needs a score of every normal image"):
        run(tmp_path, **{"data.drop_suspects": True, "data.holdout": 0.2})
    with pytest.raises(ConfigError, match=r"drop_suspects"):
        run(tmp_path, "mirror", **{"data.drop_suspects": True})


def test_a_single_image_has_no_threshold_and_says_so(tmp_path):
    result = run_experiment(config(tmp_path, **{"data.holdout": None, "data.train_count": 1}))
    assert result.runs[0].calibration.threshold is None
    assert "too few normal images to score any by a detector that did not see it" in log_of(result)


def test_groups_and_folds():
    samples = [Sample(Path(f"{i}.png"), 0, extra={"group": i // 3} if i < 9 else {}) for i in range(14)]
    assert groups(samples) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9], [10], [11], [12], [13]]
    parts = folds(samples, 3, seed=1)
    assert sorted(i for part in parts for i in part) == list(range(14))
    assert len(parts) == 3
    for group in groups(samples):
        assert sum(bool(set(group) & set(part)) for part in parts) == 1
    assert parts == folds(samples, 3, seed=1) != folds(samples, 3, seed=2)
    assert [len(part) for part in folds(samples[9:], 99, seed=0)] == [1] * 5


def test_a_group_is_left_out_together(tmp_path, monkeypatch):
    plain = refitted_scores(tmp_path)
    listed = type(build_data(config(tmp_path)))
    samples = listed.train_samples

    def grouped(self, category):
        return [replace(sample, extra={"group": i // 2}) for i, sample in enumerate(samples(self, category))]

    monkeypatch.setattr(listed, "train_samples", grouped)
    expected = refitted_scores(tmp_path)
    assert expected != pytest.approx(plain)
    assert normals(run(tmp_path)) == pytest.approx(expected)


def test_a_data_set_with_images_of_its_own_for_the_threshold_is_said(tmp_path, monkeypatch):
    listed = type(build_data(config(tmp_path)))
    train_samples = listed.train_samples

    def split(self, category, fewest=1):
        samples = train_samples(self, category)
        return samples[2:], samples[:2]

    monkeypatch.setattr(listed, "split", split)
    result = run(tmp_path, **{"base.calibration": "cross"})
    assert (result.calibration.scored_by, result.calibration.count) == ("holdout", 2)
    assert "base.calibration=cross does nothing here" in (result.folder / "log.txt").read_text()
    assert "does nothing" not in (run(tmp_path).folder / "log.txt").read_text()


def test_stands_out():
    usual = [1 + 0.01 * i for i in range(30)]
    assert not any(stands_out(usual))
    assert stands_out([*usual, 9.0]) == [False] * 30 + [True]
    assert stands_out([0.01, *usual]) == [False] * 31  # low scores are no suspects
    assert stands_out([]) == []
    assert stands_out([2.0] * 5) == [False] * 5


def test_rows_are_read_as_they_were_written(tmp_path):
    result = run(tmp_path)
    with (result.folder / "normals.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [NormalImage.from_row(row) for row in rows] == RunFolder.open(result.folder).normals()
    with pytest.raises(ValueError, match="score"):
        NormalImage.from_row({**rows[0], "score": "nan"})
    with pytest.raises(ValueError, match="suspect"):
        NormalImage.from_row({**rows[0], "suspect": "perhaps"})
    assert math.isfinite(float(rows[0]["map_maximum"]))


def test_suspects_are_dropped_and_the_rest_is_scored_again(tmp_path):
    from PIL import Image

    run(tmp_path)  # draws the images
    folder = build_data(config(tmp_path)).train_samples("linen")[0].path.parent
    odd = folder / "odd.png"
    Image.new("RGB", (40, 40), (250, 10, 10)).save(odd)
    plain = run(tmp_path)
    (suspect,) = [row for row in RunFolder.open(plain.folder).normals() if row.suspect]
    assert suspect.path == str(odd)
    assert not suspect.dropped
    dropped = run(tmp_path, **{"data.drop_suspects": True})
    assert "1 of" in (dropped.folder / "log.txt").read_text()
    rows = RunFolder.open(dropped.folder).normals()
    assert [row.path for row in rows if row.dropped] == [str(odd)]
    assert dropped.calibration.count == plain.calibration.count - 1 == len(rows) - 1
    odd.unlink()
    clean = run(tmp_path)
    assert dropped.calibration.scores == clean.calibration.scores
    assert torch.equal(*(RunFolder.open(r.folder).state()["darkest"] for r in (dropped, clean)))
