"""Several finished runs as one: their detectors on one scale, a threshold from the normal images that all have scored."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anomaly_core import (
    CALIBRATION,
    IMAGES,
    NORMALS,
    BaseModeler,
    Calibration,
    ConfigError,
    Hooks,
    ModelContext,
    NormalImage,
    Progress,
    RunConfig,
    RunError,
    RunFolder,
    RunResult,
    build_data,
    calibrate,
    choose_device,
    images_to_test,
    mark_suspects,
    needs_of,
    quiet,
    registry,
    test,
    validate,
)
from anomaly_ensemble.ensemble.config import GEOMETRY, EnsembleConfig
from anomaly_ensemble.ensemble.modeler import EnsembleModeler

METHOD = "ensemble"
FREE = frozenset({"batch_size", "num_workers", "image_cache", "root"})  # of section data: what changes no image
KINDS = ("leave_one_out", "folds", "holdout")  # how normal images were scored, the strongest statement first


def combine(
    folders: Sequence[str | Path],
    *,
    scale: str = "tail",
    output: str | Path | None = None,
    device: str = "auto",
    progress: Progress = quiet,
    hooks: Hooks | None = None,
    verify: bool = True,
) -> RunResult:
    """Make one detector of finished runs, test it on their test set, and write it as a run of its own.

    Its folder holds all that it needs: the runs may be deleted. The threshold is the conformal one for the first run's
    false-alarm rate, of the normal images that every run has scored without having seen them. The threshold of the maps is an
    upper bound: the mean of the members' greatest values in an image, which may lie at different places.

    Args:
        folders: two runs or more of one category, fitted and tested on the same images, with the same geometry of the input up
            to its size: a member of a smaller size sees the image of the largest, resized.
        scale: ``tail`` or ``p_value``, as ``model.scale`` of the ensemble.
        output: the folder below which the run is written; None: that of the first run.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        progress: shows the progress.
        hooks: the observers; None means every installed observer.
        verify: whether the runs' files must be as they were written, by their SHA-256.

    Raises:
        ConfigError: there are fewer than two runs, or two that cannot see the same input.
        RunError: a folder is no complete run, runs differ in their images, or one has no scores of normal images.
    """
    start = time.perf_counter()
    if len({Path(folder).resolve() for folder in folders}) < 2:
        raise ConfigError("an ensemble needs two runs or more. Give the folders of finished runs of one category.")
    runs = [RunFolder.open(folder, verify) for folder in folders]
    configs = [run.config() for run in runs]
    for run, config in zip(runs[1:], configs[1:], strict=True):
        _require_same_images(runs[0], configs[0], run, config)
    calibrations = [run.calibration() for run in runs]
    normals = _common_normals(runs)
    config = _config(configs, scale)
    hooks = hooks or Hooks(registry)
    hooks.call("anomaly_configure", config=config)
    modeler = _modeler(config, runs, configs, calibrations)
    rows = _scaled(modeler, normals)
    calibration = _calibration(rows, modeler, calibrations, config.base.false_alarm_rate)

    category = runs[0].manifest()["category"]
    run = RunFolder.create(str(output or config.base.output), config.data.name, category, METHOD)
    try:
        with run.locked(), run.recording(config, hooks, **_facts(runs)):
            if (warning := calibration.warning) is not None:
                warnings.warn(warning, stacklevel=2)
            if smaller := [s["name"] for s, m in _members(config, modeler) if m.input_spec.size != modeler.input_spec.size]:
                warnings.warn(
                    f"{', '.join(smaller)} of another model.image_size than the ensemble's: sees its images resized a second "
                    "time, so that its scores differ a little from its run's. Runs of one size avoid that.",
                    stacklevel=2,
                )
            run.write_rows("history.csv", [])
            run.write_state(modeler.state_dict())
            run.write_json(IMAGES, runs[0].reader().to_dict())
            run.write_rows(NORMALS, [row.to_row() for row in rows])
            run.write_json(CALIBRATION, calibration.to_dict())
            run.facts["fit_seconds"] = time.perf_counter() - start
            result = _tested(run, config, modeler, calibration, runs[0], choose_device(device), hooks, progress)
    except BaseException:
        shutil.rmtree(run.folder, ignore_errors=True)  # there is nothing in it that the same command would not write again
        with suppress(OSError):
            run.folder.parent.rmdir()
        raise
    hooks.call("anomaly_run_end", run=run, results=result)
    return result


def _require_same_images(first: RunFolder, expected: RunConfig, other: RunFolder, config: RunConfig) -> None:
    """RunError if two runs are of other categories, or looked at other images or in another way."""
    before, now = first.manifest(), other.manifest()
    facts = [("category", before.get("category"), now.get("category")), ("data.name", expected.data.name, config.data.name)]
    if expected.data.name == config.data.name:
        free = FREE | {name for name, needs in needs_of(type(expected.data)).items() if needs.fitting}
        for field in fields(expected.data):
            if field.name not in free:
                facts.append((f"data.{field.name}", getattr(expected.data, field.name), getattr(config.data, field.name)))
    facts += [("the reading of images", first.reader().to_dict(), other.reader().to_dict())]
    for name, left, right in facts:
        if left != right:
            raise RunError(
                f"the runs in {str(first.folder)!r} and {str(other.folder)!r} differ in {name}: {left!r} and {right!r}. An "
                "ensemble is made of runs on the same images: fit one of them again with the other's options."
            )
    tested = [{image.path for image in run.result().predictions} for run in (first, other)]
    if tested[0] != tested[1]:
        raise RunError(
            f"the runs in {str(first.folder)!r} and {str(other.folder)!r} were tested on other images "
            f"({len(tested[0] - tested[1])} and {len(tested[1] - tested[0])} that the other does not have). Fit them on "
            "the same."
        )


def _common_normals(runs: Sequence[RunFolder]) -> list[list[NormalImage]]:
    """The rows of the normal images that all runs have scored, an entry an image with a row a run; RunError without any."""
    tables: list[dict[str, NormalImage]] = []
    for run in runs:
        rows = {row.path: row for row in run.normals() if not row.dropped} if (run.folder / NORMALS).is_file() else {}
        if not rows:
            raise RunError(
                f"the run in {str(run.folder)!r} has no scores of normal images that its detector did not see, and without "
                "them its scores have no scale. Fit it again with data.holdout above 0 or base.calibration=cross."
            )
        tables.append(rows)
    paths = [path for path in tables[0] if all(path in table for table in tables)]
    if not paths:
        counts = ", ".join(f"{len(table)} in {str(run.folder)!r}" for table, run in zip(tables, runs, strict=True))
        raise RunError(
            f"no normal image has a score in every run ({counts}): none can set a threshold. Fit them with the same base.seed "
            "and data.holdout, or with base.calibration=cross."
        )
    return [[table[path] for table in tables] for path in paths]


def _config(configs: Sequence[RunConfig], scale: str) -> RunConfig:
    """The first run's config, with the ensemble as its model: of the geometry of the largest input."""
    largest = max((config.model for config in configs), key=lambda model: _area(model.image_size))
    options: dict[str, Any] = {name: getattr(largest, name) for name in GEOMETRY}
    members = [config.to_dict()["model"] for config in configs]
    model = validate(EnsembleConfig, {"name": METHOD, **options, "members": members, "scale": scale}, "model")
    trainer = registry.models[METHOD].spec.trainer
    train = validate(registry.trainers[trainer].config_class(), {"name": trainer}, "train")
    first = configs[0].replace(**{"base.preset": None})
    return RunConfig(base=first.base, data=first.data, model=model, train=train)


def _area(size: int | tuple[int, int]) -> int:
    return size * size if isinstance(size, int) else size[0] * size[1]


def _members(config: RunConfig, modeler: EnsembleModeler) -> list[tuple[dict[str, Any], BaseModeler]]:
    assert isinstance(config.model, EnsembleConfig)
    return list(zip(config.model.members, modeler.modelers(), strict=True))


def _modeler(
    config: RunConfig, runs: Sequence[RunFolder], configs: Sequence[RunConfig], calibrations: Sequence[Calibration]
) -> EnsembleModeler:
    """The ensemble with the runs' states, and the scales from their own normal images."""
    assert isinstance(config.model, EnsembleConfig)
    modeler = EnsembleModeler(config.model, ModelContext(False, tuple(config.data.category or ()), config.data.prompt))
    for number, (member, run, own, calibration) in enumerate(zip(modeler.modelers(), runs, configs, calibrations, strict=True)):
        run.restore(member, own.model.name)
        modeler.set_scale(number, calibration.scores, calibration.map_maxima, calibration.map_low)
    return modeler.eval()


def _scaled(modeler: EnsembleModeler, normals: Sequence[Sequence[NormalImage]]) -> list[NormalImage]:
    """The ensemble's score of each normal image, from those of its members; its map's greatest value is an upper bound."""
    rows = []
    for of_image in normals:
        score = _mean(modeler.of_scores, [row.score for row in of_image])
        maximum = _mean(modeler.of_maps, [row.map_maximum for row in of_image])
        assert score is not None
        rows.append(replace(of_image[0], score=score, map_maximum=maximum, picture=""))
    mark_suspects(rows)
    return rows


def _mean(scales: Iterable[nn.Module], values: Iterable[float | None]) -> float | None:
    """The mean of values on their scales, rounded to float32 as a prediction is; None if there are none."""
    scaled = [scale(torch.tensor(value)) for scale, value in zip(scales, values, strict=True) if value is not None]
    return float(torch.stack(scaled).mean()) if scaled else None


def _calibration(
    rows: Sequence[NormalImage], modeler: EnsembleModeler, calibrations: Sequence[Calibration], rate: float
) -> Calibration:
    maxima = [row.map_maximum for row in rows if row.map_maximum is not None]
    low = _mean(modeler.of_maps, [calibration.map_low for calibration in calibrations])
    kind = max((calibration.scored_by for calibration in calibrations), key=KINDS.index)
    return calibrate(
        torch.tensor([row.score for row in rows]),
        torch.tensor(maxima) if maxima else None,
        None if low is None else torch.full((len(rows),), low),
        false_alarm_rate=rate,
        kind=kind,
    )


def _tested(
    run: RunFolder,
    config: RunConfig,
    modeler: EnsembleModeler,
    calibration: Calibration,
    first: RunFolder,
    device: torch.device,
    hooks: Hooks,
    progress: Progress,
) -> RunResult:
    data = build_data(config)
    data.reader = first.reader()
    left_out = {Path(entry["path"]).resolve() for entry in first.manifest().get("skipped", [])}
    samples = [s for s in images_to_test(data, data.chosen_categories()) if s.path.resolve() not in left_out]
    modeler.to(device)
    run.facts |= modeler.computing(device)
    watched: dict[str, Any] = {"device": device, "hooks": hooks, "progress": progress}
    return test(run, config, modeler, calibration, data, samples, figures=modeler.describe(), **watched)


def _facts(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """What the manifest says: the first run's facts of the images, and the runs that it was made of."""
    manifest = runs[0].manifest()
    kept: dict[str, Any] = {
        name: manifest[name] for name in ("seed", "skipped", "without_mask", "excluded", "data") if name in manifest
    }
    members = [str(run.folder.absolute()) for run in runs]
    return {"category": manifest["category"], "members": members, **kept}
