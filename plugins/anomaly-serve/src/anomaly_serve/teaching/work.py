"""What the jobs of teaching do: fit, extend, try, recalibrate; each in a process of its own."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from anomaly_core import AnomalyError, Calibration, RunError, folder_name, write_whole
from anomaly_serve.faults import FilesRemoved, NotFound
from anomaly_serve.records import Job, Settings, Version
from anomaly_serve.teaching.image_set import ImageSet
from anomaly_serve.teaching.jobs import JobStore, Running
from anomaly_serve.teaching.members import DIGITS
from anomaly_serve.teaching.proposals import proposed, recent
from anomaly_serve.teaching.sets import Sets
from anomaly_serve.teaching.trial import SUFFIXES, History, Trial, cases, compared

_MEMBER = re.compile(rf"[/\\][^'\"\n]*?[/\\](?:normal|abnormal)[/\\]([^/\\\n]+?)\.[0-9a-f]{{{DIGITS}}}\.[a-z0-9]+")
COMPARED = 4  # images that the graph for inspection is compared with the run on


class TeachingStore(JobStore, History, Protocol):
    """What teaching needs of the store."""

    def versions(self, product: str) -> list[Version]: ...
    def version(self, product: str, number: int) -> Version | None: ...
    def active(self, product: str) -> Version | None: ...
    def settings(self, product: str, version: int) -> list[Settings]: ...
    def judged_before(self, product: str) -> int | None: ...
    def taught(self, product: str, number: int) -> dict[str, Any] | None: ...
    def remove_files(self, product: str, number: int, who: str, why: str = "") -> Version: ...
    def add_change(self, product: str, action: str, facts: dict[str, Any], who: str) -> None: ...
    def keep_state(self, key: str, value: dict[str, Any]) -> None: ...
    def state(self, key: str) -> dict[str, Any] | None: ...


class TeachingService(Protocol):
    """What teaching needs of the service."""

    @property
    def store(self) -> Any: ...
    def product(self, name: str) -> Any: ...
    def add_version(
        self, product: str, path: Path, *, parent: int | None, who: str, note: str, taught: dict[str, Any]
    ) -> Version: ...
    def activate(self, product: str, number: int | None, who: str) -> Any: ...
    def apply_settings(
        self, product: str, version: int, calibration: Calibration, least_area: float | None, who: str, why: str
    ) -> Any: ...


class Work:
    """Does the jobs of a service; :meth:`do` is called by one thread.

    Args:
        service: whose products are taught.
        sets: their images.
    """

    def __init__(self, service: TeachingService, sets: Sets) -> None:
        self.service = service
        self.store: TeachingStore = service.store
        self.sets = sets

    def do(self, running: Running) -> str:
        """Do a job; what is returned is said at its end. AnomalyError says why it failed."""
        kind = running.job.facts["kind"]
        try:
            if kind == "trial":
                return self._try(running, running.job.facts["version"])
            if kind == "recalibrate":
                return self._recalibrate(running)
            return self._teach(running, self._fit(running) if kind == "fit" else self._extend(running))
        except RunError as error:
            raise RunError(self.public(str(error))) from error

    def version(self, product: str, number: int) -> Version:
        """A version; NotFound if there is none."""
        version = self.store.version(product, number)
        if version is None:
            raise NotFound(f"{product!r} has no version {number}. Load the page again.")
        return version

    def usable(self, product: str, number: int) -> Version:
        """A version that has its files; FilesRemoved if it has none any more, NotFound if there is none."""
        version = self.version(product, number)
        if version.removal:
            raise FilesRemoved(version)
        return version

    def taught(self, product: str, number: int) -> dict[str, Any] | None:
        """What is known of a version that was taught here: ``set``, ``job``, ``run``, ``warnings``, ``extends``."""
        return self.store.taught(product, number)

    def set_of(self, product: str, number: int) -> ImageSet | None:
        """The images that a version was taught from; None if it was not taught here."""
        facts = self.taught(product, number)
        return None if facts is None else self.sets.get(product, facts["set"])

    def trial(self, product: str, number: int) -> Trial | None:
        """The last trial of a version; None if it was not tried."""
        facts = self.store.state(f"trial/{product}/{number}")
        return None if facts is None else Trial.from_dict(facts)

    def runs(self, job: Job) -> Path:
        """Where the job's run and log are written."""
        return self.sets.place(job.product) / "runs" / job.id

    def public(self, text: str) -> str:
        """A message without the place of this service's folders, and with images by the names that their senders gave them."""
        for place in (f"{self.sets.folder.absolute()}", f"{self.sets.folder}"):
            text = text.replace(place, "")
        return _MEMBER.sub(r"\1", text)

    def _teach(self, running: Running, result: dict[str, Any]) -> str:
        job = running.job
        running.tell("opening the new version")
        warned = [self.public(text) for text in result["warnings"]]
        taught = {**result, "warnings": warned, "set": job.facts["set"], "job": job.id}
        said = {"who": job.who, "note": job.facts["note"] or _note(job.facts)}
        version = self.service.add_version(job.product, Path(result["run"]), parent=job.facts["parent"], taught=taught, **said)
        running.tell("trying it on the last images", None, version=version.number)
        try:
            tried = self._try(running, version.number)
        except AnomalyError as error:
            if running.process.was_ended:
                raise
            tried = f"it could not be tried: {self.public(str(error))}"
        return f"version {version.number} is ready; {tried}"

    def _fit(self, running: Running) -> dict[str, Any]:
        job = running.job
        images = self.sets.get(job.product, job.facts["set"])
        normal, abnormal, category = images.members("normal"), images.members("abnormal"), folder_name(job.product)
        request = {
            "kind": "fit",
            "model": job.facts["model"],
            "preset": job.facts["preset"],
            "options": {"base.pictures": 0, **job.facts["options"]},
            "list": str(images.write_list(category)),
            "list_with_defects": str(images.write_list(category, learn_defects=True)),
            "normal": len(normal) - (not abnormal),
            "output": str(self.runs(job)),
            "compare": [str(member.path) for member in (*abnormal, *normal)[:COMPARED]],
        }
        return running.process.run(request, running.told)

    def _extend(self, running: Running) -> dict[str, Any]:
        job, number = running.job, running.job.facts["parent"]
        before, images = self.set_of(job.product, number), self.sets.get(job.product, job.facts["set"])
        known = {member.digest for member in before.members("normal")} if before else set()
        new = [member for member in images.members("normal") if member.digest not in known]
        request = {
            "kind": "extend",
            "run": self.usable(job.product, number).path,
            "images": [str(member.path) for member in new if member.judgement is None],
            "false_alarms": [str(member.path) for member in new if member.judgement is not None],
            "accept": job.facts["accept"],
            "output": str(self.runs(job)),
            "compare": [str(member.path) for member in new[:COMPARED]],
        }
        return running.process.run(request, running.told)

    def _try(self, running: Running, number: int) -> str:
        product, store = running.job.product, self.store
        version, active = self.usable(product, number), store.active(product)
        images = self.set_of(product, number) or self.sets.get(product, "set-none")
        learnt = images.learnt((self.taught(product, number) or {}).get("learns_defects", False))
        folder = self.sets.place(product) / f"trial-{running.job.id}"
        try:
            running.tell("collecting images to try it on")
            chosen = cases(store, product, images, learnt, folder, active)
            if not chosen:
                return "there is no image yet that it can be tried on"
            paths = {case.key: str(case.path) for case in chosen}
            again = [case.key for case in chosen if case.old_score is None] if active else []
            detectors = {"new": {"path": version.path, "images": [*paths.values()]}}
            if active and again:
                detectors["old"] = {"path": active.path, "images": [paths[key] for key in again]}
            result = running.process.run({"kind": "compare", "detectors": detectors}, running.told)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        keys = {path: key for key, path in paths.items()}
        scores = dict(zip(paths, result["scores"]["new"], strict=True))
        old_scores = dict(zip(again, result["scores"].get("old", []), strict=True))
        faults = {keys[path]: "it cannot be scored: it is no image that this version reads" for path in result["faults"]}
        new, old = self._settings(version).calibration, self._settings(active).calibration if active else None
        rows = compared(chosen, scores, old_scores, faults, new, old)
        against, threshold = active.number if active else None, old.threshold if old else None
        trial = Trial(product, number, against, time.time(), new.threshold, threshold, rows)
        store.keep_state(f"trial/{product}/{number}", trial.to_dict())
        found = trial.summary()
        compared_words = f", of which {found['changed']} would get another verdict" if active else ""
        return f"tried on {found['images']} images{compared_words}"

    def _recalibrate(self, running: Running) -> str:
        """Propose a threshold from the last images of the version that judges."""
        product, facts = running.job.product, running.job.facts
        active = self.store.active(product)
        if active is None:
            raise RunError("no version judges: there is no threshold to propose a new one for.")
        settings = self._settings(active)
        folder = self.sets.place(product) / f"trial-{running.job.id}"
        judgements, paths = [], []
        try:
            running.tell("collecting the last images")
            for one in recent(self.store, product, active.number, facts["count"]):
                kept = self.store.image(one.id)
                if kept is not None:
                    path = folder / f"{one.id}{SUFFIXES.get(kept[1], '.png')}"
                    write_whole(path, kept[0], "Free some space.")
                    judgements.append(one)
                    paths.append(str(path))
            request = {"kind": "compare", "detectors": {"own": {"path": active.path, "images": paths}}}
            result = running.process.run(request, running.told)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        usable = [number for number, path in enumerate(paths) if path not in result["faults"]]
        maxima = [result["maxima"]["own"][number] for number in usable]
        judged = [judgements[number] for number in usable]
        proposal = proposed(judged, settings, None if None in maxima else maxima, facts["rate"])
        self.store.keep_state(f"proposal/{product}", proposal.to_dict())
        return proposal.words

    def _settings(self, version: Version) -> Settings:
        return self.store.settings(version.product, version.number)[-1]


def _note(facts: Mapping[str, Any]) -> str:
    if facts["kind"] == "extend":
        return f"version {facts['parent']} with more images"
    return f"{facts['model']}, {facts['preset']}"
