"""Teaching without a browser: real fits in real processes, trials, restarts and cancelling."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from anomaly_core import Calibration, ConfigError, DataError, RunFolder
from anomaly_predict import open_detector
from anomaly_serve.faults import NotFound, Unusable
from anomaly_serve.records import Job, Judgement
from anomaly_serve.service import Service
from anomaly_serve.store import Store
from anomaly_serve.teaching.members import Refused, Taken
from anomaly_serve.teaching.teaching import Fit, Teaching

Png = Callable[..., bytes]
QUICK = Fit("subspace", "edge", {"model.image_size": 64})


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("ANOMALY_ENGINE", "onnx")  # tests set torch otherwise, and no graph would be kept
    with Store.open(None, tmp_path) as store, Service(store) as service:
        service.add_product("disc", "anna")
        yield service


@pytest.fixture
def store(service: Service) -> Store:
    return service.store


@pytest.fixture
def teaching(service: Service, tmp_path: Path) -> Iterator[Teaching]:
    teaching = Teaching(service, tmp_path / "teach").start()
    yield teaching
    teaching.stop()


def add(store: Store, number: int, image: bytes | None, anomalous: bool, mark: Any = None) -> str:
    """A verdict of version 1 in the history."""
    id = f"{number:026}"
    store.record(Judgement(id, "disc", 1, number, "http", f"shot {number}", 1.0, 0.5, 2.0, anomalous, (48, 64)), image).result()
    store.mark(id, mark, "ben")
    return id


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


def test_teach_try_extend_and_try_again(teaching: Teaching, store: Store, png: Png) -> None:
    fill(teaching, png)
    job = ended(teaching, teaching.fit("disc", "anna", Fit(options={"model.image_size": 64})))
    assert job.state == "done", job.message
    assert job.message.startswith("version 1 is ready; tried on 2 images")
    (version,) = store.versions("disc")
    assert (version.parent, version.who, version.note) == (None, "anna", "patchcore, edge") and not version.is_active
    assert len(RunFolder.open(version.path).normals()) == 8  # all of them are learnt: the defects test
    assert type(open_detector(version.path, quick=True)).__name__ == "ExportedDetector"  # inspection needs no torch
    trial = teaching.trial("disc", 1)
    assert trial is not None and trial.against is None and all(row.is_defect and row.old is None for row in trial.rows)
    assert not list(teaching.sets.place("disc").glob("trial-*"))

    teaching.put_to_use("disc", 1, "anna", "the first")
    calibration = store.settings("disc", 1)[-1].calibration.at_rate(0.2)
    store.add_settings("disc", 1, calibration, 30.0, "anna", "fewer misses")
    for number, (anomalous, mark) in enumerate([(False, None), (True, "fine"), (False, "missed")], 1):
        add(store, number, png(50 + number, defect=mark == "missed"), anomalous, mark)
    with pytest.raises(DataError, match="knows all 8 normal images"):
        teaching.extend("disc", "anna", 1)
    taken = teaching.collect("disc")
    assert sorted(one.member.kind for one in taken if isinstance(one, Taken)) == ["abnormal", "normal"]
    assert teaching.collect("disc") == []
    job = ended(teaching, teaching.extend("disc", "anna", 1, accept=True))
    assert job.state == "done", job.message
    second = store.versions("disc")[1]
    assert second.parent == 1 and RunFolder.open(second.path).manifest()["added"][0]["false_alarm"]
    trial = teaching.trial("disc", 2)
    assert trial is not None and trial.against == 1
    rows = {row.name: row for row in trial.rows}
    assert rows["shot 2"].is_learnt and not rows["shot 3"].is_learnt
    assert rows["shot 1"].old_score == 1.0 and rows["shot 1"].is_defect is None  # judged by the active version: known
    summary = trial.summary()
    assert (summary["images"], summary["defects"], summary["learnt"], summary["fine"]) == (5, 3, 1, 0)

    with pytest.raises(Unusable, match="nothing to go back to"):
        teaching.take_back("disc", "anna")
    teaching.put_to_use("disc", 2, "anna")
    assert teaching.before("disc") == 1 and teaching.take_back("disc", "anna") == 1
    active = store.active("disc")
    assert active is not None and active.number == 1 and teaching.before("disc") is None

    teaching.draft("disc").take("normal", "empty belt.png", [png(77, empty=True)])  # learnt, it would never be found again
    job = ended(teaching, teaching.extend("disc", "anna", 1))
    assert job.state == "failed" and "empty belt" in job.message and "--yes" in job.message
    assert "set-" not in job.message and "/" not in job.message, job.message

    job = teaching.fit("disc", "anna", QUICK)  # begins with what was set for the version that judges
    assert job.facts["options"] == {"base.false_alarm_rate": 0.2, "data.least_area": 30.0, "model.image_size": 64}
    teaching.jobs.cancel(job.id)


def test_a_mark_that_is_taken_back_takes_its_image_back(teaching: Teaching, store: Store, png: Png) -> None:
    store.add_version("disc", "/nowhere", calibration=Calibration(None, 0.01, 0, "none"), who="anna")
    id = add(store, 1, png(1), True, "fine")
    assert teaching.uncollected("disc") == {"normal": 1, "abnormal": 0}
    teaching.collect("disc")
    assert [member.judgement for member in teaching.draft("disc").members()] == [id]
    store.mark(id, None, "ben")
    teaching.collect("disc")
    assert teaching.draft("disc").members() == []


def test_an_image_that_is_not_kept_any_more_is_told(teaching: Teaching, store: Store) -> None:
    store.add_version("disc", "/nowhere", calibration=Calibration(None, 0.01, 0, "none"), who="anna")
    add(store, 1, None, False, "missed")
    assert teaching.collect("disc") == [Refused("shot 1", "its image is not kept")]
    assert teaching.uncollected("disc") == {"normal": 0, "abnormal": 0}


def test_what_cannot_be_is_said_before_the_fit(teaching: Teaching, png: Png) -> None:
    fill(teaching, png, 2, 0)
    with pytest.raises(DataError, match="2 normal images are too few: a version needs 3"):
        teaching.fit("disc", "anna", QUICK)
    fill(teaching, png, 3, 1)
    with pytest.raises(ConfigError, match="image_sise"):
        teaching.fit("disc", "anna", replace(QUICK, options={"model.image_sise": 64}))
    assert teaching.jobs.of("disc") == []


def test_a_method_that_needs_more_images_says_so(teaching: Teaching, png: Png) -> None:
    fill(teaching, png, 3, 1)
    job = ended(teaching, teaching.fit("disc", "anna", Fit("visual_words", "edge")))
    assert job.state == "failed" and "there are 3 normal images to learn, and visual_words needs 5" in job.message


def test_a_failure_is_told_in_words_and_started_again(teaching: Teaching, store: Store, png: Png) -> None:
    nowhere = teaching.sets.folder / "nowhere"
    store.add_version("disc", str(nowhere), calibration=Calibration(None, 0.01, 0, "none"), who="anna")
    add(store, 1, png(1), False)
    job = ended(teaching, teaching.try_out("disc", "anna", 1))
    assert job.state == "failed" and "/nowhere' is not a run's folder" in job.message
    assert str(teaching.sets.folder) not in job.message  # no path of this machine
    again = ended(teaching, teaching.again(job.id, "ben"))
    assert again.id != job.id and again.who == "ben" and again.message == job.message
    assert teaching.jobs.get(job.id).facts["again"] == again.id
    with pytest.raises(NotFound, match="no such job"):
        teaching.jobs.get("0")
    with pytest.raises(NotFound, match="no version 7"):
        teaching.try_out("disc", "anna", 7)


def running(teaching: Teaching, job: Job) -> psutil.Process:
    """The process of a job that runs."""
    limit = time.monotonic() + 60
    while teaching.jobs.get(job.id).state != "running" or not children():
        assert time.monotonic() < limit
        time.sleep(0.01)
    return children()[0]


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if any("teaching.worker" in word for word in one.cmdline())]


def test_cancel_and_restart(teaching: Teaching, store: Store, png: Png) -> None:
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
    after = Teaching(teaching.service, teaching.sets.folder).start()
    try:
        running(after, fourth)  # it waited, and goes on
        again = after.again(third.id, "ben")
        assert again.state == "waiting" and again.facts["set"] == third.facts["set"]
    finally:
        after.stop()
    assert [job.state for job in after.jobs.of("disc")][:3] == ["waiting", "interrupted", "interrupted"]


def test_what_ran_when_the_service_was_killed_is_interrupted(teaching: Teaching, store: Store) -> None:
    teaching.stop()
    store.save_job(Job("1", "disc", "running", 1.0, 1.0, "anna", facts={"kind": "fit", "asked": []}))
    after = Teaching(teaching.service, teaching.sets.folder).start()
    after.stop()
    assert after.jobs.get("1").state == "interrupted"
