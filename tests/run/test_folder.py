"""A run's folder: of its own, written by one process at a time, readable again, and an error of ours where it is damaged."""

from __future__ import annotations

import csv
import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from sealing import seal

from anomaly_core import CONFIG, AnomalyError, RunError, RunFolder, RunResults, exclusive, run_experiment
from anomaly_core.run.folder import RECORDED
from tiny.runs import config

pytestmark = [pytest.mark.usefixtures("tiny"), pytest.mark.reliability]


@pytest.fixture(scope="module")
def finished(tiny: object, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    folder = tmp_path_factory.mktemp("finished")
    return run_experiment(config(folder, **{"base.metrics": ["auroc", "contrast", "best_accuracy", "residue"]}))


def test_a_run_leaves_everything_that_it_promises(finished: RunResults) -> None:
    names = "config.yaml manifest.json model.safetensors calibration.json metrics.json predictions.csv history.csv curves.json"
    for name in (*names.split(), "log.txt"):
        assert (finished.folder / name).is_file(), name
    run = RunFolder.open(finished.folder)
    assert run.manifest()["status"] == "complete"
    metrics = json.loads((finished.folder / "metrics.json").read_text())
    assert metrics["metrics"]["auroc"]["value"] == finished.metrics["auroc"] == 1.0
    assert metrics["resolution"] == {"evaluated_at": "input", "smallest": [32, 32], "largest": [32, 32]}
    with (finished.folder / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(finished.predictions) == metrics["images"]
    assert not list(finished.folder.glob(".*.part"))


def test_metrics_json_describes_itself(finished: RunResults) -> None:
    written = json.loads((finished.folder / "metrics.json").read_text())
    assert list(written["metrics"]) == ["auroc", "best_accuracy", "contrast", "residue"]  # by level, then by prominence
    auroc, best, residue = (written["metrics"][name] for name in ("auroc", "best_accuracy", "residue"))
    assert auroc == {
        "value": 1.0,
        "undefined": "",
        "categories": {},
        "title": "Image AUROC",
        "meaning": "how often an anomalous image scores above a normal one",
        "level": "image",
        "prominence": "headline",
        "oracle": False,
        "higher_is_better": True,
        "bounded": False,
    }
    assert best["oracle"] is True
    assert (residue["value"], residue["undefined"]) == (None, "the method does not reconstruct")
    assert written["figures"] == {"remembered_images": 6.0}
    threshold = written["threshold"]
    assert threshold["value"] == finished.runs[0].calibration.threshold
    assert (threshold["source"], threshold["false_alarm_rate"]) == ("2 held-out normal images", 0.01)
    assert threshold["false_alarm_interval"] == list(finished.runs[0].calibration.false_alarm_interval())


@pytest.mark.parametrize("options", [{}, {"data.holdout": 0.0}, {"data.category": ["linen", "wool"], "data.unified": True}])
def test_what_is_read_again_is_what_was_returned(options: dict[str, object], tmp_path: Path) -> None:
    for model in ("palette", "mirror"):
        (result,) = run_experiment(config(tmp_path, model=model, **options)).runs
        assert RunFolder.open(result.folder).result() == result


def test_the_log_has_what_was_warned_of(finished: RunResults) -> None:
    warnings = RunFolder.open(finished.folder).manifest()["warnings"]
    assert any("2 held-out normal images cannot support" in text for text in warnings)
    assert (finished.folder / "log.txt").read_text() == "".join(f"warning: {text}\n" for text in warnings)


def test_a_damaged_complete_run_is_an_error_of_ours(finished: RunResults, tmp_path: Path) -> None:
    for name in ("manifest.json", "metrics.json", "calibration.json", "model.safetensors", "predictions.csv", "config.yaml"):
        folder = tmp_path / name.replace(".", "-")
        shutil.copytree(finished.folder, folder)
        (folder / name).unlink()
        (folder / name).mkdir()  # not to be read, even by root
        with pytest.raises(AnomalyError):
            RunFolder(folder).state()
            RunFolder(folder).config()
            RunFolder(folder).result()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", "{}"),
        ("metrics.json", "[1]"),
        ("metrics.json", '{"metrics": {"auroc": 1}, "figures": {}, "resolution": {}}'),
        ("manifest.json", '{"status": "complete"}'),
        ("manifest.json", "{"),
        ("predictions.csv", "path,category,defect,label,score\na,b,c,one,0.5\n"),
        ("predictions.csv", "path\na\n"),
        ("calibration.json", '{"threshold": 1}'),
    ],
)
def test_a_file_of_another_shape_is_an_error_that_names_it(
    name: str, content: str, finished: RunResults, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    (folder / name).write_text(content)
    with pytest.raises(RunError, match=f"{name}.*(run it again|run again)"):
        RunFolder(folder).result()
    if name != "manifest.json":
        seal(folder)
        with pytest.raises(RunError, match=f"cannot read .*{name}.*run it again"):
            RunFolder(folder).result()


def test_what_is_no_complete_run_is_refused_by_name(finished: RunResults, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run's folder: it has no manifest\.json"):
        RunFolder.open(tmp_path)
    with pytest.raises(RunError, match=r"is not a run's folder: there is nothing at that path\. Give"):
        RunFolder.open(tmp_path / "none")
    with pytest.raises(RunError, match=r"is not a run's folder: it has no config\.yaml"):
        RunFolder.unfinished(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 1, "status": "interrupted"}')
    with pytest.raises(RunError, match=r"is 'interrupted', not complete\. Go on with `anomaly run --resume"):
        RunFolder.open(tmp_path)
    assert RunFolder(finished.folder).is_complete() and not RunFolder(tmp_path).is_complete()


def test_a_run_is_written_by_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record) -> None:
    monkeypatch.setattr("anomaly_core.run.files.PATIENCE", 0.2)
    settings = config(tmp_path)
    run = RunFolder.create(settings.base.output, "weave", "linen", "palette")
    run.write(CONFIG, settings.to_yaml())
    with exclusive(run.folder, "taken"), pytest.raises(RunError, match="another process is writing the run"):
        run_experiment(settings, resume=run.folder)
    assert [path.name for path in run.folder.iterdir() if path.name != ".lock"] == ["config.yaml"]
    assert run_experiment(settings, resume=run.folder).folder == run.folder
    record("fault", "two runs at once in one folder: the second is refused")


def test_runs_started_at_once_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record) -> None:
    monkeypatch.setattr("anomaly_core.run.files.secrets.token_hex", lambda count: "aaaaaa")  # the worst of luck
    folders: list[Path] = []
    failed: list[BaseException] = []

    def create() -> None:
        try:
            folders.append(RunFolder.create(str(tmp_path), "d", "c", "m").folder)
        except BaseException as error:  # said by the assert below
            failed.append(error)

    threads = [threading.Thread(target=create) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(set(folders)) == 20
    names = iter(["first", "first", "first", "second"])  # another process was quicker, twice
    monkeypatch.setattr("anomaly_core.run.folder.run_id", lambda place: next(names))
    assert [RunFolder.create(str(tmp_path), "d", "c", "m").folder.name for _ in range(2)] == ["first", "second"]
    record("fault", "runs created in one moment", 20)


def test_a_clock_that_is_set_back_changes_no_order_and_no_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record
) -> None:
    settings = config(tmp_path)
    place = (settings.base.output, "weave", "linen", "palette")
    before = RunFolder.create(*place)
    hours = iter(range(10**6))
    real = time.time()
    monkeypatch.setattr("anomaly_core.run.files.time.gmtime", lambda *s: time.localtime(*s) if s else time.localtime(0))
    monkeypatch.setattr("anomaly_core.run.files.time.time", lambda: real - 3600 * next(hours))
    result = run_experiment(settings)
    assert result.folder.name > before.folder.name
    manifest = RunFolder.open(result.folder).manifest()
    assert manifest["finished"] > manifest["started"]
    assert manifest["fit_seconds"] > 0 and manifest["test_images_per_second"] > 0
    latest = RunFolder.latest(*place, settings)
    assert latest is not None and latest.folder == result.folder
    record("fault", "a clock that is set back by hours during a run")


def test_a_complete_run_is_read_and_not_repeated(finished: RunResults) -> None:
    settings = RunFolder.open(finished.folder).config()
    before = (finished.folder / "manifest.json").stat().st_mtime_ns
    again = run_experiment(settings, resume=True)
    assert again.folder == finished.folder and again.runs == finished.runs
    assert (finished.folder / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["..", ".", "", "../../x", "/etc", "a/../../b", "..\\..\\x", "C:\\x", "a\0b", " ", "...", "~"])
def test_no_name_leaves_the_output_folder(tmp_path: Path, name: str, record) -> None:
    output = tmp_path / "deep" / "output"
    for parts in (("d", name, "m"), (name, "c", "m"), ("d", "c", name), (name, name, name)):
        folder = RunFolder.create(str(output), *parts).folder
        assert len(folder.relative_to(output).parts) == 4 and ".." not in folder.parts
        assert folder.resolve().is_relative_to(output.resolve())
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["output"]
    record("security", f"a data set, category or model named {name!r}", 4)


@pytest.mark.reliability("input")
@pytest.mark.parametrize("name", RECORDED)
def test_a_file_that_the_run_did_not_write_is_refused_and_named(name: str, finished: RunResults, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    assert RunFolder.open(folder).differing() == {}
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    run = RunFolder.open(folder)
    assert list(run.differing()) == [name]
    with pytest.raises(RunError, match=rf"{name}' is not what the run wrote"):
        run.state() if name == "model.safetensors" else run.read(name)
    assert RunFolder.open(folder, verify=False).read(name) == bytes(content)


def test_numbers_that_were_changed_with_their_digest_are_still_checked(finished: RunResults, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    values = json.loads((folder / "calibration.json").read_text())
    for key, wrong in (("threshold", float("nan")), ("threshold", "0.5"), ("scores", values["scores"][::-1]), ("count", 9)):
        (folder / "calibration.json").write_text(json.dumps({**values, key: wrong}))
        with pytest.raises(RunError, match=r"calibration\.json.*run it again"):
            RunFolder.open(seal(folder)).calibration()


@pytest.mark.parametrize("facts", [{"format": 2}, {"format": True}, {"format": "1"}, {"status": "done"}, {"files": {"a": "b"}}])
def test_a_manifest_of_another_format_is_refused(facts: dict[str, object], finished: RunResults, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    values = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**values, **facts}))
    with pytest.raises(RunError, match=rf"manifest\.json.*{next(iter(facts))}"):
        RunFolder.open(folder)


def test_weights_that_are_not_finite_are_refused(finished: RunResults, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    run = RunFolder(folder)
    state = run.state()
    name = next(iter(state))
    state[name].view(-1)[0] = float("inf")
    run.write_state(state)
    with pytest.raises(RunError, match=rf"tensor '{name}' holds NaN or infinity"):
        RunFolder.open(seal(folder)).state()
