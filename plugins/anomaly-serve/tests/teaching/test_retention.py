"""Which versions keep their files, how those of others go, and what is left when the service is killed meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anomaly_core import DataError
from anomaly_serve.faults import Conflict, FilesRemoved, NotFound
from anomaly_serve.records import Job
from anomaly_serve.service import Service, ServiceOptions
from anomaly_serve.serving import bring
from anomaly_serve.store import Store
from anomaly_serve.teaching.members import Limits, Taken
from anomaly_serve.teaching.teaching import Fit, Teaching
from anomaly_serve.testing import BrightSpots, as_file, grey_image

LAST = 3


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    options = ServiceOptions(opener=lambda path: BrightSpots())
    with Store.open(None, tmp_path / "store") as store, Service(store, options) as service:
        service.add_product("disc", "anna")
        yield service


@pytest.fixture
def teaching(service: Service) -> Teaching:
    """Not started: its jobs stay as they are."""
    return Teaching(service, Path(service.store.folder) / "teach", limits=Limits(versions=LAST))


def teach(teaching: Teaching, *, parent: int | None = None, name: str = "", images: int = 1) -> int:
    """A version as a job leaves it: a run with weights, the set that it was taught from, and what is known of it."""
    store, number = teaching.store, len(teaching.store.versions("disc")) + 1
    facts = {"kind": "fit" if parent is None else "extend", "parent": parent, "set": name or f"set-{number}", "asked": []}
    job = Job(f"job{number}", "disc", "done", number, number, "anna", facts=facts)
    store.save_job(job)
    run = teaching.work.runs(job) / "subspace" / "0001"
    run.mkdir(parents=True)
    (run / "model.safetensors").write_bytes(b"weights")
    teaching.log_of(job).write_text("fitted")
    taken = teaching.sets.get("disc", facts["set"])
    for seed in range(images):
        assert isinstance(taken.take("normal", f"{seed}", [as_file(grey_image(seed=100 * number + seed))]), Taken)
    known = {"set": facts["set"], "job": job.id, "run": str(run), "warnings": [], "extends": True}
    return teaching.service.add_version("disc", run, parent=parent, who="anna", note="", taught=known).number


def with_runs(teaching: Teaching) -> set[int]:
    """Versions whose run is whole on the disk."""
    runs = teaching.sets.place("disc") / "runs"
    return {int(path.parents[2].name.removeprefix("job")) for path in runs.glob("*/*/*/model.safetensors")}


def with_files(teaching: Teaching) -> set[int]:
    """By what the store says."""
    return {version.number for version in teaching.store.versions("disc") if version.files_removed is None}


def sets(teaching: Teaching) -> set[str]:
    return {path.name for path in teaching.sets.place("disc").glob("set-*")}


def test_the_last_and_the_needed_keep_their_files(teaching: Teaching, service: Service, tmp_path: Path) -> None:
    store = service.store
    for _ in range(2):
        teach(teaching)
    given = service.add_version("disc", tmp_path / "given", who="anna").number
    for _ in range(6):
        teach(teaching)
    teaching.put_to_use("disc", 2, "anna")
    teaching.put_to_use("disc", 4, "anna")
    trial = teaching.try_out("disc", "anna", 5)
    used = teaching.sets.used.bytes()
    assert teaching.retention.apply("disc") == [1, 6]
    assert with_files(teaching) == {2, given, 4, 5, 7, 8, 9}  # before, given, judges, is tried, and the last three
    assert with_runs(teaching) == with_files(teaching) - {given}
    assert sets(teaching) == {f"set-{number}" for number in with_runs(teaching)}
    assert teaching.sets.used.bytes() < used and not teaching.log_of(Job("job1", "disc", "done", 1, 1, "")).exists()
    assert teaching.retention.apply("disc") == []

    version = store.version("disc", 1)
    assert version is not None and version.files_removed == pytest.approx(time.time(), abs=60)
    today = time.strftime("%Y-%m-%d")
    assert version.removal == f"its files were removed on {today} to keep the last 3"
    noted = [change for change in store.changes("disc") if change.action == "remove files"]
    assert [(one.who, one.facts) for one in noted[::-1]] == [
        ("service", {"version": number, "why": "to keep the last 3"}) for number in (1, 6)
    ]
    assert len(store.settings("disc", 1)) == 1  # the version stays
    teaching.jobs.cancel(trial.id)
    assert teaching.retention.apply("disc") == [5]


def test_what_has_no_files_is_told_with_the_next_step(teaching: Teaching, service: Service) -> None:
    for _ in range(2):
        teach(teaching)
    service.activate("disc", 2, "anna")
    image = as_file(grey_image())
    assert service.score("disc", image, version=1, record=False).result(20).judgement.version == 1  # it is in memory
    judged = service.score("disc", image, version=1).result(20).judgement
    assert teaching.retention.remove("disc", 1, "ben").removal.endswith(" by ben")
    words = r"version 1 of 'disc' cannot be used any more: its files were removed on .* by ben.*anomaly serve disc=RUN"
    for use in (
        lambda: service.map_of(judged),
        lambda: service.activate("disc", 1, "anna"),
        lambda: teaching.put_to_use("disc", 1, "anna"),
        lambda: service.store.activate("disc", 1, "anna"),
        lambda: teaching.try_out("disc", "anna", 1),
        lambda: teaching.extend("disc", "anna", 1),
    ):
        with pytest.raises(FilesRemoved, match=words):
            use()
    active = service.store.active("disc")
    assert active is not None and active.number == 2
    assert service.store.judgement(judged.id) == judged and teaching.suspects("disc", 1) == []
    assert teaching.retention.remove("disc", 1, "carla").removal.endswith(" by ben")  # it was done
    assert [change.who for change in service.store.changes("disc") if change.action == "remove files"] == ["ben"]


def test_what_is_needed_cannot_be_removed_by_hand(teaching: Teaching, service: Service, tmp_path: Path) -> None:
    for _ in range(4):
        teach(teaching)
    service.add_version("disc", tmp_path / "given", who="anna")
    service.add_product("ring", "anna")
    service.add_version("ring", teaching.store.versions("disc")[3].path, who="anna")
    teaching.put_to_use("disc", 1, "anna")
    teaching.put_to_use("disc", 2, "anna")
    teaching.try_out("disc", "anna", 3)
    reasons = {1: "may be taken back", 2: "it judges", 3: "a job needs them", 4: "another version has the same", 5: "gave them"}
    for number, words in reasons.items():
        with pytest.raises(Conflict, match=f"version {number} of 'disc' keeps its files: .*{words}"):
            teaching.retention.remove("disc", number, "anna")
    with pytest.raises(NotFound):
        teaching.retention.remove("disc", 9, "anna")
    assert with_files(teaching) == {1, 2, 3, 4, 5} and with_runs(teaching) == {1, 2, 3, 4}
    for number in (1, 2):  # whoever asks
        with pytest.raises(Conflict):
            service.store.remove_files("disc", number, "anna")
    with pytest.raises(DataError):
        service.store.remove_files("disc", 9, "anna")


def test_a_set_that_a_later_version_was_taught_on_from_stays(teaching: Teaching) -> None:
    first = teach(teaching)
    second = teach(teaching, parent=first)
    third = teach(teaching, parent=second)
    other = teach(teaching, name="set-shared")
    teach(teaching, name="set-shared")
    for number in (first, second, other):
        teaching.retention.remove("disc", number, "anna")
    assert with_runs(teaching) == {third, 5}
    assert sets(teaching) == {"set-1", "set-2", "set-3", "set-shared"}
    teaching.retention.remove("disc", third, "anna")
    assert sets(teaching) == {"set-shared"}


def test_the_run_of_a_version_whose_trial_was_cut_off_stays(teaching: Teaching) -> None:
    teach(teaching)
    job = teaching.jobs.get("job1")
    teaching.store.save_job(Job(job.id, "disc", "interrupted", 1, 1, "anna", facts=job.facts))
    unfinished = teaching.work.runs(Job("job0", "disc", "failed", 0, 0, "anna")) / "subspace"
    unfinished.mkdir(parents=True)
    teaching.store.save_job(Job("job0", "disc", "failed", 0, 0, "anna", facts={"kind": "fit", "asked": []}))
    teaching.retention.forget_failed("disc")
    assert with_runs(teaching) == {1} and not unfinished.exists()


def test_a_folder_that_leads_elsewhere_is_left_alone(teaching: Teaching, tmp_path: Path) -> None:
    number = teach(teaching)
    job = teaching.sets.place("disc") / "runs" / "job1"
    (tmp_path / "other disk").mkdir()
    job.rename(tmp_path / "other disk" / "job1")
    job.symlink_to(tmp_path / "other disk" / "job1", target_is_directory=True)
    with pytest.raises(Conflict, match="removes only what it has taught"):
        teaching.retention.remove("disc", number, "anna")
    assert with_runs(teaching) == {number}


def test_a_run_from_a_backup_is_a_new_version(teaching: Teaching, service: Service) -> None:
    teach(teaching)
    service.activate("disc", teach(teaching), "anna")
    (removed, _) = service.store.versions("disc")
    teaching.retention.remove("disc", 1, "anna")
    Path(removed.path).mkdir(parents=True)  # where it was: it is not deleted again
    bring(service, [("disc", Path(removed.path))], "command line")
    teaching.retention.start()
    active = service.store.active("disc")
    assert active is not None and (active.number, active.path) == (3, removed.path) and Path(active.path).is_dir()


def test_it_is_kept_to_after_a_fit_and_at_the_start(
    service: Service, png: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANOMALY_ENGINE", "onnx")
    folder = Path(service.store.folder) / "teach"
    teaching = Teaching(service, folder, limits=Limits(versions=1)).start()
    try:
        for seed in range(4):
            teaching.draft("disc").take("normal", f"good{seed}.png", [png(seed)])
        jobs = [teaching.fit("disc", "anna", Fit("subspace", "edge", {"model.image_size": 64})) for _ in range(2)]
        limit = time.monotonic() + 240
        while any(teaching.jobs.get(job.id).state in ("waiting", "running") for job in jobs):
            assert time.monotonic() < limit
            time.sleep(0.05)
    finally:
        teaching.stop()
    ended = teaching.jobs.get(jobs[1].id)
    assert ended.state == "done" and ended.message.endswith("; the files of version 1 were removed to keep the last 1")
    first, second = service.store.versions("disc")
    assert not Path(first.path).exists() and (Path(second.path) / "config.yaml").is_file()
    assert sets(teaching) == {ended.facts["set"]} and len(teaching.draft("disc").members()) == 4
    Path(first.path).mkdir(parents=True)  # what a kill has left
    Teaching(service, folder, limits=Limits(versions=1)).retention.start()
    assert not Path(first.path).exists()


def test_the_store_says_it_before_anything_is_deleted(teaching: Teaching, monkeypatch: pytest.MonkeyPatch) -> None:
    teach(teaching)
    teach(teaching)
    said: list[set[int]] = []
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: said.append(with_files(teaching)))
    teaching.retention.remove("disc", 1, "anna")
    assert said and all(there == {2} for there in said) and with_runs(teaching) == {1, 2}
    monkeypatch.undo()
    teaching.retention.start()
    assert with_runs(teaching) == {2} and sets(teaching) == {"set-2"}


REMOVES = """
import sys
from pathlib import Path
from anomaly_serve.service import Service, ServiceOptions
from anomaly_serve.store import Store
from anomaly_serve.teaching.teaching import Teaching
from anomaly_serve.testing import BrightSpots
with Store.open(None, Path(sys.argv[1])) as store:
    service = Service(store, ServiceOptions(opener=lambda path: BrightSpots())).start()
    teaching = Teaching(service, Path(sys.argv[1]) / "teach")
    for version in store.versions("disc")[:-1]:
        teaching.retention.remove("disc", version.number, "anna")
        print(version.number, flush=True)
"""


@pytest.mark.parametrize("after", [1, 4, 7])
def test_killed_at_any_moment_the_store_and_the_disk_agree_at_the_next_start(tmp_path: Path, after: int) -> None:
    folder, options = tmp_path / "store", ServiceOptions(opener=lambda path: BrightSpots())
    with Store.open(None, folder) as store, Service(store, options) as service:
        service.add_product("disc", "anna")
        teaching = Teaching(service, folder / "teach")
        for _ in range(10):
            teach(teaching, images=20)
    with subprocess.Popen([sys.executable, "-c", REMOVES, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        done = [int(process.stdout.readline()) for _ in range(after)]
        process.kill()
    with Store.open(None, folder) as store, Service(store, options) as service:
        teaching = Teaching(service, folder / "teach")
        there = with_files(teaching)
        assert there <= with_runs(teaching) and not there & set(done)
        for number in there:
            images = teaching.work.set_of("disc", number)
            assert images is not None and len(images.members()) == 20
        teaching.retention.start()
        assert with_runs(teaching) == there and sets(teaching) == {f"set-{number}" for number in there}
