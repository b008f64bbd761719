"""``anomaly ensemble``: finished runs as one detector, in a run like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from anomaly_core import ConfigError, NormalImage, RunConfig, RunError, RunFolder, RunResult, run_experiment
from anomaly_ensemble.combining import combine
from anomaly_ensemble.commands import ensemble
from anomaly_ensemble.ensemble.modeler import EnsembleModeler
from anomaly_predict import evaluate, load_run

SMALL = {
    "data.size": 64,
    "data.train_count": 14,
    "data.good_count": 4,
    "data.bad_count": 6,
    "data.category": ["fabric"],
    "model.image_size": 64,
    "model.resize": "stretch",
    "base.pictures": 1,
}


def fit(folder: Path, model: str, **more: Any) -> RunResult:
    options = {**SMALL, "data.root": str(folder / "data"), "base.output": str(folder / "runs"), **more}
    return run_experiment(RunConfig.create(model=model, data="sample", preset="edge", overrides=options)).runs[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ensemble")


@pytest.fixture(scope="module")
def members(folder: Path) -> list[RunResult]:
    # a gradient method with held-out images, and memories that scored all of theirs
    stfpm = {"train.epochs": 1, "data.holdout": 0.4}
    return [fit(folder, "patchcore"), fit(folder, "padim"), fit(folder, "stfpm", **stfpm)]


@pytest.fixture(scope="module")
def combined(members: list[RunResult]) -> RunResult:
    return combine([member.folder for member in members])


def test_its_scores_are_the_means_of_the_members_on_their_scales(members: list[RunResult], combined: RunResult) -> None:
    modeler = load_run(combined.folder).modeler
    assert isinstance(modeler, EnsembleModeler)
    for number, row in enumerate(combined.predictions):
        scores = [torch.tensor(member.predictions[number].score) for member in members]
        expected = torch.stack([scale(score) for scale, score in zip(modeler.of_scores, scores, strict=True)]).mean()
        assert row.score == pytest.approx(float(expected), rel=1e-4)
        assert {member.predictions[number].path for member in members} == {row.path}
    assert combined.measures["image_auroc"].value > 0.5  # type: ignore[operator]


def test_its_threshold_comes_from_the_normal_images_that_all_members_have_scored(
    members: list[RunResult], combined: RunResult
) -> None:
    def normals(result: RunResult) -> dict[str, NormalImage]:
        return {row.path: row for row in RunFolder.open(result.folder).normals()}

    tables, own = [normals(member) for member in members], normals(combined)
    assert own.keys() == set(tables[2])  # those that the third held out
    assert 0 < len(own) < len(tables[0])
    modeler = load_run(combined.folder).modeler
    for path, row in own.items():
        scaled = [scale(torch.tensor(table[path].score)) for scale, table in zip(modeler.of_scores, tables, strict=True)]  # type: ignore[arg-type]
        assert row.score == pytest.approx(float(torch.stack(scaled).mean()), rel=1e-5)
    assert combined.calibration.scored_by == "holdout"
    assert combined.calibration.threshold == max(row.score for row in own.values())


def test_the_maps_threshold_is_an_upper_bound_of_normal_maps(combined: RunResult) -> None:
    detector = load_run(combined.folder)
    rows = RunFolder.open(combined.folder).normals()
    maps = detector.predict([row.path for row in rows]).maps
    # PatchCore and PaDiM have seen these images, so that their maps are even lower than those that were counted
    assert (maps.flatten(1).amax(dim=1) <= torch.tensor([row.map_maximum for row in rows]) + 1e-4).all()
    assert combined.calibration.map_low < combined.calibration.map_threshold  # type: ignore[operator]


def test_it_needs_its_members_folders_no_more(members: list[RunResult], combined: RunResult, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(combined.folder, alone)
    hidden = members[0].folder.parent.rename(tmp_path / "hidden")
    try:
        detector = load_run(alone)
        path = combined.predictions[0].path
        assert detector.predict(path).score == pytest.approx(combined.predictions[0].score, rel=1e-5)
        evaluated = evaluate(alone, output=tmp_path / "evaluated")
        assert evaluated.measures["image_auroc"].value == combined.measures["image_auroc"].value
    finally:
        hidden.rename(members[0].folder.parent)


def test_the_manifest_names_its_members_and_the_report_is_there(members: list[RunResult], combined: RunResult) -> None:
    manifest = json.loads((combined.folder / "manifest.json").read_text())
    assert manifest["members"] == [str(member.folder) for member in members]
    assert (combined.folder / "report.html").is_file()
    assert RunFolder.open(combined.folder).differing() == {}


def test_a_member_of_a_smaller_size_sees_the_image_resized(folder: Path, members: list[RunResult]) -> None:
    small = fit(folder, "padim", **{"model.image_size": 32})
    result = combine([members[0].folder, small.folder], scale="p_value")
    assert "padim of another model.image_size" in (result.folder / "log.txt").read_text()
    modeler = load_run(result.folder).modeler
    assert modeler.input_spec.size == (64, 64)
    prediction = load_run(result.folder).predict([row.path for row in result.predictions])
    assert prediction.maps.shape[-2:] == (64, 64)
    own = torch.tensor([row.score for row in small.predictions])
    member, halves = list(modeler.modelers())[1], [_half(load_run(result.folder), row.path) for row in result.predictions]
    seen = member.predict_step(torch.cat(halves)).scores
    assert torch.corrcoef(torch.stack([own, seen]))[0, 1] > 0.9  # resized twice, and nearly the same


def _half(detector: Any, path: str) -> torch.Tensor:
    image = torch.from_numpy(detector.decode(path)).permute(2, 0, 1)[None].float() / 255
    return torch.nn.functional.interpolate(image, (32, 32), mode="bilinear", antialias=True)


def test_what_cannot_be_combined_is_one_error(folder: Path, members: list[RunResult], tmp_path: Path) -> None:
    one = members[0].folder
    with pytest.raises(ConfigError, match="needs two runs or more"):
        combine([one, one])
    with pytest.raises(RunError, match=r"is not a run's folder"):
        combine([one, tmp_path])
    padded = fit(folder, "patchcore", **{"model.resize": "pad"})
    other = fit(folder, "patchcore", **{"data.category": ["nut"], "data.root": str(folder / "nuts")})
    fewer = fit(folder, "patchcore", **{"data.bad_count": 5, "data.root": str(folder / "fewer")})
    blind = fit(folder, "patchcore", **{"data.holdout": 0, "base.calibration": "holdout"})
    with pytest.raises(ConfigError, match=r"gives all members the same image.*model\.resize=pad"):
        combine([padded.folder, members[1].folder])
    with pytest.raises(RunError, match="differ in category: 'fabric' and 'nut'"):
        combine([one, other.folder])
    with pytest.raises(RunError, match=r"differ in data\.bad_count: 6 and 5"):
        combine([one, fewer.folder])
    with pytest.raises(RunError, match="has no scores of normal images"):
        combine([one, blind.folder])
    assert not list((folder / "runs").glob("sample/nut/ensemble"))


def test_the_command_prints_what_was_found(members: list[RunResult], tmp_path: Path) -> None:
    folders = [str(member.folder) for member in members[:2]]
    done = CliRunner().invoke(ensemble, [*folders, "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "fabric: found" in done.output and str(tmp_path) in done.output
