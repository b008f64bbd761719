"""Fitting a run's detector, and scoring normal images by detectors that did not see them."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, NamedTuple, cast

import torch
from accelerate.utils import broadcast_object_list, set_seed
from torch.utils.data import DataLoader, Subset

from anomaly_core.base.data import BaseDataModule, SampleDataset
from anomaly_core.base.modeler import BaseModeler, MemoryModeler, ModelContext
from anomaly_core.base.trainer import BaseTrainer, History, Progress, RunContext
from anomaly_core.config.resolve import RunConfig
from anomaly_core.discovery import registry
from anomaly_core.errors import ConfigError, quoted
from anomaly_core.hooks import Hooks
from anomaly_core.imaging.variation import Variation
from anomaly_core.run.cross_fitting import NormalScores, can_leave_out, cross_fits, folds, left_out
from anomaly_core.run.defects import balanced
from anomaly_core.run.folder import CHECKPOINTS, RunFolder
from anomaly_core.run.memory import undisturbed
from anomaly_core.run.scoring import score, tiled
from anomaly_core.run.splits import Splits
from anomaly_core.types import Batch, Sample

SOME = 100  # images that a modeler may look at before it is fitted
log = logging.getLogger(__name__)


class Fitted(NamedTuple):
    """A fitted detector, the images that it was fitted on, and the scores of normal images that no detector of theirs saw."""

    modeler: BaseModeler
    splits: Splits
    history: History
    normals: NormalScores


@dataclass
class Fitter:
    """Fits detectors on a run's images. All processes of a run call it; only the main one (``main``) scores images.

    Attributes:
        modeler, trainer: of the run's own detector.
        defects: the known ones, which each detector learns.
    """

    config: RunConfig
    data: BaseDataModule
    categories: list[str]
    device: torch.device
    hooks: Hooks
    progress: Progress
    main: bool
    variation: Variation | None

    def __post_init__(self) -> None:
        self.defects: list[Sample] = []
        self.modeler, self.trainer = self._built()

    def fit(self, run: RunFolder, splits: Splits, resume: bool) -> Fitted:
        """Fit on the images to fit on; with ``data.drop_suspects`` again, without those whose scores stand out.

        ConfigError if these are to be dropped, and the data set itself sets the images apart that get a score.
        """
        crosses, drops = cross_fits(self.config) and not splits.held_out, self.config.data.drop_suspects
        if self.modeler.transductive:
            if drops or self.variation:
                raise ConfigError(
                    f"data.{'drop_suspects' if drops else 'augment'} is for normal images that are learnt, and "
                    f"{self.config.model.name!r} learns none: it compares the test images with one another. Leave it out."
                )
            crosses = False
        if drops and not crosses:
            raise ConfigError(
                f"data.drop_suspects needs a score of every image that is learnt, and {self.config.data.name!r} has normal "
                "images of its own for the threshold. Set data.validation=false, or leave data.drop_suspects out."
            )
        if self.config.base.calibration == "cross" and splits.held_out:
            warnings.warn(
                f"base.calibration=cross does nothing here: {self.config.data.name!r} has {len(splits.held_out)} normal images "
                "of its own for the threshold, which are not learnt (data.validation).",
                stacklevel=2,
            )
        self.defects = self._learnable(run, splits.abnormal)
        history, normals = self._fit(run, splits, resume, crosses, run)
        if drops and (odd := self._suspects(run, normals)):
            kept = [sample for sample in splits.fit if str(sample.path) not in odd]
            splits, dropped = replace(splits, fit=kept), normals.suspects()
            run.facts["dropped"] = len(odd)
            self.modeler, self.trainer = self._built()
            # Of its own: a run that is resumed must not take the checkpoints of one fit for those of the other.
            checkpoints = RunFolder(run.folder / CHECKPOINTS / "without-suspects")
            history, normals = self._fit(run, splits, resume, crosses, checkpoints)
            normals.dropped = dropped
        return Fitted(self.modeler, splits, history, normals)

    def _fit(
        self, run: RunFolder, splits: Splits, resume: bool, crosses: bool, checkpoints: RunFolder
    ) -> tuple[History, NormalScores]:
        of_run = RunContext(self.config.base.seed, checkpoints.folder, checkpoints.write, resume)
        if self.main:
            of_run.log = lambda row, step: self.hooks.call("anomaly_log", run=run, metrics=row, step=step)
        with self.modeler.fitting(self.trainer.shuffles or crosses), undisturbed():
            begun = time.perf_counter()
            history, collected = self._train(self.modeler, self.trainer, splits.fit, splits.held_out, of_run, keep=crosses)
            fitted = time.perf_counter()
            run.facts["fit_seconds"] = fitted - begun
            if crosses:
                normals = self._cross_fit(run, splits.fit, collected, resume, checkpoints)
            else:
                normals = NormalScores(run, self.hooks)
                self._score(normals, self.modeler, splits.held_out)
            run.facts["calibration_seconds"] = time.perf_counter() - fitted
        return history, normals

    def _cross_fit(
        self, run: RunFolder, samples: list[Sample], collected: SampleDataset, resume: bool, checkpoints: RunFolder
    ) -> NormalScores:
        """The scores of all normal images, each by a detector that did not see it; none if there are too few images."""
        modeler, count = self.modeler, self.config.base.folds
        parts = folds(samples, count, self.config.base.seed)
        if len(parts) < 2 or len(samples) - max(map(len, parts)) < modeler.fewest_images:
            warnings.warn(
                "there are too few normal images to score any by a detector that did not see it: the run has no threshold, and "
                f"its images get scores but no verdict. Add normal images: with {modeler.fewest_images + 1} it has one.",
                stacklevel=2,
            )
            return NormalScores(run, self.hooks, "folds")
        copies = self.variation.copies if self.variation else 0
        if isinstance(modeler, MemoryModeler) and can_leave_out(modeler, self.data, samples, copies):
            normals = NormalScores(run, self.hooks, "leave_one_out")
            if self.main:
                scored = left_out(modeler, self.data, samples, collected, self.device, self.progress)
                normals.take(scored, modeler.input_spec)
            return normals
        seconds = run.facts["fit_seconds"] * (len(parts) - 1)
        if self.main:
            took = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
            log.info("cross-fitting fits %d more detectors for the threshold: about %s.", len(parts), took)
        normals = NormalScores(run, self.hooks, "folds")
        for number, part in enumerate(parts, 1):
            chosen = set(part)
            others = [sample for i, sample in enumerate(samples) if i not in chosen]
            own = RunFolder(checkpoints.folder / CHECKPOINTS / f"fold-{number}")
            of_fold = RunContext(self.config.base.seed, own.folder, own.write, resume)
            modeler, trainer = self._built(f"fold {number} of {len(parts)}: ")
            with modeler.fitting(trainer.shuffles):
                self._train(modeler, trainer, others, [], of_fold)
            self._score(normals, modeler, [samples[i] for i in part])
        return normals

    def _score(self, normals: NormalScores, modeler: BaseModeler, samples: list[Sample]) -> None:
        if samples and self.main:
            loader = self.data.images(samples, modeler.input_spec)
            batches = self.progress(loader, "calibrating", len(loader))
            normals.take(score(tiled(modeler, self.config.data), batches, self.device), modeler.input_spec)

    def _built(self, prefix: str = "") -> tuple[BaseModeler, BaseTrainer]:
        """A modeler and its trainer, each time from the same random numbers."""
        config = self.config
        set_seed(config.base.seed)
        context = ModelContext(categories=tuple(self.categories), prompt=config.data.prompt)
        modeler: BaseModeler = registry.models[config.model.name].build(config.model, context)

        def progress(items: Iterable[Any], description: str | Callable[[], str], total: int | None = None) -> Iterable[Any]:
            words = description if callable(description) else lambda: description
            return self.progress(items, lambda: prefix + words(), total)

        trainer = registry.trainers[config.train.name].build(config.train, self.device, progress if prefix else self.progress)
        return modeler, cast(BaseTrainer, trainer)

    def _train(
        self,
        modeler: BaseModeler,
        trainer: BaseTrainer,
        samples: list[Sample],
        held_out: list[Sample],
        of_run: RunContext,
        keep: bool = False,
    ) -> tuple[History, SampleDataset]:
        """Fit a modeler; ``keep``: decoded images stay in memory, for they are needed again. What it was fitted on."""
        repeated = trainer.shuffles
        validation = self.data.loader(held_out, modeler.input_spec, keep=repeated) if held_out else None
        options: dict[str, Any] = {"shuffle": repeated, "keep": keep or repeated, "variation": self.variation}
        train = self.data.loader(balanced(samples, self.defects), modeler.input_spec, **options)
        modeler.prepare_fitting(_some_of(train))
        history = _checked(trainer.fit(modeler, train, validation, of_run), trainer, modeler)
        return history, cast(SampleDataset, train.dataset)

    def _learnable(self, run: RunFolder, known: list[Sample]) -> list[Sample]:
        """The known defects that can be learnt, in all processes; the run's log says how many."""
        learnt = [sample for sample in known if not self.data.tiling or sample.mask_path is not None]
        if unmarked := [sample for sample in known if sample not in learnt]:
            warnings.warn(
                f"data.tile: {len(unmarked)} of {len(known)} known defects, such as {str(unmarked[0].path)!r}, are not "
                "learnt: without a mask, nobody knows which of an image's tiles is defective. Draw it, or leave data.tile out.",
                stacklevel=2,
            )
        if learnt and self.main:
            masked = sum(sample.mask_path is not None for sample in learnt)
            also = f"; {aside} of the same parts do not test" if (aside := run.facts.get("aside")) else ""
            log.info("learns from %d known defects too, %d with a mask: they do not test%s.", len(learnt), masked, also)
        return learnt

    def _suspects(self, run: RunFolder, normals: NormalScores) -> set[str]:
        """The paths of the images whose scores stand out, in all processes; the run's log names them."""
        odd: list[list[str]] = [[]]
        if self.main:
            normals.calibration(self.config.base.false_alarm_rate)
            odd = [[row.path for row in normals.suspects()]]
        (paths,) = broadcast_object_list(odd)  # only the main process has scores
        if paths and self.main:
            warnings.warn(
                f"data.drop_suspects: {len(paths)} of {len(normals.rows)} normal images are left out, because their scores "
                f"stand out: {', '.join(paths[:3])}{', ...' * (len(paths) > 3)}. `anomaly suspects {quoted(run.folder)}` shows "
                "them.",
                stacklevel=2,
            )
        return set(paths)


def _some_of(train: DataLoader[Batch]) -> DataLoader[Batch]:
    """At most :data:`SOME` of the images or tiles, evenly spread; nothing is decoded before it is iterated."""
    views = len(train.dataset)  # type: ignore[arg-type]  # has a length
    some = Subset(train.dataset, range(0, views, max(1, -(-views // SOME))))
    return DataLoader(some, train.batch_size, num_workers=train.num_workers, collate_fn=train.collate_fn)


def _checked(history: Any, trainer: BaseTrainer, modeler: BaseModeler) -> History:
    """What a trainer returned, if it is a History; its figures that are no finite numbers are left out."""
    if not isinstance(history, History):
        raise registry.failed(trainer, f"{type(trainer).__name__}.fit returned {type(history).__name__}, not a History")
    figures: dict[str, Any] = history.figures
    for name, value in list(figures.items()):
        if not isinstance(value, Real) or not math.isfinite(value):
            warnings.warn(f"{name!r} of {type(modeler).__name__} is no finite number, and left out.", stacklevel=2)
            del figures[name]
    return history
