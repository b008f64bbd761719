"""evaluate: a finished run tested again, on the same or other data, without fitting."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from anomaly_core import (
    CALIBRATION,
    IMAGES,
    READING,
    BaseConfig,
    Calibration,
    ConfigError,
    DataError,
    Hooks,
    ImageCache,
    Progress,
    RunConfig,
    RunError,
    RunFolder,
    RunResult,
    build_data,
    folder_name,
    images_to_test,
    inside,
    needs_of,
    quiet,
    quoted,
    registry,
    screen,
    skipped,
    test,
    validate,
    warnings_of,
    without_mask,
)
from anomaly_predict import load_run

# options of the run that also hold for another data set
KEPT = (
    *("batch_size", "num_workers", "tile", "tile_overlap", "on_bad_image", "evaluate_at", *READING),
    *("roi", "ignore", "least_area", "mm_per_px"),
)
ELSEWHERE = {  # options that have another place in an evaluation, and which
    "base.output": "name the folder of its results with --output (output=)",
    "base.device": "choose the device with --device (device=)",
    "base.preset": "the run is fitted, with its own preset. Leave it out",
    "data.name": "name another data set with --data (data=)",
}


def evaluate(
    folder: str | Path,
    *,
    data: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    device: str = "auto",
    engine: str | None = None,
    progress: Progress = quiet,
    hooks: Hooks | None = None,
    verify: bool = True,
) -> RunResult:
    """Score a test set with a finished run and judge it at that run's threshold.

    Args:
        folder: the run's folder.
        data: another data set; None means the run's own.
        overrides: ``{"data.root": ...}`` and other options of ``data`` and ``base`` that act without fitting. With
            ``base.false_alarm_rate``, the threshold is the one that the run's own calibration scores give for that rate.
        output: the folder below which the results are written; None: ``evaluations`` in the run's folder.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        engine: the engine for frozen networks; None: the one used for fitting.
        progress: shows the progress.
        hooks: the observers; None means every installed observer.
        verify: whether config, weights and calibration must be as the run wrote them, by their SHA-256.

    Returns:
        The results, also written below ``<run>/evaluations/`` or ``output``; the run itself is unchanged.

    Raises:
        RunError: the folder is not a complete run, or the results cannot be written.
        ConfigError, DataError: options or data that cannot be used.
    """
    overrides = overrides or {}
    detector = load_run(folder, device=device, engine=engine, verify=verify)
    calibration = _calibration(folder, detector.calibration, overrides)
    config = _config(folder, detector.config, data, overrides)
    hooks = hooks or Hooks(registry)
    hooks.call("anomaly_configure", config=config)
    module = build_data(config)
    if "data.category" not in overrides and config.data.category:
        names = module.categories()
        if len(names) == 1 and config.data.category != names:  # the run's product under another name
            config = config.replace(**{"data.category": names})
            module = build_data(config)
    module.reader = detector.reader.changed(detector.config.data, config.data)
    categories = module.chosen_categories()
    with warnings.catch_warnings(record=True) as caught:  # for the log, which does not exist yet
        warnings.simplefilter("always")
        samples = images_to_test(module, categories)
    spec = detector.modeler.input_spec  # each image is decoded once, as in a run
    module.cache = ImageCache(spec.whole if module.tiling else spec, int(config.data.image_cache))
    screened = screen(samples, config.data.on_bad_image, module.reader, None if module.tiling else module.cache)
    if not screened.kept:
        raise DataError(f"none of the test images can be used: {screened.skipped[0].reason}")
    label = categories[0] if len(categories) == 1 else "unified"
    place = config.data.name, label, config.model.name
    run = RunFolder.create(_own(Path(folder), place) if output is None else str(output), *place)
    left_out = {"skipped": skipped(screened), "without_mask": without_mask(screened.kept)}
    facts = {"category": label, "evaluates": str(Path(folder).absolute()), **left_out}
    with run.locked(), run.recording(config, hooks, **facts):
        told = warnings_of(screened, [], [], screened.kept, module.reader)
        for text in [*(str(item.message) for item in caught), *told]:
            warnings.warn(text, stacklevel=2)
        run.write_json(IMAGES, module.reader.to_dict())
        run.write_json(CALIBRATION, calibration.to_dict())
        if calibration.warning and calibration is not detector.calibration:
            warnings.warn(calibration.warning, stacklevel=2)
        watched: dict[str, Any] = {"device": detector.device, "hooks": hooks, "progress": progress}
        result = test(run, config, detector.modeler, calibration, module, screened.kept, **watched)
    hooks.call("anomaly_run_end", run=run, results=result)
    return result


def _own(folder: Path, place: tuple[str, str, str]) -> str:
    """The run's own folder for evaluations; RunError if a link in it would have them written elsewhere."""
    own = folder / "evaluations"
    try:
        inside(folder, str(Path(own.name, *map(folder_name, place))))
    except OSError as error:
        raise RunError(f"cannot write below {str(own)!r}: {error}, or choose another folder with --output.") from error
    return str(own)


def _config(folder: str | Path, config: RunConfig, data: str | None, overrides: Mapping[str, Any]) -> RunConfig:
    """The run's config with another data section; options that the other data set does not have are dropped."""
    sections = config.to_dict()
    if data is not None and data != config.data.name:
        sections["data"] = {"name": data, **{key: sections["data"][key] for key in KEPT}}
    own = registry.datasets[sections["data"]["name"]].config_class()
    needs = {
        f"{section}.{name}": n for section, cls in (("base", BaseConfig), ("data", own)) for name, n in needs_of(cls).items()
    }
    for key, value in overrides.items():
        if key in ELSEWHERE:
            raise ConfigError(f"{key}={value} would be ignored in an evaluation: {ELSEWHERE[key]}.")
        if key.startswith(("model.", "train.")) or (key in needs and needs[key].fitting):
            again = f"anomaly run --config {quoted(Path(folder) / 'config.yaml')} --set {quoted(f'{key}={value}')}"
            raise ConfigError(
                f"{key}={value} would be ignored: the run is fitted, and an evaluation leaves that as it is. Leave it "
                f"out, or fit again: `{again}`."
            )
    options = {key.removeprefix("data."): value for key, value in overrides.items() if key.startswith("data.")}
    sections["data"] |= own.of_new_images(options, sections["data"])
    if fixed := sorted({"data.roi", "data.ignore"} & overrides.keys()):
        raise ConfigError(f"{fixed[0]} is the run's own: it was fitted on that part of its images. Leave it out, or fit again.")
    return RunConfig.create(config=sections, overrides=overrides)


def _calibration(folder: str | Path, own: Calibration, overrides: Mapping[str, Any]) -> Calibration:
    """The run's own, or what its scores give for another rate of false alarms."""
    if "base.false_alarm_rate" not in overrides:
        return own
    rate = validate(BaseConfig, {"false_alarm_rate": overrides["base.false_alarm_rate"]}, "base").false_alarm_rate
    if not own.scores:
        raise ConfigError(
            f"base.false_alarm_rate={rate:g} needs the scores of normal images, and the run in {str(folder)!r} has none: its "
            f"threshold is from {own.source}. Leave it out, or fit again so that normal images set the threshold."
        )
    new = own.at_rate(rate)
    return replace(new, source=f"{new.source}, at the rate that this evaluation asks for")
