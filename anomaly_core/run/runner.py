"""run_experiment(config): the steps of a run, from top to bottom."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list

from anomaly_core.base.data import BaseDataModule
from anomaly_core.base.modeler import BaseModeler
from anomaly_core.base.trainer import Progress, quiet
from anomaly_core.config.resolve import RunConfig
from anomaly_core.discovery import registry
from anomaly_core.errors import AnomalyError, ConfigError, RunError, described
from anomaly_core.hooks import Hooks
from anomaly_core.imaging.cache import ImageCache
from anomaly_core.imaging.findings import shrunk
from anomaly_core.imaging.variation import Variation
from anomaly_core.process import return_memory
from anomaly_core.run.cross_fitting import cross_fits
from anomaly_core.run.devices import choose_device, process_state
from anomaly_core.run.evaluation import build_data, test
from anomaly_core.run.fitting import Fitted, Fitter
from anomaly_core.run.folder import CALIBRATION, CHECKPOINTS, HISTORY, IMAGES, MANIFEST, NORMALS, RunFolder
from anomaly_core.run.memory import undisturbed
from anomaly_core.run.result import RunResult, RunResults
from anomaly_core.run.splits import Splits, split, unscreened

if TYPE_CHECKING:
    from accelerate import PartialState

log = logging.getLogger(__name__)


def run_experiment(
    config: RunConfig, *, progress: Progress = quiet, resume: bool | str | Path = False, hooks: Hooks | None = None
) -> RunResults:
    """Fit, calibrate and test a detector for each chosen category, and write a folder for each.

    If started by torchrun or accelerate launch, all processes work on one run together.

    Args:
        config: from :meth:`RunConfig.create`.
        progress: shows the progress of long steps; silent by default.
        resume: True resumes the newest run of this config, category by category: complete runs are read, interrupted ones
            continue from their last epoch. A run's folder resumes that run.
        hooks: the observers, in this process only; None means every installed observer.

    Raises:
        AnomalyError: says what cannot be done, where, and the next step.
    """
    processes = process_state(config.base.device)
    hooks = hooks or Hooks(registry)
    hooks.call("anomaly_configure", config=config)
    for metric in config.base.metrics or ():
        registry.metrics[metric].load()  # one that cannot be used is reported before fitting
    spec = registry.datasets[config.data.name].spec
    if spec.noncommercial and processes.is_main_process:
        log.warning("the data set %r is licensed %s: not for commercial use.", config.data.name, spec.license)
    data = build_data(config)
    if cross_fits(config):
        data.config = dataclasses.replace(data.config, holdout=0.0)
    with processes.local_main_process_first():  # a data set may be generated on first access
        categories = data.chosen_categories()
    groups = [categories] if config.data.unified else [[category] for category in categories]
    runs = [_Run(config, data, group, processes, hooks, progress).result(resume) for group in groups]
    return RunResults([run for run in runs if run is not None])


class _Run:
    """One model's run: claim a folder, then fit, calibrate and test the model."""

    def __init__(
        self,
        config: RunConfig,
        data: BaseDataModule,
        categories: list[str],
        processes: PartialState,
        hooks: Hooks,
        progress: Progress,
    ) -> None:
        self.label = "unified" if config.data.unified else categories[0]
        self.config = config.replace(**{"data.category": categories})
        self.data = data
        self.categories = categories
        self.processes = processes
        self.main = processes.is_main_process
        self.hooks = hooks
        self.progress = progress if self.main else quiet
        self.device = choose_device(config.base.device)
        self.variation = Variation.from_config(config.data, config.base.seed)
        self.learns_defects = bool(getattr(registry.models[config.model.name].load(), "uses_anomalous", False))
        if config.data.abnormal_train and not self.learns_defects:
            raise ConfigError(
                f"data.abnormal_train={config.data.abnormal_train} would be ignored: {config.model.name!r} learns from normal "
                "images alone. Leave it out, or choose a method that learns from known defects, such as supersimplenet."
            )
        if self.variation and registry.trainers[config.train.name].load().shuffles:
            raise ConfigError(
                f"data.augment adds copies to a memory, and {config.model.name!r} has none: the trainer {config.train.name!r} "
                "repeats the images epoch by epoch. Leave data.augment out, or choose a method such as PatchCore or PaDiM."
            )

    def result(self, resume: bool | str | Path) -> RunResult | None:
        """The run's results, read from its folder if it is already complete; None outside the main process."""
        with ExitStack() as held:
            run, complete = self._claim(resume, held)
            if complete:
                return self._read(run) if self.main else None
            if not self.main:
                self._fit(run, bool(resume))
                return None
            facts = {"category": self.label, "seed": self.config.base.seed, "processes": self.processes.num_processes}
            if (run.folder / MANIFEST).is_file():  # of the run that is resumed: until they are compared, its images are kept
                facts |= {name: value for name, value in run.manifest().items() if name == "data"}
            with run.recording(self.config, self.hooks, **facts, threads=torch.get_num_threads()):
                result = self._fit_and_test(run, bool(resume))
            self.hooks.call("anomaly_run_end", run=run, results=result)
            return result

    def _claim(self, resume: bool | str | Path, held: ExitStack) -> tuple[RunFolder, bool]:
        """The run's folder, the same in all processes, and whether the run is complete; if it is not, the folder is locked."""
        answer: list[Any] = [None, False]
        if self.main:
            where = (self.config.base.output, self.config.data.name, self.label, self.config.model.name)
            run = self._existing(resume, where) or RunFolder.create(*where)
            if not run.is_complete():
                held.enter_context(run.locked())
            answer = [run.folder, run.is_complete()]  # another process may have completed it while we waited for the lock
        if self.processes.num_processes > 1:
            broadcast_object_list(answer)
        # absolute, in case a plugin changes the working folder
        return RunFolder(Path(answer[0]).absolute()), bool(answer[1])

    def _existing(self, resume: bool | str | Path, where: tuple[str, str, str, str]) -> RunFolder | None:
        """The run to resume, if there is one; RunError if it has other options."""
        if resume is True:
            run = RunFolder.latest(*where, self.config)
            if run is None and (newest := RunFolder.latest(*where)):
                with suppress(AnomalyError):  # a config that cannot be read
                    other = newest.config().differing(self.config)
                    log.warning("no run has these options: a new one starts. The newest, %s, has %s.", newest.folder, other)
            return run
        run = RunFolder.unfinished(resume) if resume else None
        if run and (other := run.config().differing(self.config)):
            step = "leave out what differs, or start a new run without --resume"
            raise RunError(f"the run in {str(resume)!r} is resumed with its own options, and it has {other}: {step}.")
        return run

    def _read(self, run: RunFolder) -> RunResult:
        """The results of a complete run; RunError if its images are others by now."""
        manifest, method = run.manifest(), registry.models[self.config.model.name].load()
        options: dict[str, Any] = {"transductive": bool(manifest.get("transductive"))}
        draw = partial(split if manifest.get("skipped") else unscreened, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run's log has them
            splits = self._images(draw, getattr(method, "fewest_images", 1))
        _require_same(manifest.get("data"), splits, f"the complete run in {str(run.folder)!r}")
        return run.result()

    def _fit_and_test(self, run: RunFolder, resume: bool) -> RunResult:
        modeler, splits, history, normals = self._fit(run, resume)
        run.write_rows(HISTORY, history.rows)
        run.write_state(modeler.state_dict())
        calibration = normals.calibration(self.config.base.false_alarm_rate)
        run.write_json(IMAGES, self.data.reader.to_dict())
        run.write_rows(NORMALS, normals.to_rows())
        run.write_json(CALIBRATION, calibration.to_dict())
        for text in (calibration.warning, normals.warning(calibration)):
            if text:
                warnings.warn(text, stacklevel=2)
        return_memory()  # of the fit, before the test needs its own
        watched: dict[str, Any] = {"device": self.device, "hooks": self.hooks, "progress": self.progress}
        with undisturbed():
            result = test(run, self.config, modeler, calibration, self.data, splits.test, figures=history.figures, **watched)
        if not getattr(self.config.train, "keep_checkpoints", False):
            shutil.rmtree(run.folder / CHECKPOINTS, ignore_errors=True)
        return result

    def _fit(self, run: RunFolder, resume: bool) -> Fitted:
        """The part that all processes execute."""
        fitter = Fitter(
            self.config, self.data, self.categories, self.device, self.hooks, self.progress, self.main, self.variation
        )
        run.facts |= (how := fitter.modeler.computing(self.device))
        if self.main and how:
            log.info(", ".join(f"{name}: {value}" for name, value in how.items()))
        spec, room = fitter.modeler.input_spec, int(min(self.config.data.image_cache, fitter.modeler.image_room))
        self.data.cache = ImageCache(spec.whole if self.data.tiling else spec, room // self.processes.num_processes)
        splits = self._split(run, fitter.modeler)
        if self.main and not self.data.tiling and (note := shrunk(self.data.reader, fitter.modeler.input_spec)):
            run.facts["note"] = note
            log.info(note)  # now, and not with the warnings at the end: fitting may take long
        fitted = fitter.fit(run, splits, resume)
        run.facts |= fitted.modeler.computing(self.device)  # an engine may have failed since
        return fitted

    def _split(self, run: RunFolder, modeler: BaseModeler) -> Splits:
        """The run's images; RunError if a run that is resumed began with others."""
        options: dict[str, Any] = {"meanwhile": partial(modeler.warm_up, self.device), "transductive": modeler.transductive}
        draw = partial(split, **options)
        with self.processes.local_main_process_first():
            splits = self._images(draw, modeler.fewest_images)
        _require_same(run.facts.get("data"), splits, "the run")
        run.facts |= splits.facts
        if self.main:
            run.write_json(MANIFEST, run.facts)  # before the training starts, so that another go compares its images
        return splits

    def _images(self, draw: Callable[..., Splits], fewest: int) -> Splits:
        """What ``draw`` makes of the data set."""
        try:
            return draw(self.data, self.categories, fewest, learns_defects=self.learns_defects)
        except (AttributeError, TypeError, ValueError) as error:  # no list, or no samples in it
            if registry.culprit(error):
                raise
            cause = f"the samples of {type(self.data).__name__} are wrong: {described(error)}"
            raise registry.failed(self.data, cause) from error


def _require_same(before: dict[str, Any] | None, splits: Splits, run: str) -> None:
    """Raise RunError if a run has seen other images than these."""
    now = splits.facts["data"]
    if before not in (None, now):
        began, has = (
            ", ".join(f"{facts.get(part)} {part}" for part in ("fit", "held_out", "test")) for facts in (before or {}, now)
        )
        changed = f"other images ({began}; now {has}): some were added, removed or changed"
        raise RunError(f"{run} began with {changed}. Put them back, or start a new run without --resume.")
