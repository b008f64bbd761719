"""Teaching without a browser: real fits in real processes, trials, restarts and cancelling."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from anomaly_core import ConfigError, DataError, RunError, RunFolder
from anomaly_predict import open_detector
from anomaly_serve.records import Job, Judgement, Settings, Version
from anomaly_serve.teaching.image_set import Taken
from anomaly_serve.teaching.teaching import Fit, Teaching

Png = Callable[..., bytes]
QUICK = Fit("subspace", "edge", {"model.image_size": 64})


class FakeStore:
    """Verdicts, versions, jobs and state in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Job] = {}
        self.values: dict[str, dict[str, Any]] = {}
        self.verdicts: list[Judgement] = []
        self.files: dict[str, bytes] = {}
        self.known: list[Version] = []

    def products(self) -> list[str]:
        return ["disc"]

    def save_job(self, job: Job) -> None:
        self.kept[job.id] = job

    def jobs(self, product: str) -> list[Job]:
        return [job for job in self.kept.values() if job.product == product]

    def job(self, id: str) -> Job | None:
        return self.kept.get(id)

    def keep_state(self, key: str, value: dict[str, Any]) -> None:
        self.values[key] = value

    def state(self, key: str) -> dict[str, Any] | None:
        return self.values.get(key)

    def judgements(
        self, product: str, *, limit: int = 50, before: str | None = None, mark: str | None = None
    ) -> list[Judgement]:
        rows = [one for one in reversed(self.verdicts) if mark in (None, one.mark) and (before is None or one.id < before)]
        return rows[:limit]

    def image(self, id: str) -> tuple[bytes, str] | None:
        return (self.files[id], "image/png") if id in self.files else None

    def versions(self, product: str) -> list[Version]:
        return self.known

    def version(self, product: str, number: int) -> Version | None:
        return next((one for one in self.known if one.number == number), None)

    def active(self, product: str) -> Version | None:
        return next((one for one in self.known if one.is_active), None)

    def settings(self, product: str, version: int) -> list[Settings]:
        return [Settings(1, open_detector(self.known[version - 1].path, quick=True).calibration, None, 0.0, "", "")]

    def add(self, number: int, image: bytes, anomalous: bool, mark: Any = None, version: int = 1) -> None:
        verdict = Judgement(f"{number:026}", "disc", version, 0.0, "http", f"shot {number}", 1.0, 0.5, 2.0, anomalous, (48, 64))
        self.verdicts.append(replace(verdict, mark=mark))
        self.files[verdict.id] = image


class FakeService:
    def __init__(self, store: FakeStore) -> None:
        self.store = store

    def add_version(self, product: str, path: Path, *, parent: int | None, who: str, note: str) -> Version:
        version = Version(product, len(self.store.known) + 1, str(path), parent, time.time(), who, note, False)
        self.store.known.append(version)
        return version

    def activate(self, product: str, number: int | None, who: str) -> None:
        self.store.known[:] = [replace(one, is_active=one.number == number) for one in self.store.known]


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def teaching(store: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Teaching]:
    monkeypatch.setenv("ANOMALY_ENGINE", "onnx")  # tests set torch otherwise, and no graph would be kept
    teaching = Teaching(FakeService(store), tmp_path / "teach")
    teaching.start()
    yield teaching
    teaching.stop()


def ended(teaching: Teaching, job: Job) -> Job:
    """The job when it has ended."""
    limit = time.monotonic() + 120
    while (job := teaching.jobs.get(job.id)).state in ("waiting", "running"):
        assert time.monotonic() < limit, job
        time.sleep(0.05)
    return job


def fill(teaching: Teaching, png: Png, normal: int = 8, defects: int = 2) -> None:
    draft = teaching.draft("disc")
    for seed in range(normal):
        assert isinstance(draft.take("normal", f"good{seed}.png", [png(seed)]), Taken)
    for seed in range(defects):
        assert isinstance(draft.take("abnormal", f"bad{seed}.png", [png(seed, defect=True)]), Taken)


def test_teach_try_extend_and_try_again(teaching: Teaching, store: FakeStore, png: Png) -> None:
    fill(teaching, png)
    job = ended(teaching, teaching.fit("disc", "anna", Fit(options={"model.image_size": 64})))
    assert job.state == "done", job.message
    assert job.message.startswith("version 1 is ready; tried on 2 images")
    version = store.known[0]
    assert (version.parent, version.who, version.note) == (None, "anna", "patchcore, edge") and not version.is_active
    assert len(RunFolder.open(version.path).normals()) == 8  # all of them are learnt: the defects test
    assert type(open_detector(version.path, quick=True)).__name__ == "ExportedDetector"  # inspection needs no torch
    trial = teaching.trial("disc", 1)
    assert trial is not None and trial.against is None and all(row.is_defect and row.old is None for row in trial.rows)
    assert not list(teaching.sets.place("disc").glob("trial-*"))

    teaching.service.activate("disc", 1, "anna")
    store.add(1, png(50), False)
    store.add(2, png(51), True, "fine")
    store.add(3, png(52, defect=True), False, "missed")
    with pytest.raises(DataError, match="knows all 8 normal images"):
        teaching.extend("disc", "anna", 1)
    taken = teaching.collect("disc")
    assert sorted(one.member.kind for one in taken if isinstance(one, Taken)) == ["abnormal", "normal"]
    assert teaching.collect("disc") == []
    job = ended(teaching, teaching.extend("disc", "anna", 1, accept=True))
    assert job.state == "done", job.message
    assert store.known[1].parent == 1 and RunFolder.open(store.known[1].path).manifest()["added"][0]["false_alarm"]
    trial = teaching.trial("disc", 2)
    assert trial is not None and trial.against == 1
    rows = {row.name: row for row in trial.rows}
    assert rows["shot 2"].is_learnt and not rows["shot 3"].is_learnt
    assert rows["shot 1"].old_score == 1.0 and rows["shot 1"].is_defect is None  # judged by the active version: known
    summary = trial.summary()
    assert (summary["images"], summary["defects"], summary["learnt"], summary["fine"]) == (5, 3, 1, 0)


def test_a_mark_that_is_taken_back_takes_its_image_back(teaching: Teaching, store: FakeStore, png: Png) -> None:
    store.add(1, png(1), True, "fine")
    teaching.collect("disc")
    store.verdicts[0] = replace(store.verdicts[0], mark=None)
    teaching.collect("disc")
    assert teaching.draft("disc").members() == []


def test_what_cannot_be_is_said_before_the_fit(teaching: Teaching, png: Png) -> None:
    fill(teaching, png, 2, 0)
    with pytest.raises(DataError, match="there are 2 normal images, and a version needs 3"):
        teaching.fit("disc", "anna", QUICK)
    fill(teaching, png, 3, 1)
    with pytest.raises(ConfigError, match="image_sise"):
        teaching.fit("disc", "anna", replace(QUICK, options={"model.image_sise": 64}))
    assert teaching.jobs.of("disc") == []


def test_a_failure_is_told_in_words_and_started_again(teaching: Teaching, png: Png) -> None:
    fill(teaching, png, 3, 1)
    job = ended(teaching, teaching.fit("disc", "anna", Fit("visual_words", "edge")))
    assert job.state == "failed" and "there are 3 normal images to learn, and visual_words needs 5" in job.message
    again = ended(teaching, teaching.jobs.again(job.id, "ben"))
    assert again.id != job.id and again.who == "ben" and again.message == job.message
    assert teaching.jobs.get(job.id).facts["again"] == again.id
    with pytest.raises(RunError, match="no such job"):
        teaching.jobs.get("0")


def running(teaching: Teaching, job: Job) -> psutil.Process:
    """The process of a job that runs."""
    limit = time.monotonic() + 60
    while teaching.jobs.get(job.id).state != "running" or not children():
        assert time.monotonic() < limit
        time.sleep(0.01)
    return children()[0]


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if any("teaching.worker" in word for word in one.cmdline())]


def test_cancel_and_restart(teaching: Teaching, store: FakeStore, png: Png) -> None:
    fill(teaching, png, 4, 1)
    first, second = teaching.fit("disc", "anna", QUICK), teaching.fit("disc", "anna", QUICK)
    process = running(teaching, first)
    assert teaching.jobs.get(second.id).state == "waiting"  # one at a time
    assert teaching.jobs.cancel(second.id).state == "cancelled"
    teaching.jobs.cancel(first.id)
    assert ended(teaching, first).state == "cancelled" and not process.is_running()

    third, fourth = teaching.fit("disc", "anna", QUICK), teaching.fit("disc", "anna", QUICK)
    process = running(teaching, third)
    teaching.stop()
    assert not process.is_running() and teaching.jobs.get(third.id).state == "interrupted"
    after = Teaching(teaching.service, teaching.folder)
    after.start()
    try:
        assert ended(after, fourth).state == "done"  # it waited, and goes on
        assert [job.id for job in after.jobs.of("disc")][:2] == [fourth.id, third.id]
    finally:
        after.stop()


def test_what_ran_when_the_service_was_killed_is_interrupted(store: FakeStore, tmp_path: Path) -> None:
    store.save_job(Job("1", "disc", "running", 1.0, 1.0, "anna", facts={"kind": "fit", "asked": []}))
    teaching = Teaching(FakeService(store), tmp_path)
    teaching.start()
    teaching.stop()
    assert store.kept["1"].state == "interrupted"
