"""Teaching: the sets, jobs and trials of all products of a service."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from anomaly_core import AnomalyError, Calibration, DataError, RunConfig, RunError, folder_name
from anomaly_serve.records import Job, Settings, Version
from anomaly_serve.teaching.jobs import Jobs, JobStore, Running
from anomaly_serve.teaching.process import WorkerProcess
from anomaly_serve.teaching.sets import ImageSet, Limits, Refused, Sets, Taken
from anomaly_serve.teaching.trial import History, Trial, cases, compared, marked

FEWEST = 3  # normal images: two to learn from, of which each is scored without itself, and one to test on
MODEL, PRESET = "patchcore", "edge"


class TeachingStore(JobStore, History, Protocol):
    """What teaching needs of the store."""

    def versions(self, product: str) -> list[Version]: ...
    def version(self, product: str, number: int) -> Version | None: ...
    def active(self, product: str) -> Version | None: ...
    def settings(self, product: str, version: int) -> list[Settings]: ...
    def keep_state(self, key: str, value: dict[str, Any]) -> None: ...
    def state(self, key: str) -> dict[str, Any] | None: ...


class TeachingService(Protocol):
    """What teaching needs of the service."""

    @property
    def store(self) -> Any: ...
    def add_version(self, product: str, path: Path, *, parent: int | None, who: str, note: str) -> Version: ...
    def activate(self, product: str, number: int | None, who: str) -> Any: ...


@dataclass(frozen=True)
class Fit:
    """What a fit is asked for: a method, its preset, and options over that, such as ``{"model.image_size": [336, 448]}``."""

    model: str = MODEL
    preset: str = PRESET
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


class Teaching:
    """What the page *Teach* does, for all products.

    Args:
        service: whose products are taught.
        folder: where sets, runs and logs are kept.
        limits: of the sets.
    """

    def __init__(self, service: TeachingService, folder: Path, limits: Limits | None = None) -> None:
        self.service = service
        self.store: TeachingStore = service.store
        self.folder = folder
        self.sets = Sets(folder, limits)
        self.jobs = Jobs(self.store, self._work, lambda job: WorkerProcess(self.log_of(job)))
        self._changing = threading.Lock()

    def start(self) -> None:
        """Begin to work on jobs."""
        self.jobs.start()

    def stop(self) -> None:
        """End; a job that runs is interrupted, and its process ended."""
        self.jobs.stop()

    def draft(self, product: str) -> ImageSet:
        """The images that the next version is taught from; they stay for the version after that."""
        return self.sets.get(product)

    def set_of(self, product: str, number: int) -> ImageSet | None:
        """The images that a version was taught from; None if it was not taught here."""
        facts = self.store.state(_taught(product, number))
        return None if facts is None else self.sets.get(product, facts["set"])

    def version(self, product: str, number: int) -> Version:
        """A version; RunError if there is none."""
        version = self.store.version(product, number)
        if version is None:
            raise RunError(f"{product!r} has no version {number}. Load the page again.")
        return version

    def log_of(self, job: Job) -> Path:
        """The file with what a job printed."""
        return self.sets.place(job.product) / "runs" / job.id / "log.txt"

    def collect(self, product: str) -> list[Taken | Refused]:
        """Bring the draft up to date with the marks of the history: *fine* images are normal, *missed* and *confirmed* ones are
        known defects; those whose mark was taken back go. What has come or was refused is returned."""
        draft, results = self.draft(product), []
        wanted = {
            judgement.id: ("normal" if mark == "fine" else "abnormal")
            for mark in ("fine", "missed", "confirmed")
            for judgement in marked(self.store, product, mark)
        }
        for member in draft.members():
            if member.judgement is not None and wanted.get(member.judgement) != member.kind:
                draft.remove(member.digest)
        there = {member.judgement for member in draft.members()}
        for id, kind in wanted.items():
            kept = None if id in there else self.store.image(id)
            if kept is not None:
                taken = draft.take(kind, f"history-{id}", [kept[0]])  # type: ignore[arg-type]
                if isinstance(taken, Refused) or not taken.again:
                    results.append(taken)
        return results

    def fit(self, product: str, who: str, fit: Fit | None = None) -> Job:
        """Teach a new version from all images of the draft, in the background.

        Raises:
            DataError: there are too few.
            ConfigError, PluginError: the method or an option does not exist.
        """
        fit, draft = fit or Fit(), self.draft(product)
        count = len(draft.members("normal"))
        if count < FEWEST:
            raise DataError(
                f"there {'is 1 normal image' if count == 1 else f'are {count} normal images'}, and a version needs {FEWEST} at "
                "least, better 100. Add normal images."
            )
        # an option that cannot be is said now
        RunConfig.create(model=fit.model, data="folder", preset=fit.preset, overrides=dict(fit.options))
        active = self.store.active(product)
        asked = {"kind": "fit", "model": fit.model, "preset": fit.preset, "options": dict(fit.options), "note": fit.note}
        return self._submit(product, who, {**asked, "parent": active and active.number})

    def extend(self, product: str, who: str, number: int, *, accept: bool = False, note: str = "") -> Job:
        """Let a version learn those normal images of the draft that it does not know, in seconds.

        Raises:
            DataError: there is none, or the draft lacks images that the version knows, which nothing makes it forget.
        """
        known, draft = self.set_of(product, number), self.draft(product)
        if known is None:
            raise DataError(f"version {number} was not taught here, so that its images are not known. Teach a new one.")
        before = {member.digest for member in known.members("normal")}
        now = {member.digest for member in draft.members("normal")}
        if before - now:
            raise DataError(
                f"{len(before - now)} images that version {number} has learnt are not in the set any more, and it cannot "
                "forget them. Teach a new version from all images."
            )
        if not now - before:
            raise DataError(f"version {number} knows all {len(now)} normal images of the set. Add some first.")
        return self._submit(product, who, {"kind": "extend", "parent": number, "accept": accept, "note": note})

    def try_out(self, product: str, who: str, number: int) -> Job:
        """Try a version on the last images and on the marked ones, in the background."""
        self.version(product, number)
        return self.jobs.submit(product, who, {"kind": "trial", "version": number, "asked": ["kind", "version", "asked"]})

    def trial(self, product: str, number: int) -> Trial | None:
        """The last trial of a version; None if it was not tried."""
        facts = self.store.state(_tried(product, number))
        return None if facts is None else Trial.from_dict(facts)

    def _submit(self, product: str, who: str, asked: dict[str, Any]) -> Job:
        name = f"set-{secrets.token_hex(6)}"
        with self._changing:
            self._forget_failed(product)
            self.draft(product).copy(self.sets.place(product) / name)
        facts = {**asked, "set": name}
        return self.jobs.submit(product, who, {**facts, "asked": [*facts, "asked"]})

    def _forget_failed(self, product: str) -> None:
        """Remove the copies of sets that no version was taught from, and no job needs."""
        jobs = self.jobs.of(product)
        needed = {job.facts.get("set") for job in jobs if job.state in ("waiting", "running") or "version" in job.facts}
        for path in self.sets.place(product).glob("set-*"):
            if path.name not in needed:
                self.sets.remove(product, path.name)

    def _work(self, running: Running) -> str:
        kind, job = running.job.facts["kind"], running.job
        if kind == "trial":
            return self._try(running, job.facts["version"])
        result = (self._fit if kind == "fit" else self._extend)(running)
        version = self.service.add_version(
            job.product,
            Path(result["run"]),
            parent=job.facts["parent"],
            who=job.who,
            note=job.facts["note"] or _note(job.facts),
        )
        self.store.keep_state(_taught(job.product, version.number), {"set": job.facts["set"], "job": job.id, **result})
        running.tell("trying it on the last images", None, version=version.number, warnings=result["warnings"])
        try:
            said = self._try(running, version.number)
        except AnomalyError as error:
            if running.process.was_ended:
                raise
            said = f"it could not be tried: {self._public(str(error))}"
        return f"version {version.number} is ready; {said}"

    def _fit(self, running: Running) -> dict[str, Any]:
        job = running.job
        images = self.sets.get(job.product, job.facts["set"])
        normal, abnormal = images.members("normal"), images.members("abnormal")
        learns = bool(abnormal) and self._facts_of(job.facts["model"]).get("learns_defects", False)
        options = dict(job.facts["options"]) | ({"base.pictures": 0} if "base.pictures" not in job.facts["options"] else {})
        request = {
            "kind": "fit",
            "model": job.facts["model"],
            "preset": job.facts["preset"],
            "options": options,
            "list": str(images.write_list(folder_name(job.product), test_some=True, train_defects=learns)),
            "normal": len(normal) - (not abnormal),
            "output": str(self._runs(job)),
            "compare": [str(member.path) for member in (*abnormal, *normal)[:4]],
        }
        return self._run(running, request)

    def _extend(self, running: Running) -> dict[str, Any]:
        job, number = running.job, running.job.facts["parent"]
        before, images = self.set_of(job.product, number), self.sets.get(job.product, job.facts["set"])
        known = {member.digest for member in before.members("normal")} if before else set()
        new = [member for member in images.members("normal") if member.digest not in known]
        request = {
            "kind": "extend",
            "run": self.version(job.product, number).path,
            "images": [str(member.path) for member in new if member.judgement is None],
            "false_alarms": [str(member.path) for member in new if member.judgement is not None],
            "accept": job.facts["accept"],
            "output": str(self._runs(job)),
            "compare": [str(member.path) for member in new[:4]],
        }
        return self._run(running, request)

    def _try(self, running: Running, number: int) -> str:
        product, store = running.job.product, self.store
        version, active = self.version(product, number), store.active(product)
        learnt = self.set_of(product, number) or self.sets.get(product, "set-none")
        folder = self.sets.place(product) / f"trial-{running.job.id}"
        try:
            running.tell("collecting images to try it on")
            all_cases = cases(store, product, learnt, folder, active)
            if not all_cases:
                return "there is no image yet that it can be tried on"
            paths = {case.key: str(case.path) for case in all_cases}
            again = [case.key for case in all_cases if case.old_score is None] if active else []
            detectors = {"new": {"path": version.path, "images": [*paths.values()]}}
            if active and again:
                detectors["old"] = {"path": active.path, "images": [paths[key] for key in again]}
            result = running.process.run({"kind": "compare", "detectors": detectors}, running.told)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        names = {path: key for key, path in paths.items()}
        scores = dict(zip(paths, result["scores"]["new"], strict=True))
        old_scores = dict(zip(again, result["scores"].get("old", []), strict=True))
        faults = {names[path]: self._public(text) for path, text in result["faults"].items()}
        new, old = self._calibration(version), self._calibration(active) if active else None
        rows = compared(all_cases, scores, old_scores, faults, new, old)
        against, threshold = active.number if active else None, old.threshold if old else None
        trial = Trial(product, number, against, time.time(), new.threshold, threshold, rows)
        store.keep_state(_tried(product, number), trial.to_dict())
        found = trial.summary()
        return f"tried on {found['images']} images, of which {found['changed']} would get another verdict"

    def _run(self, running: Running, request: dict[str, Any]) -> dict[str, Any]:
        try:
            result = running.process.run(request, running.told)
        except RunError as error:
            raise RunError(self._public(str(error))) from error
        return {**result, "warnings": [self._public(text) for text in result["warnings"]]}

    def _calibration(self, version: Version) -> Calibration:
        return self.store.settings(version.product, version.number)[-1].calibration

    def _facts_of(self, model: str) -> dict[str, Any]:
        facts: dict[str, Any] = (self.store.state("teach/methods") or {}).get(model, {})
        return facts

    def _runs(self, job: Job) -> Path:
        """Where the job's run is written."""
        return self.sets.place(job.product) / "runs" / job.id

    def _public(self, text: str) -> str:
        """A message without the place of this service's folders."""
        for place in (f"{self.folder.absolute()}", f"{self.folder}"):
            text = text.replace(place, "")
        return text


def _taught(product: str, number: int) -> str:
    return f"taught/{product}/{number}"


def _tried(product: str, number: int) -> str:
    return f"trial/{product}/{number}"


def _note(facts: Mapping[str, Any]) -> str:
    if facts["kind"] == "extend":
        return f"version {facts['parent']} with more images"
    return f"{facts['model']}, {facts['preset']}"
