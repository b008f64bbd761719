"""How many versions that were taught here keep their files, which of them must, and how those of the others go."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from anomaly_core import AnomalyError
from anomaly_serve.faults import Conflict
from anomaly_serve.records import Job, Version
from anomaly_serve.teaching.jobs import AGAIN, Jobs
from anomaly_serve.teaching.work import Work

SERVICE = "service"  # who removes files that nobody asked to be removed
MOST_JOBS = 10_000  # of a product that may wait
log = logging.getLogger("anomaly_core.serve")


class Retention:
    """Removes the runs and the sets of images of versions: first the store says so, then they are deleted. What a killed
    service has left of them is deleted at the next start. A file that somebody gave is never touched.

    Args:
        work: its sets' limits say how many versions of a product keep their files: the last that were taught here.
        before: the version of a product that *take back* returns to.
        changing: held while jobs are submitted, so that none begins with what is being removed.
    """

    def __init__(
        self, work: Work, jobs: Jobs, before: Callable[[str], int | None], changing: AbstractContextManager[Any]
    ) -> None:
        self._work, self._jobs, self._before, self._changing = work, jobs, before, changing
        self._store, self._sets = work.store, work.sets

    def start(self) -> None:
        """Finish what a killed service has begun, and keep to the bound, of all products."""
        for product in self._store.products():
            try:
                self.apply(product)
                self._delete(product)
            except AnomalyError as error:  # a full disk, such as: the service begins all the same
                log.warning("the files of old versions of %r could not be removed: %s", product, error)

    def after(self, job: Job) -> str:
        """Keep to the bound when a job has taught a version; what was removed, in words."""
        if job.facts["kind"] not in ("fit", "extend"):
            return ""
        try:
            gone = self.apply(job.product, job)
        except AnomalyError as error:  # the version is there all the same
            return f"files of old versions could not be removed: {self._work.public(str(error))}"
        named = f"version{'s' * (len(gone) > 1)} {', '.join(map(str, gone))}"
        return f"the files of {named} were removed {self._purpose()}" if gone else ""

    def apply(self, product: str, ended: Job | None = None) -> list[int]:
        """Remove the files of all but the last versions that were taught here, and that are not needed; the numbers of those.

        Args:
            ended: a job that needs nothing any more.
        """
        gone = []
        with self._changing:
            own = [version.number for version in self._with_files(product) if self._folder(version) is not None]
            needed = self.needed(product, ended)
            for number in own[: -self._sets.limits.versions]:
                if number not in needed:
                    with suppress(Conflict):  # put to use since
                        self._note(product, number, SERVICE, self._purpose())
                        gone.append(number)
            if gone:
                self._delete(product)
        return gone

    def remove(self, product: str, number: int, who: str) -> Version:
        """Remove the files of one version, as somebody wants; once they are, nothing more happens.

        Raises:
            NotFound: there is no such version.
            Conflict: it keeps its files, and why.
        """
        with self._changing:
            if self._work.version(product, number).files_removed is None:
                if reason := self.needed(product).get(number):
                    raise Conflict(f"version {number} of {product!r} keeps its files: {reason}.")
                self._note(product, number, who)
            self._delete(product)
            return self._work.version(product, number)

    def needed(self, product: str, ended: Job | None = None) -> dict[int, str]:
        """number -> why its files stay, of the versions whose files cannot be removed now."""
        found: dict[int, str] = {}
        places = self._places()
        for version in self._with_files(product):
            folder = self._folder(version)
            if folder is None:
                found[version.number] = "somebody gave them, and the service removes only what it has taught"
            elif sum(place.is_relative_to(folder) for place in places) > 1:
                found[version.number] = "another version has the same"
        for job in self._pending(product, ended):
            for number in (job.facts.get("version"), job.facts.get("parent")):
                if number is not None:
                    found[number] = "a job needs them"
        for number in (self._store.judged_before(product), self._before(product)):
            if number is not None:
                found[number] = "it judged until the one that judges now was put in its place, and may be taken back"
        if (active := self._store.active(product)) is not None:
            found[active.number] = "it judges"
        return found

    def forget_failed(self, product: str) -> None:
        """Remove what no version needs and no job: copies of sets, and runs that did not complete."""
        needed = self._needed_sets(product)
        for path in self._sets.place(product).glob("set-*"):
            if path.name not in needed:
                self._sets.remove(product, path.name)
        used = self._places()
        for job in self._jobs.of(product):
            if job.state in AGAIN:
                for path in self._work.runs(job).glob("*/"):  # not the log
                    if not any(place.is_relative_to(path.resolve()) for place in used):
                        shutil.rmtree(path, ignore_errors=True)

    def _with_files(self, product: str) -> list[Version]:
        return [version for version in self._store.versions(product) if version.files_removed is None]

    def _pending(self, product: str, ended: Job | None = None) -> list[Job]:
        jobs = self._jobs.of(product, MOST_JOBS)
        return [job for job in jobs if job.state in ("waiting", "running") and (ended is None or job.id != ended.id)]

    def _needed_sets(self, product: str) -> set[str]:
        needed = {job.facts["set"] for job in self._pending(product) if "set" in job.facts}
        for version in self._with_files(product):
            needed |= set(self._sets_of(version))
        return needed

    def _sets_of(self, version: Version) -> Iterator[str]:
        """The set that a version was taught from, and those of the versions that it was taught on from: its run names them."""
        facts = self._work.taught(version.product, version.number)
        while facts is not None:
            yield facts["set"]
            job = self._store.job(facts["job"])
            if job is None or job.facts["kind"] != "extend":
                return
            facts = self._work.taught(version.product, job.facts["parent"])

    def _places(self) -> list[Path]:
        """Where the versions of all products lie that have their files."""
        return [Path(one.path).resolve() for product in self._store.products() for one in self._with_files(product)]

    def _folder(self, version: Version) -> Path | None:
        """Where the job that taught a version has its run and its log; None for a version that somebody gave."""
        facts = self._work.taught(version.product, version.number)
        if facts is None:
            return None
        runs = (self._sets.place(version.product) / "runs").resolve()
        folder = (runs / facts["job"]).resolve()
        is_own = folder.parent == runs and runs.is_relative_to(self._sets.folder.resolve())
        return folder if is_own and Path(version.path).resolve().is_relative_to(folder) else None

    def _purpose(self) -> str:
        return f"to keep the last {self._sets.limits.versions}"

    def _note(self, product: str, number: int, who: str, why: str = "") -> None:
        self._store.remove_files(product, number, who, why)
        self._work.service.product(product).unload(number)

    def _delete(self, product: str) -> None:
        """Delete what the store says is removed: runs with their logs, and the sets that no version and no job needs."""
        used, needed = self._places(), self._needed_sets(product)
        for version in self._store.versions(product):
            folder = self._folder(version) if version.files_removed is not None else None
            if folder is None or any(place.is_relative_to(folder) for place in used):
                continue
            if folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)
                if folder.exists():
                    log.warning("%r could not be removed. The next start tries it again.", str(folder))
            name = (self._work.taught(product, version.number) or {})["set"]
            if name not in needed and (self._sets.place(product) / name).is_dir():
                self._sets.remove(product, name)
