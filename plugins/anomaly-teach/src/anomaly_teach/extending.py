"""More normal images for a finished run: its memory is extended and its threshold set anew, as a new run."""

from __future__ import annotations

import hashlib
import shutil
import time
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomaly_core import (
    CALIBRATION,
    CONFIG,
    IMAGES,
    NORMALS,
    BaseDataModule,
    BaseTrainer,
    Calibration,
    History,
    Hooks,
    MemoryModeler,
    NormalImage,
    Progress,
    RunConfig,
    RunError,
    RunFolder,
    RunResult,
    Variation,
    build_data,
    excluded,
    folder_name,
    images_to_test,
    inside,
    mark_suspects,
    quiet,
    quoted,
    read_untrusted,
    registry,
    test,
)
from anomaly_predict import RunDetector, load_run
from anomaly_teach.extend_images import Known, NewImage, named, new_images, require_not_defective
from anomaly_teach.extend_scores import look_at, recalibrated, scored

HISTORY, EXCLUDED = "history.csv", "excluded.txt"


@dataclass(frozen=True)
class Learnt:
    """An image that a run has learnt, with its score before and after."""

    path: str
    before: float
    after: float


@dataclass(frozen=True)
class Extension:
    """A run that knows more normal images than its parent.

    Attributes:
        run: the new run.
        parent: the folder of the old one.
        images: what it has learnt.
        before, after: the calibration of the parent and of the new run.
        figures: of the method, such as the size of its memory.
        result: on the parent's test set, if it was tested.
        seconds: what it took, without the test.
    """

    run: RunFolder
    parent: Path
    images: list[Learnt]
    before: Calibration
    after: Calibration
    figures: dict[str, float]
    result: RunResult | None
    seconds: float


def extend(
    folder: str | Path,
    images: Iterable[Path],
    *,
    false_alarms: bool = False,
    accept: bool = False,
    with_test: bool = False,
    output: str | Path | None = None,
    device: str = "auto",
    progress: Progress = quiet,
    hooks: Hooks | None = None,
    verify: bool = True,
) -> Extension:
    """Let the memory of a finished run take in more normal images, and set its threshold anew, as a new run.

    The new images are scored by the old detector, which has not seen them, before they are learnt: their scores join those that
    set the threshold. The old scores came from detectors with fewer images and are no lower than the new one's would be, so
    that the threshold errs towards fewer false alarms. Where the parent's threshold was not chosen for a rate, it stays.

    Args:
        folder: the parent's folder; nothing in it changes.
        images: normal images; those that the run has learnt before are left out.
        false_alarms: they were chosen for their scores, so that these say nothing of other normal images: they enter the
            memory alone, and not the scores that set the threshold.
        accept: learn images too whose score stands out, or which the run's test set labels anomalous.
        with_test: score the parent's test set with the new run.
        output: the folder below which the run is written; None: beside its parent.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        progress: shows the progress.
        hooks: the observers; None means every installed observer.
        verify: whether the parent's files must be as it wrote them, by their SHA-256.

    Raises:
        RunError: the folder is no complete run, or its method has no memory that can be extended.
        DataError: an image cannot be used, none is new, or one looks anomalous and ``accept`` is False.
    """
    from accelerate.utils import set_seed

    start = time.perf_counter()
    parent = RunFolder.open(folder, verify)
    config = parent.config()
    manifest = parent.manifest()
    _require_memory(config, parent, manifest.get("evaluates"))
    if (parent.folder / NORMALS).is_file():
        parent.normals()  # damaged: said before the images are scored
    set_seed(config.base.seed)  # what the method draws when it is made, it draws as in the fit
    detector = load_run(folder, device, verify=verify)
    assert isinstance(detector.modeler, MemoryModeler)
    hooks = hooks or Hooks(registry)
    hooks.call("anomaly_configure", config=config)
    data = build_data(config)
    data.reader = detector.reader
    new = new_images(images, manifest["category"], data, Known(parent, data, detector.modeler.fewest_images))
    if not accept:
        require_not_defective(new)
    rows = scored(detector, data, new, progress)
    look_at(rows, detector.calibration, false_alarms=false_alarms, accept=accept)
    run = RunFolder.create(_place(parent, config) if output is None else str(output), *_names(config, manifest["category"]))
    facts = _facts(manifest, parent, new, false_alarms)
    work = _Work(run, parent, detector, config, data, new, rows, false_alarms, with_test, hooks, progress, start)
    try:
        with run.locked(), run.recording(config, hooks, **facts):
            extension = work.done()
    except BaseException:
        shutil.rmtree(run.folder, ignore_errors=True)  # `anomaly run --resume` would fit it anew: nothing is lost with it
        with suppress(OSError):
            run.folder.parent.rmdir()
        raise
    hooks.call("anomaly_run_end", run=run, results=extension.result or run.result())
    return extension


@dataclass
class _Work:
    """What is written into the new run."""

    run: RunFolder
    parent: RunFolder
    detector: RunDetector
    config: RunConfig
    data: BaseDataModule
    new: list[NewImage]
    rows: list[NormalImage]
    false_alarms: bool
    with_test: bool
    hooks: Hooks
    progress: Progress
    start: float

    def done(self) -> Extension:
        run, before = self.run, self.detector.calibration
        config = self._tested_config()
        history = self._learn()
        counted = [row for row, image in zip(self.rows, self.new, strict=True) if image.part != "held_out"]
        after = before if self.false_alarms else recalibrated(before, counted, config.base.false_alarm_rate)
        if after.warning:
            warnings.warn(after.warning, stacklevel=2)
        run.write_rows(HISTORY, self._history(history))
        run.write_state(self.detector.modeler.state_dict())
        run.write_json(IMAGES, self.data.reader.to_dict())
        run.write_json(CALIBRATION, after.to_dict())
        if (self.parent.folder / NORMALS).is_file():
            rows = [*map(self._with_picture, self.parent.normals()), *([] if self.false_alarms else counted)]
            mark_suspects(row for row in rows if not row.dropped)
            run.write_rows(NORMALS, [row.to_row() for row in rows])
        learnt = self._learnt(after)
        seconds = run.facts["fit_seconds"] = time.perf_counter() - self.start
        figures, result = dict(history.figures), None
        watched: dict[str, Any] = {"device": self.detector.device, "hooks": self.hooks, "progress": self.progress}
        if self.with_test:
            data = build_data(config)
            data.reader = self.data.reader
            no_test = {Path(entry["path"]).resolve() for entry in run.facts.get("skipped", [])}
            samples = [s for s in images_to_test(data, data.chosen_categories()) if s.path.resolve() not in no_test]
            result = test(run, config, self.detector.modeler, after, data, samples, figures=figures, **watched)
        else:
            run.facts["test_images_per_second"] = 0.0
            run.write_result(
                RunResult(run.folder, run.facts["category"], {}, figures, [], after, 0.0, seconds), dict[str, Any]()
            )
        return Extension(run, self.parent.folder, learnt, before, after, figures, result, seconds)

    def _tested_config(self) -> RunConfig:
        """The run's config, in which images that tested and are learnt now do not test any more."""
        tested = [str(image.double.path.absolute()) for image in self.new if image.part == "test" and image.double is not None]
        config, others = self.config, self.parent.manifest().get("threshold_images", [])  # by costs, in `anomaly threshold`
        if tested:
            warnings.warn(
                f"images that were in the test set are learnt, and test no more ({len(tested)}, listed for data.exclude in "
                f"{EXCLUDED} in the new run's folder): {named(tested)}.",
                stacklevel=3,
            )
        if tested or others:
            lines = [*excluded(self.data, strict=False), *(str(Path(path).absolute()) for path in others), *tested]
            text = "# Learnt or used for the threshold after the fit, and what the run left out before: none of these tests.\n"
            self.run.write(EXCLUDED, (text + "".join(f"{line}\n" for line in lines)).encode("utf-8", "surrogateescape"))
            config = config.replace(**{"data.exclude": str((self.run.folder / EXCLUDED).absolute())})
        # The same options as its parent's, which `anomaly run --resume` shall find and not this run: the text differs.
        note = f"# Written by `anomaly extend`: its memory holds {len(self.new)} images more than these options name.\n"
        self.run.write(CONFIG, note + config.to_yaml())
        return config

    def _with_picture(self, row: NormalImage) -> NormalImage:
        """A row of the parent's with its picture, if that is there."""
        if row.picture:
            try:
                self.run.write(row.picture, read_untrusted(inside(self.parent.folder, row.picture)))
            except OSError:
                row.picture = ""
        return row

    def _learn(self) -> History:
        """Collect the new images as those of the fit were, by its trainer, into the memory."""
        modeler, config = self.detector.modeler, self.config
        assert isinstance(modeler, MemoryModeler)
        trainer: BaseTrainer = registry.trainers[config.train.name].build(config.train, self.detector.device, self.progress)
        variation = Variation.from_config(config.data, config.base.seed)
        loader = self.data.loader([image.sample for image in self.new], modeler.input_spec, variation=variation)
        modeler.reopen()
        return trainer.fit(modeler, loader, None)

    def _history(self, history: History) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [dict(row) for row in self.parent.read_rows(HISTORY)]
        return [*rows, *({**row, "epoch": float(len(rows) + number)} for number, row in enumerate(history.rows, 1))]

    def _learnt(self, after: Calibration) -> list[Learnt]:
        """Each image with both scores; a false alarm that still is one is told."""
        scores = [row.score for row in scored(self.detector, self.data, self.new, self.progress)]
        learnt = [Learnt(i.path, row.score, value) for i, row, value in zip(self.new, self.rows, scores, strict=True)]
        if self.false_alarms and (still := [one.path for one in learnt if after.is_anomalous(one.after)]):
            warnings.warn(
                f"{len(still)} of the images exceed the threshold still, though they were learnt: {named(still)}. "
                "`anomaly threshold` shows what a higher one costs.",
                stacklevel=2,
            )
        return learnt


def _require_memory(config: RunConfig, parent: RunFolder, evaluates: str | None) -> None:
    """RunError if the method cannot take in more images, or the folder is that of a test of a run."""
    if evaluates:
        raise RunError(f"{str(parent.folder)!r} is a test of a finished run, and learnt nothing. Give that run: {evaluates}")
    method = registry.models[config.model.name].load()
    if isinstance(method, type) and issubclass(method, MemoryModeler) and method.reopen is not MemoryModeler.reopen:
        return
    raise RunError(
        f"{config.model.name!r} cannot take in more images once it is fitted, as patchcore and padim can. Fit it anew with the "
        f"new images among the others: `anomaly run --config {quoted(parent.folder / CONFIG)}`, with them in its data set."
    )


def _facts(manifest: dict[str, Any], parent: RunFolder, new: list[NewImage], false_alarms: bool) -> dict[str, Any]:
    """What the manifest says of the new run."""
    added = [{"path": image.path, "sha256": image.digest, "false_alarm": false_alarms} for image in new]
    digest = hashlib.sha256("".join(sorted(image.digest for image in new)).encode()).hexdigest()
    kept: dict[str, Any] = {
        name: manifest[name] for name in ("seed", "skipped", "without_mask", "dropped", "excluded") if name in manifest
    }
    facts: dict[str, Any] = {"category": manifest["category"], "parent": str(parent.folder.absolute()), **kept}
    facts |= {"added": [*manifest.get("added", []), *added], "added_digest": digest}
    if images := manifest.get("data"):
        whole = hashlib.sha256(f"{images.get('digest')}{digest}".encode()).hexdigest()
        facts["data"] = {**images, "fit": int(images.get("fit", 0)) + len(new), "digest": whole}
    return facts


def _names(config: RunConfig, category: str) -> tuple[str, str, str]:
    return config.data.name, category, config.model.name


def _place(parent: RunFolder, config: RunConfig) -> str:
    """The folder below which runs lie: the parent's, if it lies as a run wrote it."""
    folder = parent.folder.absolute()
    own = tuple(map(folder_name, _names(config, parent.manifest()["category"])))
    return str(folder.parents[3]) if len(folder.parents) > 3 and folder.parts[-4:-1] == own else config.base.output
