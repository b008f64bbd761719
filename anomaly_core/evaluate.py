"""A finished run judged again, on the same or other data, without fitting."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anomaly_core.base.data import BaseDataModule
from anomaly_core.base.tiled import scorer
from anomaly_core.base.trainer import Progress, quiet, score
from anomaly_core.config import RunConfig
from anomaly_core.errors import DataError
from anomaly_core.experiment import CALIBRATION, CONFIG, Experiment
from anomaly_core.judge import Judge
from anomaly_core.predict import load_run
from anomaly_core.registry import registry
from anomaly_core.results import Row, RunResult
from anomaly_core.screening import screen, warnings_of


def evaluate(
    folder: str | Path,
    *,
    data: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    device: str = "auto",
    progress: Progress = quiet,
) -> RunResult:
    """Score a test set with a finished run and judge it at that run's threshold.

    Args:
        folder: the run's folder.
        data: another data set; None means the run's own.
        overrides: ``{"data.root": ...}`` and other options of the sections ``data`` and ``base``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        progress: shows how far it has come.

    Returns:
        What was found; written below ``<run>/evaluations/``, where the run itself stays as it is.

    Raises:
        RunError: the folder is no complete run.
        ConfigError, DataError: options or data that cannot be used.
    """
    detector = load_run(folder, device=device)
    config = _config(detector.config, data, overrides or {})
    component = registry.datasets[config.data.name]
    module: BaseDataModule = component.build(config.data, seed=config.base.seed, spec=component.spec)
    categories = module.chosen_categories()
    samples = [sample for category in categories for sample in module.test_samples(category)]
    if not samples:
        raise DataError(
            f"{config.data.name!r} has no test image under {str(module.root)!r}. Check data.root and data.category."
        )
    screened = screen(samples, config.data.on_bad_image)
    samples = screened.kept
    if not samples:
        raise DataError(f"none of the test images can be used: {screened.skipped[0].reason}")
    label = categories[0] if len(categories) == 1 else "unified"
    experiment = Experiment.create(str(Path(folder) / "evaluations"), config.data.name, label, config.model.name)
    experiment.write(CONFIG, config.to_yaml())
    told = warnings_of(screened, [], [], samples)
    facts: Row = {
        "category": label,
        "evaluates": str(Path(folder).absolute()),
        "started": time.time(),
        "skipped": [{"path": str(item.path), "reason": item.reason} for item in screened.skipped],
        "warnings": told,
    }
    with experiment.locked(), experiment.recorded(facts):
        experiment.write_json(CALIBRATION, detector.calibration.to_dict())
        judge = Judge(config, detector.calibration, categories, experiment, detector.modeler.input_spec)
        start = time.perf_counter()
        loader = module.images(samples, detector.modeler.input_spec)
        batches = progress(loader, "scoring test images", len(loader))
        for batch, prediction in score(scorer(detector.modeler, config.data), batches, detector.device):
            judge.update(batch, prediction)
        rate = len(samples) / (time.perf_counter() - start)
        result = judge.finish(label, {}, rate, 0.0)
        facts["test_images_per_second"] = rate
    for text in told:
        warnings.warn(text, stacklevel=2)
    return result


def _config(config: RunConfig, data: str | None, overrides: Mapping[str, Any]) -> RunConfig:
    """The run's config with another data section; what another data set does not know is left out."""
    sections = config.to_dict()
    if data is not None and data != config.data.name:
        kept = ("batch_size", "num_workers", "tile", "tile_overlap", "on_bad_image", "evaluate_at")
        sections["data"] = {"name": data, **{key: sections["data"][key] for key in kept}}
    return RunConfig.create(config=sections, overrides=overrides)
