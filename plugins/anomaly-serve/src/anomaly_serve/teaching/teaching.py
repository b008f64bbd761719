"""Teaching: the sets, jobs and trials of all products of a service."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anomaly_core import DataError, RunConfig, RunFolder
from anomaly_serve.faults import Unusable
from anomaly_serve.records import Job, Version
from anomaly_serve.teaching.advice import FEWEST, Advice, advice, enough
from anomaly_serve.teaching.folders import Folders
from anomaly_serve.teaching.image_set import ImageSet
from anomaly_serve.teaching.jobs import AGAIN, Jobs, Running
from anomaly_serve.teaching.members import HISTORY, Kind, Limits, Member, Refused, Taken
from anomaly_serve.teaching.process import WorkerProcess
from anomaly_serve.teaching.proposals import LAST, Proposed
from anomaly_serve.teaching.retention import Retention
from anomaly_serve.teaching.sets import Sets
from anomaly_serve.teaching.trial import Trial, is_defect, marked
from anomaly_serve.teaching.work import TeachingService, TeachingStore, Work

MODEL, PRESET = "patchcore", "edge"
COUNTED_FOR = 2.0  # seconds


@dataclass(frozen=True)
class Fit:
    """What a fit is asked for: a method, its preset, and options over that, such as ``{"model.image_size": [336, 448]}``."""

    model: str = MODEL
    preset: str = PRESET
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


class Teaching:
    """What the page *Teach* does, for all products; thread-safe.

    Args:
        service: whose products are taught.
        folder: where sets, runs and logs are kept.
        roots: folders of this machine below which images may be watched.
        limits: of the sets, and of the versions that keep their files.
    """

    def __init__(
        self, service: TeachingService, folder: Path, roots: Sequence[Path] = (), limits: Limits | None = None
    ) -> None:
        self.service = service
        self.store: TeachingStore = service.store
        self.sets = Sets(folder, limits)
        self.work = Work(service, self.sets)
        self.jobs = Jobs(self.store, self._do, lambda job: WorkerProcess(self.log_of(job)))
        self.folders = Folders(roots, self.store, self.draft)
        self._changing = threading.RLock()
        self.retention = Retention(self.work, self.jobs, self.before, self._changing)
        self._lost: set[str] = set()  # verdicts whose images the quota has removed
        self._counted: dict[str, tuple[float, dict[Kind, int]]] = {}

    def start(self) -> Teaching:
        """Begin to work on jobs, and to watch folders."""
        self.retention.start()
        self.jobs.start()
        self.folders.start()
        return self

    def stop(self) -> None:
        """End; a job that runs is interrupted, and its process ended."""
        self.folders.stop()
        self.jobs.stop()

    # ---- images

    def draft(self, product: str) -> ImageSet:
        """The images that the next version is taught from; they stay for the version after that."""
        return self.sets.get(product)

    def advice(self, product: str) -> Advice:
        """What is said of the draft before a fit."""
        active = self.store.active(product)
        settings = self.store.settings(product, active.number) if active else []
        return advice(self.draft(product), settings[-1].calibration.false_alarm_rate if settings else 0.01)

    def collect(self, product: str) -> list[Taken | Refused]:
        """Bring the draft up to date with the marks of the history: *fine* images are normal, *missed* ones
        and confirmed alarms are known defects; those whose mark was taken back go. What has come or was refused is returned."""
        draft, results, wanted = self.draft(product), [], self._wanted(product)
        for member in draft.members():
            if member.judgement is not None and wanted.get(member.judgement) != member.kind:
                draft.remove(member.digest)
        there = {member.judgement for member in draft.members()}
        for id, kind in wanted.items():
            kept = None if id in there else self.store.image(id)
            if kept is not None:
                taken = draft.take(kind, f"{HISTORY}{id}", [kept[0]])
                if isinstance(taken, Refused) or not taken.again:
                    results.append(taken)
            elif id not in there:
                self._lost.add(id)
                verdict = self.store.judgement(id)
                results.append(Refused((verdict and verdict.name) or id, "its image is not kept"))
        self._counted.pop(product, None)
        return results

    def uncollected(self, product: str) -> dict[Kind, int]:
        """How many marked images of the history :meth:`collect` would bring, as of two seconds ago at most: pages ask often."""
        now = time.monotonic()
        if (known := self._counted.get(product)) and now - known[0] < COUNTED_FOR:
            return known[1]
        there = {member.judgement for member in self.draft(product).members()}
        counts: dict[Kind, int] = {"normal": 0, "abnormal": 0}
        for id, kind in self._wanted(product).items():
            counts[kind] += id not in there and id not in self._lost
        self._counted[product] = now, counts
        return counts

    def _wanted(self, product: str) -> dict[str, Kind]:
        """The verdicts whose images are to be in the draft, and as what. A normal verdict that was confirmed is none of them:
        its image is one of many."""
        wanted: dict[str, Kind] = {one.id: "normal" for one in marked(self.store, product, "fine")}
        for mark in ("missed", "confirmed"):
            wanted |= {one.id: "abnormal" for one in marked(self.store, product, mark) if is_defect(one)}
        return wanted

    # ---- jobs

    def log_of(self, job: Job) -> Path:
        """The file with what a job printed."""
        return self.work.runs(job) / "log.txt"

    def fit(self, product: str, who: str, fit: Fit | None = None) -> Job:
        """Teach a new version from all images of the draft, in the background.

        Raises:
            DataError: there are too few.
            ConfigError, PluginError: the method or an option does not exist.
        """
        fit = fit or Fit()
        count = len(self.draft(product).members("normal"))
        if count < FEWEST:
            raise DataError(f"{enough(count)} Add normal images.")
        active = self.store.active(product)
        options = {**self._carried(active), **fit.options}
        # an option that cannot be is said now
        RunConfig.create(model=fit.model, data="folder", preset=fit.preset, overrides=options)
        asked = {"kind": "fit", "model": fit.model, "preset": fit.preset, "options": options, "note": fit.note}
        return self._submit(product, who, {**asked, "parent": active and active.number})

    def _carried(self, active: Version | None) -> dict[str, Any]:
        """What a person has set for the version that judges, and the next one begins with."""
        if active is None:
            return {}
        holds = self.store.settings(active.product, active.number)[-1]
        carried: dict[str, Any] = {} if holds.least_area is None else {"data.least_area": holds.least_area}
        if holds.calibration.chosen_by == "rate":
            carried["base.false_alarm_rate"] = holds.calibration.false_alarm_rate
        return carried

    def new_for(self, product: str, number: int) -> list[Member]:
        """The normal images of the draft that a version can learn in seconds (:meth:`extend`), of those that it does not know.

        Raises:
            FilesRemoved: it has no files any more.
            DataError: it cannot, and why.
        """
        self.work.usable(product, number)
        facts, known = self.work.taught(product, number), self.work.set_of(product, number)
        if facts is None or known is None:
            raise DataError(f"version {number} was not taught here, so that its images are not known. Teach a new one.")
        if not facts["extends"]:
            raise DataError(f"the method of version {number} cannot learn more images once it is fitted. Teach a new one.")
        before = {member.digest for member in known.members("normal")}
        normal = self.draft(product).members("normal")
        if missing := before - {member.digest for member in normal}:
            raise DataError(
                f"{_images(len(missing))} that version {number} has learnt {'is' if len(missing) == 1 else 'are'} not in the "
                f"set any more, and it cannot forget {'it' if len(missing) == 1 else 'them'}. Teach a new version."
            )
        new = [member for member in normal if member.digest not in before]
        if not new:
            raise DataError(f"version {number} knows all {len(normal)} normal images of the set. Add some first.")
        return new

    def extend(self, product: str, who: str, number: int, *, accept: bool = False, note: str = "") -> Job:
        """Let a version learn those normal images of the draft that it does not know, in seconds, as a new version.

        Args:
            accept: learn images too that look anomalous to it; else the job fails and names them.

        Raises:
            DataError: as :meth:`new_for`.
        """
        self.new_for(product, number)
        return self._submit(product, who, {"kind": "extend", "parent": number, "accept": accept, "note": note})

    def try_out(self, product: str, who: str, number: int) -> Job:
        """Try a version on the last images and on the marked ones, in the background."""
        with self._changing:
            self.work.usable(product, number)
            return self.jobs.submit(product, who, {"kind": "trial", "version": number, "asked": ["kind", "version", "asked"]})

    def again(self, id: str, who: str) -> Job:
        """Start a job that was interrupted, cancelled or failed once more, with the images of then if they are still there."""
        job = self.jobs.get(id)
        if (name := job.facts.get("set")) and job.state in AGAIN and not self.sets.get(job.product, name).members():
            asked = {key: job.facts[key] for key in job.facts["asked"] if key not in ("set", "asked")}
            return self._submit(job.product, who, asked)
        with self._changing:
            return self.jobs.again(id, who)

    def suspects(self, product: str, number: int) -> list[tuple[Member, float]]:
        """The normal images that a version was taught from which stand out, and their scores, the highest first."""
        images, version = self.work.set_of(product, number), self.work.version(product, number)
        if images is None or version.removal:
            return []
        by_file = {member.path.name: member for member in images.members("normal")}
        rows = [row for row in RunFolder.open(version.path).normals() if row.suspect or row.dropped]
        found = [(by_file[name], row.score) for row in rows if (name := Path(row.path).name) in by_file]
        return sorted(found, key=lambda pair: -pair[1])

    # ---- versions

    def put_to_use(self, product: str, number: int, who: str, note: str = "") -> None:
        """Let a version judge from now on."""
        self.work.version(product, number)
        active = self.store.active(product)
        self.service.activate(product, number, who)
        if active is None or active.number != number:
            self.store.keep_state(f"before/{product}", {"version": number, "from": active and active.number})
        if note:
            self.store.add_change(product, "note", {"version": number, "note": note}, who)

    def before(self, product: str) -> int | None:
        """The version in whose place the one that judges was put to use, else its parent; None if there is none."""
        active = self.store.active(product)
        if active is None:
            return None
        facts = self.store.state(f"before/{product}") or {}
        number: int | None = facts["from"] if facts.get("version") == active.number else active.parent
        return number

    def take_back(self, product: str, who: str) -> int:
        """Let the version judge again that did before, and return its number; Unusable if there is none."""
        number = self.before(product)
        if number is None:
            raise Unusable("no version judged before this one: there is nothing to go back to.")
        self.service.activate(product, number, who)
        return number

    # ---- recalibration

    def recalibrate(self, product: str, who: str, count: int = LAST, rate: float | None = None) -> Job:
        """Propose a threshold from the last images that nobody has called defective, in the background."""
        facts = {"kind": "recalibrate", "count": count, "rate": rate}
        return self.jobs.submit(product, who, {**facts, "asked": [*facts, "asked"]})

    def proposal(self, product: str) -> Proposed | None:
        """The proposal that waits for a person; None without one, or where it no longer fits what judges."""
        facts = self.store.state(_proposal(product))
        if not facts:
            return None
        proposal, active = Proposed.from_dict(facts), self.store.active(product)
        if active is None or active.number != proposal.version:
            return None
        return proposal if self.store.settings(product, active.number)[-1].number == proposal.settings else None

    def accept(self, product: str, who: str, why: str = "") -> None:
        """Judge by what is proposed; Unusable if nothing is."""
        proposal = self.proposal(product)
        if proposal is None or proposal.calibration is None:
            raise Unusable("nothing is proposed that fits what judges now. Propose a threshold again.")
        least_area = self.store.settings(product, proposal.version)[-1].least_area
        words = why or f"recalibrated: {proposal.words}"
        self.service.apply_settings(product, proposal.version, proposal.calibration, least_area, who, words)
        self.store.keep_state(_proposal(product), {})

    def reject(self, product: str, who: str) -> None:
        """Let the threshold be as it is."""
        proposal = self.proposal(product)
        if proposal is not None:
            threshold = proposal.calibration and proposal.calibration.threshold
            self.store.add_change(product, "reject", {"version": proposal.version, "threshold": threshold}, who)
        self.store.keep_state(_proposal(product), {})

    # ----

    def trial(self, product: str, number: int) -> Trial | None:
        """The last trial of a version; None if it was not tried."""
        return self.work.trial(product, number)

    def _submit(self, product: str, who: str, asked: dict[str, Any]) -> Job:
        name = f"set-{secrets.token_hex(6)}"
        with self._changing:
            if asked["kind"] == "extend":
                self.work.usable(product, asked["parent"])
            self.retention.forget_failed(product)
            self.draft(product).copy(self.sets.place(product) / name)
            facts = {**asked, "set": name}
            return self.jobs.submit(product, who, {**facts, "asked": [*facts, "asked"]})

    def _do(self, running: Running) -> str:
        """Do a job; after a new version, the files of the oldest go."""
        return "; ".join(filter(None, (self.work.do(running), self.retention.after(running.job))))


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _proposal(product: str) -> str:
    return f"proposal/{product}"
