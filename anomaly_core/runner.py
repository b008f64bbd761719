"""run_experiment(config): the story of one run, readable top to bottom."""

from __future__ import annotations

import hashlib
import platform
import resource
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list, set_seed

from anomaly_core.backbones import Backbones
from anomaly_core.base.data import BaseDataModule
from anomaly_core.base.modeler import BaseModeler
from anomaly_core.base.tiled import scorer
from anomaly_core.base.trainer import BaseTrainer, Progress, RunContext, quiet
from anomaly_core.calibration import Calibration, calibrate
from anomaly_core.config import RunConfig
from anomaly_core.engines import use_engine
from anomaly_core.errors import DataError
from anomaly_core.experiment import CALIBRATION, CHECKPOINTS, CONFIG, Experiment
from anomaly_core.features import FeatureCache, frozen_networks
from anomaly_core.hookspecs import Hooks
from anomaly_core.judge import Judge
from anomaly_core.processes import is_launched, launch, state
from anomaly_core.progress import warn
from anomaly_core.registry import registry
from anomaly_core.results import ExperimentResult, Row, RunResult
from anomaly_core.screening import screen, warnings_of
from anomaly_core.types import Sample

if TYPE_CHECKING:
    from accelerate import PartialState


def run_experiment(
    config: RunConfig,
    *,
    progress: Progress = quiet,
    resume: bool | str | Path = False,
    devices: int = 1,
    hooks: Hooks | None = None,
) -> ExperimentResult:
    """Fit, calibrate and judge a detector for each chosen category, and write a folder for each.

    Args:
        config: as :meth:`RunConfig.create` or :func:`load_run` gives it.
        progress: shows how far long steps have come; silent by default.
        resume: True goes on with the newest run of this config, category by category: what is complete is read, what was
            stopped goes on from its last epoch. A run's folder goes on with that one.
        devices: so many processes on this machine, one a device. Started by torchrun or accelerate launch, the processes that
            are there are used.
        hooks: who observes it, in this process alone; None means every installed observer.

    Raises:
        AnomalyError: what cannot be done, where, and the next step.
    """
    if devices > 1 and not is_launched():
        folders = launch(devices, _launched, config.to_dict(), progress, resume, registry.blocked)
        return ExperimentResult([RunResult.load(folder) for folder in folders])
    processes = state(config.base.device)
    hooks = hooks or Hooks(registry, on_failure=warn)
    hooks.call("anomaly_configure", config=config)
    component = registry.datasets[config.data.name]
    data: BaseDataModule = component.build(config.data, seed=config.base.seed, spec=component.spec)
    if component.spec.noncommercial and processes.is_main_process:
        warn(f"the data set {config.data.name!r} is licensed {component.spec.license}: not for commercial use.")
    with processes.local_main_process_first():  # a data set may be made when it is first looked at
        categories = data.chosen_categories()
    groups = [categories] if config.data.unified else [[category] for category in categories]
    runs = [_Run(config, data, group, processes, hooks, progress).result(resume) for group in groups]
    return ExperimentResult([run for run in runs if run is not None])


def _launched(config: dict[str, Any], progress: Progress, resume: bool | str | Path, blocked: frozenset[str]) -> list[str]:
    """The same in one of several processes; the folders."""
    registry.block(*blocked)
    result = run_experiment(RunConfig.create(config=config), progress=progress, resume=resume)
    return [str(run.folder) for run in result.runs]


@dataclass
class _Splits:
    """The images of a run."""

    fit: list[Sample]
    held_out: list[Sample]
    test: list[Sample]

    def facts(self) -> Row:
        """What the manifest says of them."""
        counts = {"fit": len(self.fit), "held_out": len(self.held_out), "test": len(self.test)}
        return {**counts, "digest": _digest([*self.fit, *self.held_out, *self.test])}


class _Run:
    """One model's run: the folder is made, the story told, its end written."""

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
        self.main = processes.is_main_process
        self.processes = processes
        self.hooks = hooks
        self.progress = progress
        self.manifest: Row = {}
        self.begun = time.perf_counter()

    def result(self, resume: bool | str | Path) -> RunResult | None:
        """What the run found, from its folder where it is complete already; None in a process that is not the main one."""
        with ExitStack() as held:
            experiment, complete = self._folder(resume, held)
            if complete:
                return RunResult.load(experiment.folder) if self.main else None
            if not self.main:
                self._fit(experiment, bool(resume))
                return None
            return self._record(experiment, bool(resume))

    def _record(self, experiment: Experiment, resume: bool) -> RunResult:
        self.begun = time.perf_counter()
        self.manifest = {"status": "running", "category": self.label, "seed": self.config.base.seed, "started": time.time()}
        self.manifest |= {"processes": self.processes.num_processes, "versions": _versions()}
        experiment.write(CONFIG, self.config.to_yaml())
        try:
            with experiment.recorded(self.manifest):
                self.hooks.call("anomaly_run_start", run=experiment)
                result = self._fit_and_judge(experiment, resume)
        except BaseException as error:
            self.hooks.call("anomaly_run_error", run=experiment, error=error)
            raise
        self.hooks.call("anomaly_run_end", run=experiment, results=result)
        return result

    def _folder(self, resume: bool | str | Path, held: ExitStack) -> tuple[Experiment, bool]:
        """The run's folder, the same in all processes, and whether the run is complete; held where it is not."""
        answer: list[Any] = [None, False]
        if self.main:
            where = (self.config.base.output, self.config.data.name, self.label, self.config.model.name)
            found = None
            if resume is True:
                found = Experiment.latest(*where, self.config)
            elif resume:
                found = Experiment.unfinished(resume)
            experiment = found or Experiment.create(*where)
            if not experiment.is_complete():
                held.enter_context(experiment.locked())
            answer = [experiment.folder, experiment.is_complete()]  # which the process that held it may have brought about
        if self.processes.num_processes > 1:
            broadcast_object_list(answer)
        return Experiment(answer[0]), bool(answer[1])

    def _fit_and_judge(self, experiment: Experiment, resume: bool) -> RunResult:
        trainer, modeler, splits, figures = self._fit(experiment, resume)
        calibration = self._calibrate(trainer, modeler, splits.held_out)
        experiment.write_json(CALIBRATION, calibration.to_dict())
        if calibration.warning:
            warnings.warn(calibration.warning, stacklevel=2)

        judge = Judge(self.config, calibration, self.categories, experiment, modeler.input_spec)
        start = time.perf_counter()
        loader = self.data.images(splits.test, modeler.input_spec)
        whole = scorer(modeler, self.config.data)
        for batch, prediction in trainer.predict(whole, loader, "scoring test images", len(loader)):
            judge.update(batch, prediction)
        rate = len(splits.test) / (time.perf_counter() - start)
        result = judge.finish(self.label, {**figures}, rate, self.manifest["fit_seconds"])
        self.manifest |= {"test_images_per_second": rate, "peak_memory_mb": _peak_memory_mb()}
        # not the clock, which may have been set meanwhile
        self.manifest["finished"] = self.manifest["started"] + time.perf_counter() - self.begun
        if not getattr(self.config.train, "keep_checkpoints", False):
            shutil.rmtree(experiment.folder / CHECKPOINTS, ignore_errors=True)
        return result

    def _fit(self, experiment: Experiment, resume: bool) -> tuple[BaseTrainer, BaseModeler, _Splits, dict[str, float]]:
        """The part that all processes share."""
        config = self.config
        set_seed(config.base.seed)
        _forget_peak_memory()
        backbones = Backbones(config.base.backbones)
        modeler: BaseModeler = registry.models[config.model.name].build(config.model, backbones=backbones)
        use_engine(modeler, config.base.engine)
        trainer: BaseTrainer = registry.trainers[config.train.name].build(
            config.train, device=config.base.device, progress=self.progress if self.main else quiet
        )
        splits = self._split()
        self.manifest["data"] = splits.facts()
        again = trainer.shuffles
        start = time.perf_counter()
        held_out = self.data.loader(splits.held_out, modeler.input_spec, keep=again) if splits.held_out else None
        train = self.data.loader(splits.fit, modeler.input_spec, shuffle=again, keep=again)
        context = RunContext(config.base.seed, experiment.folder, experiment.write, resume)
        if self.main:
            context.log = lambda row, step: self.hooks.call("anomaly_log", run=experiment, metrics=row, step=step)
        with self._cached(modeler, trainer):
            history = trainer.fit(modeler, train, held_out, context)
        self.manifest["fit_seconds"] = time.perf_counter() - start
        if self.main:
            experiment.write_rows("history.csv", history.rows)
            experiment.save_state(modeler.state_dict())
        return trainer, modeler, splits, history.figures

    @contextmanager
    def _cached(self, modeler: BaseModeler, trainer: BaseTrainer) -> Iterator[None]:
        """Frozen features are computed once: in memory while training lasts, on disk for this run and all others."""
        base = self.config.base
        networks = frozen_networks(modeler)
        if base.feature_cache == "disk":
            folder = Path(base.cache_folder or Path(base.output) / ".cache" / "features").expanduser()
            for network in networks:
                network.cache = FeatureCache(base.cache_budget, folder / network.identity())
            yield
            return
        asked = base.feature_cache == "ram" or (base.feature_cache == "auto" and trainer.device.type == "cpu")
        for network in networks if asked and trainer.shuffles else ():
            network.cache = FeatureCache(base.cache_budget // len(networks))
        yield
        for network in networks:
            network.cache = None

    def _split(self) -> _Splits:
        with self.processes.local_main_process_first():
            parts = [self.data.split(category) for category in self.categories]
            test = [sample for category in self.categories for sample in self.data.test_samples(category)]
        if not test:
            raise DataError(
                f"category {self.label!r} of {self.config.data.name!r} has no test image under {str(self.data.root)!r}."
            )
        return self._screened(
            {
                "fit": [sample for fit, _ in parts for sample in fit],
                "held_out": [sample for _, held in parts for sample in held],
                "test": test,
            }
        )

    def _screened(self, parts: dict[str, list[Sample]]) -> _Splits:
        """The images without those that cannot be used, which the manifest lists; DataError where none is left."""
        found = screen([sample for samples in parts.values() for sample in samples], self.config.data.on_bad_image)
        self.manifest["skipped"] = [{"path": str(item.path), "reason": item.reason} for item in found.skipped]
        bad = {item.path for item in found.skipped}
        kept = {name: [sample for sample in samples if sample.path not in bad] for name, samples in parts.items()}
        for name in ("fit", "test"):
            if not kept[name]:
                raise DataError(
                    f"none of the {len(parts[name])} {name} images of {self.label!r} can be used: {found.skipped[0].reason}"
                )
        splits = _Splits(**kept)
        for text in warnings_of(found, splits.fit, splits.held_out, splits.test):
            warnings.warn(text, stacklevel=2)
        return splits

    def _calibrate(self, trainer: BaseTrainer, modeler: BaseModeler, held_out: list[Sample]) -> Calibration:
        scores, maxima, medians = [], [], []
        if held_out:
            loader = self.data.images(held_out, modeler.input_spec)
            whole = scorer(modeler, self.config.data)
            for _, prediction in trainer.predict(whole, loader, "calibrating", len(loader)):
                scores.append(prediction.scores)
                if prediction.maps is not None:
                    flat = prediction.maps.flatten(1)
                    maxima.append(flat.amax(dim=1))
                    medians.append(flat.median(dim=1).values)
        joined = [torch.cat(parts) if parts else None for parts in (scores, maxima, medians)]
        return calibrate(
            joined[0] if joined[0] is not None else torch.empty(0),
            joined[1],
            joined[2],
            false_alarm_rate=self.config.base.false_alarm_rate,
        )


def _versions() -> dict[str, str]:
    ours = {component.distribution: component.version for component in registry.components()}
    libraries = ("torch", "torchvision", "timm", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in libraries}, **ours}


def _digest(samples: list[Sample]) -> str:
    """Of the files' names and sizes: tells whether two runs saw the same data, without reading it all."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.category}/{sample.path.name}:{sample.path.stat().st_size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _forget_peak_memory() -> None:
    """On Linux each run of a process has a peak of its own; elsewhere it stays that of the greatest run so far."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_mb() -> float:
    with suppress(OSError, StopIteration):
        # getrusage would count in what was there before this program was started.
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
