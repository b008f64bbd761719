"""What happens to runs when something breaks: kills, interrupts, full disks and memory, dying processes, clocks that jump."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from torch.utils.data import get_worker_info

from anomaly_core import RunConfig, load_run, run_experiment
from anomaly_core.base.data import SampleDataset
from anomaly_core.errors import AnomalyError, DataError, RunError
from anomaly_core.exhaustion import Portions, explained
from anomaly_core.experiment import Experiment
from anomaly_core.features import FeatureCache
from anomaly_core.files import exclusive
from anomaly_core.registry import registry
from anomaly_core.types import Prediction

pytestmark = pytest.mark.reliability

SETTINGS = {
    "data.size": 64, "data.train_count": 8, "data.good_count": 3, "data.bad_count": 5, "data.holdout": 0.25,
    "model.image_size": 64, "train.epochs": 3, "base.pictures": 2,
}  # fmt: skip
KEPT = ("predictions.csv", "model.safetensors", "calibration.json")
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sample")


@pytest.fixture(autouse=True)
def _no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs inside this process draw nothing, which takes longer than they do."""
    monkeypatch.setattr("anomaly_report.report.write_report", lambda folder: None)


def sets(root: Path, **more: Any) -> list[str]:
    values = {**SETTINGS, "data.root": root, **more}
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def fit(root: Path, output: Path, **more: Any) -> list[str]:
    start = ["run", "--model", "vanilla_ae", "--data", "sample", "--preset", "edge", "--category", "fabric"]
    return [*start, "--output", str(output), "--no-plugin", "anomaly-report", *sets(root, **more)]


def config(root: Path, output: Path, **more: Any) -> RunConfig:
    options = {**SETTINGS, "data.root": str(root), "data.category": ["fabric"], "base.output": str(output), **more}
    return RunConfig.create(model="vanilla_ae", data="sample", preset="edge", overrides=options)


@pytest.fixture(scope="session")
def whole(commands: Any, root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A run that nothing disturbed, and how often it flushed."""
    output = tmp_path_factory.mktemp("whole")
    done = commands(*fit(root, output))
    assert done.code == 0, done.err
    return newest(output), done.writes


def statuses(output: Path) -> list[str]:
    return [json.loads(path.read_text())["status"] for path in sorted(output.rglob("manifest.json"))]


def newest(output: Path) -> Path:
    """The newest complete run or evaluation below a folder."""
    found = [p.parent for p in output.rglob("manifest.json") if json.loads(p.read_text())["status"] == "complete"]
    return max(found, key=lambda folder: (len(folder.parts), folder.name))


def contents(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def assert_whole(output: Path) -> None:
    """Every file that has its name parses, and a folder that says complete holds all that a complete one does."""
    readers: dict[str, Callable[[Path], Any]] = {
        ".json": lambda path: json.loads(path.read_text()),
        ".yaml": lambda path: yaml.safe_load(path.read_text()),
        ".safetensors": lambda path: [safe_open(path, "pt").keys()],
        ".pt": lambda path: torch.load(path, weights_only=True),
        ".png": lambda path: Image.open(path).load(),
        ".csv": lambda path: list(csv.DictReader(path.open(newline=""), strict=True)),
        ".html": lambda path: path.read_text().rindex("</html>"),
    }
    for path in output.rglob("*"):
        if path.is_file() and not path.name.endswith(".part"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # the readers above leave closing to the interpreter
                readers.get(path.suffix, Path.read_bytes)(path)
    for path in output.rglob("manifest.json"):
        folder = path.parent
        if json.loads(path.read_text())["status"] == "complete":
            images = json.loads((folder / "metrics.json").read_text())["images"]
            rows = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
            assert len(rows) == images
            assert all((folder / row["picture"]).is_file() for row in rows if row["picture"])
            if "evaluations" not in folder.parts:
                load_run(folder)


@dataclass(frozen=True)
class Scenario:
    """A command to be killed: how it starts, how it goes on, and what must come out; any command can have one.

    Attributes:
        prepare: makes what the command needs in a folder.
        first, again: the arguments, given the folder.
        outcome: what the folder then holds that an undisturbed one holds too.
    """

    prepare: Callable[[Path], None]
    first: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    outcome: Callable[[Path], Any]


def scenarios(root: Path, finished: Path) -> dict[str, Scenario]:
    def nothing(folder: Path) -> None:
        return

    def copy(folder: Path) -> None:
        shutil.copytree(finished, folder / "run")

    def report(folder: Path) -> dict[str, bytes]:
        pages = [folder / "run" / "report.html", *sorted((folder / "run" / "figures").rglob("*.png"))]
        return {str(page.relative_to(folder)): page.read_bytes() for page in pages}

    def table(folder: Path) -> list[list[str]]:
        rows = csv.DictReader((folder / "benchmark" / "results.csv").read_text().splitlines())
        return [[row[key] for key in ("category", "model", "seed", "image_auroc", "error")] for row in rows]

    def grid(folder: Path) -> list[str]:
        start = ["benchmark", "--model", "vanilla_ae", "--data", "sample", "--preset", "edge", "--category", "fabric"]
        return [*start, "--seed", "0", "--seed", "1", "--no-plugin", "anomaly-report", "--output", str(folder), *sets(root)]

    def evaluate(folder: Path) -> list[str]:
        return ["evaluate", str(folder / "run"), "--no-plugin", "anomaly-report"]

    def export(folder: Path) -> list[str]:
        return ["export", str(folder / "run"), "--format", "onnx"]

    def exported(folder: Path) -> bytes:
        return (folder / "run" / "model.onnx").read_bytes()

    def build(folder: Path) -> list[str]:
        return ["report", str(folder / "run")]

    return {
        "run": Scenario(
            nothing,
            lambda folder: fit(root, folder),
            lambda folder: [*fit(root, folder), "--resume"],
            lambda folder: contents(newest(folder), KEPT),
        ),
        "evaluate": Scenario(copy, evaluate, evaluate, lambda folder: contents(newest(folder), ("predictions.csv",))),
        "report": Scenario(copy, build, build, report),
        "export": Scenario(copy, export, export, exported),
        "benchmark": Scenario(nothing, grid, lambda folder: [*grid(folder), "--resume"], table),
    }


def kill_and_go_on(commands: Any, scenario: Scenario, folder: Path, kill: dict[str, float], expected: Any) -> int:
    folder.mkdir(parents=True)
    scenario.prepare(folder)
    first = commands(*scenario.first(folder), kill=kill)
    assert first.code in (0, -signal.SIGKILL), first.err
    assert_whole(folder)
    again = commands(*scenario.again(folder))
    assert again.code == 0, again.err
    assert_whole(folder)
    assert scenario.outcome(folder) == expected
    return int(first.code != 0)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_killed_run_claims_nothing_and_resumes_to_the_same(commands, root, whole, tmp_path, step, record) -> None:
    """Three flushes in a row, which are every phase of a write."""
    finished, writes = whole
    seed = 7
    moment = random.Random(seed).randint(0, writes - 3) + step
    scenario = scenarios(root, finished)["run"]
    killed = kill_and_go_on(commands, scenario, tmp_path / "out", {"write": moment}, contents(finished, KEPT))
    assert killed == 1
    leftovers = list((tmp_path / "out").rglob(".*.part"))
    assert not leftovers  # a resumed run sweeps what the killed one left
    record("fault", f"kill -9 of `run` at flush {moment} of {writes}", 1, seed=seed)


@pytest.mark.soak
@pytest.mark.parametrize("command", ["run", "evaluate", "report", "benchmark", "export"])
def test_killed_at_random_moments(commands, root, whole, tmp_path, command, soak_minutes, soak_seed, record) -> None:
    """Twenty moments of each command in ten minutes of soak, half of them at a write, half anywhere; on a slow disk, four."""
    if command not in registry.commands:
        pytest.skip(f"no distribution with the command {command} is installed")
    finished, _ = whole
    scenario = scenarios(root, finished)[command]
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    scenario.prepare(undisturbed)
    reference = commands(*scenario.first(undisturbed))
    assert reference.code == 0, reference.err
    expected = scenario.outcome(undisturbed)
    draw, end, killed, tried = random.Random(soak_seed), time.monotonic() + 60 * soak_minutes * 0.2, 0, 0
    while killed < 4 or (killed < 2 * soak_minutes and time.monotonic() < end):
        moment: dict[str, float] = {"after": draw.uniform(0, reference.seconds)}
        if tried % 2 and reference.writes:
            moment = {"write": draw.randint(1, reference.writes)}
        killed += kill_and_go_on(commands, scenario, tmp_path / f"try-{tried}", moment, expected)
        shutil.rmtree(tmp_path / f"try-{tried}")
        tried += 1
    record("fault", f"kill -9 of `{command}` at random moments, then the same command (with --resume)", killed, seed=soak_seed)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_so_and_goes_on(commands, root, whole, tmp_path, number, code, record) -> None:
    finished, writes = whole
    done = commands(*fit(root, tmp_path), kill={"write": writes // 2, "signal": number})
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert statuses(tmp_path) == ["interrupted"]
    if code == 130:
        assert "--resume" in done.err
    again = commands(*fit(root, tmp_path), "--resume")
    assert again.code == 0, again.err
    assert contents(newest(tmp_path), KEPT) == contents(finished, KEPT)
    record("fault", f"{number.name} in the middle of `run`")


def test_a_full_disk_is_one_error_and_no_complete_run(commands, root, whole, tmp_path, record) -> None:
    finished, _ = whole
    limit = (finished / "model.safetensors").stat().st_size // 2
    done = commands(*fit(root, tmp_path), largest_file=limit)
    assert done.code == 1 and "cannot write" in done.err and "--output" in done.err and "Traceback" not in done.err
    assert statuses(tmp_path) == ["failed"]
    assert not list(tmp_path.rglob(".*.part"))
    again = commands(*fit(root, tmp_path), "--resume")
    assert again.code == 0, again.err
    assert contents(newest(tmp_path), KEPT) == contents(finished, KEPT)
    record("fault", "no room for a file of the size of the weights")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """A file system in memory of a chosen size; root alone may mount one."""
    if not IS_ROOT:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options: str) -> Path:
        done = subprocess.run(
            ["mount", *options, "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, text=True, check=False
        )
        if done.returncode and "remount" not in str(options):
            pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


@pytest.mark.soak
@pytest.mark.parametrize("kilobytes", [4, 40, 200])
def test_a_disk_that_is_full(commands, root, whole, small_disk, kilobytes, record) -> None:
    finished, _ = whole
    place = small_disk("-o", f"size={kilobytes}k")
    done = commands(*fit(root, place / "runs"))
    assert done.code == 1 and "No space left" in done.err and "Traceback" not in done.err
    assert_whole(place)
    assert "complete" not in statuses(place)
    small_disk("-o", "remount,size=64m")
    again = commands(*fit(root, place / "runs"), "--resume")
    assert again.code == 0, again.err
    assert contents(newest(place), KEPT) == contents(finished, KEPT)
    record("fault", f"a disk of {kilobytes} kB that runs full, then more room and --resume")


@pytest.mark.soak
def test_a_disk_that_cannot_be_written(commands, root, small_disk, record) -> None:
    place = small_disk("-o", "ro")
    done = commands(*fit(root, place / "runs"))
    assert done.code == 1 and "Read-only file system" in done.err and "--output" in done.err and "Traceback" not in done.err
    record("fault", "a read-only file system")


def test_a_file_where_the_folder_must_be(commands, root, tmp_path, record) -> None:
    (tmp_path / "runs").write_text("a file")
    done = commands(*fit(root, tmp_path / "runs"))
    assert done.code == 1 and "cannot make the run's folder" in done.err and "--output" in done.err
    assert "Traceback" not in done.err
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RunError, match=r"base\.cache_folder"):
        FeatureCache(1000, tmp_path / "cache" / "features")
    record("fault", "a file where a folder must be")


def test_a_full_cache_costs_nothing_but_time(tmp_path, monkeypatch, record) -> None:
    cache = FeatureCache(10**6, tmp_path / "features")

    def full(*arguments: Any) -> None:
        raise RunError("cannot write: No space left on device.")

    images = torch.rand(2, 3, 4, 4)
    (expected,) = cache(images, lambda batch: [batch * 2])
    for file in (tmp_path / "features").iterdir():
        file.write_bytes(file.read_bytes()[:20])  # torn
    (again,) = FeatureCache(10**6, tmp_path / "features")(images, lambda batch: [batch * 2])
    assert torch.equal(again, expected)
    mended = FeatureCache(10**6, tmp_path / "features")
    mended(images, lambda batch: [batch * 2])
    assert (mended.hits, mended.misses) == (2, 0)  # a torn file was written anew
    monkeypatch.setattr("anomaly_core.features.write_whole", full)
    with pytest.warns(UserWarning, match="No space left"):
        cache(torch.rand(2, 3, 4, 4), lambda batch: [batch * 2])
    record("fault", "a disk that is full for cached features, and torn files in the cache")


def allocate(count: int, most: int, error: type[BaseException]) -> None:
    if count > most:
        raise error(f"[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate {count} images")


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, torch.cuda.OutOfMemoryError])
def test_scoring_goes_on_with_half_a_batch(error, record) -> None:
    seen: list[int] = []

    def work(images: torch.Tensor) -> Prediction:
        if error is torch.cuda.OutOfMemoryError and len(images) > 3:
            raise error("CUDA out of memory. Tried to allocate 1 GiB")
        allocate(len(images), 3, error)
        seen.append(len(images))
        return Prediction(images * 2)

    portions = Portions("scoring")
    with pytest.warns(UserWarning) as told:
        parts = portions.run(work, torch.arange(16.0))
    assert seen == [2] * 8 and [str(item.message).partition("going on with ")[2][:2] for item in told] == ["8.", "4.", "2."]
    assert torch.equal(Prediction.joined(parts).scores, torch.arange(16.0) * 2)
    portions.run(work, torch.arange(5.0))  # what did not fit is not tried again
    assert seen[8:] == [2, 2, 1]
    with pytest.warns(UserWarning), pytest.raises(RunError, match="one image alone"):
        Portions("scoring").run(lambda images: allocate(len(images), 0, error), torch.arange(4.0))
    with pytest.raises(RuntimeError, match="shapes"):
        Portions("scoring").run(lambda images: (_ for _ in ()).throw(RuntimeError("shapes")), torch.arange(4.0))
    record("fault", f"out of memory while scoring ({error.__name__}): halved")


def test_training_in_parts_is_the_same_training(root, tmp_path, monkeypatch, record) -> None:
    from anomaly_autoencoder.modeler import ReconstructionModeler

    def weights(output: str) -> tuple[Path, dict[str, torch.Tensor]]:
        # without batch statistics and random draws, a sum of parts is the whole batch's gradient
        result = run_experiment(config(root, tmp_path / output, **{"model.norm": False, "data.holdout": 0.25}))
        return result.folder, Experiment(result.folder).load_state()

    _, expected = weights("whole")
    step = ReconstructionModeler.training_step

    def hungry(self: Any, batch: Any) -> Any:
        allocate(len(batch), 1, RuntimeError)
        return step(self, batch)

    monkeypatch.setattr(ReconstructionModeler, "training_step", hungry)
    folder, found = weights("parts")
    log = (folder / "log.txt").read_text()
    assert "out of memory while training with 4 images at once: going on with 2" in log and "going on with 1" in log
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
    record("fault", "out of memory while training: halved, gradients summed")


def test_out_of_memory_elsewhere_is_one_error() -> None:
    error = explained(MemoryError("Unable to allocate 9 TiB"))
    assert isinstance(error, RunError) and "9 TiB" in str(error) and "--resume" in str(error)
    assert explained(ValueError("x")).args == ("x",)


def test_a_reading_process_that_dies_is_one_error(root, tmp_path, monkeypatch, record) -> None:
    read = SampleDataset._read

    def deadly(self: SampleDataset, index: int) -> Any:
        if get_worker_info() is not None and index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, index)

    monkeypatch.setattr(SampleDataset, "_read", deadly)
    with pytest.raises(DataError, match=r"a process that reads images died.*data\.num_workers.*--resume"):
        run_experiment(config(root, tmp_path, **{"data.num_workers": 1}))
    assert statuses(tmp_path) == ["failed"]
    record("fault", "a process that reads images is killed")


def test_a_reading_process_hands_over_the_error_alone(root, tmp_path, monkeypatch) -> None:
    def bad(self: SampleDataset, index: int) -> Any:
        raise DataError("cannot read the image 'x.png': it is no image. Remove it.")

    monkeypatch.setattr(SampleDataset, "_read", bad)
    with pytest.raises(DataError) as caught:
        run_experiment(config(root, tmp_path, **{"data.num_workers": 1}))
    assert str(caught.value) == "cannot read the image 'x.png': it is no image. Remove it."


DEADLY_HOOK = """
    import json, os, signal
    from anomaly_core import hookimpl
    from anomaly_core.specs import HookSpec

    class Deadly:
        @hookimpl
        def anomaly_run_start(self, run):
            manifest = json.loads((run.folder / "manifest.json").read_text())
            if (manifest["category"], manifest["seed"]) == ("fabric", 1):
                os.kill(os.getpid(), signal.SIGKILL)

    OBSERVERS = Deadly()
    SPEC = HookSpec(target="deadly_hook:OBSERVERS", summary="kills its process")
"""


@pytest.mark.soak
def test_a_process_of_a_grid_that_dies_costs_its_cell_alone(commands, root, distributions, tmp_path, record) -> None:
    distributions.install("deadly", points={"hooks": {"deadly": "deadly_hook:SPEC"}}, files={"deadly_hook.py": DEADLY_HOOK})
    start = ["benchmark", "--model", "vanilla_ae", "--data", "sample", "--preset", "edge", "--jobs", "2"]
    start += ["--category", "fabric", "--category", "wood", "--seed", "0", "--seed", "1", "--no-plugin", "anomaly-report"]
    done = commands(*start, "--output", tmp_path / "out", *sets(root), path=[str(distributions.site)])
    assert done.code == 1 and "Traceback" not in done.err, done.err
    rows = list(csv.DictReader((tmp_path / "out/benchmark/results.csv").read_text().splitlines()))
    failed = {(row["category"], row["seed"]): row["error"] for row in rows if row["error"]}
    assert len(rows) == 4 and list(failed) == [("fabric", "1")]
    assert "died twice" in failed["fabric", "1"] and "--resume" in failed["fabric", "1"]
    record("fault", "a process of `benchmark --jobs 2` is killed: its cell is reported, the rest goes on")


def test_a_run_is_written_by_one_process_at_a_time(root, tmp_path, monkeypatch, record) -> None:
    monkeypatch.setattr("anomaly_core.files.PATIENCE", 0.2)
    experiment = Experiment.create(str(tmp_path), "sample", "fabric", "vanilla_ae")
    settings = config(root, tmp_path)
    experiment.write("config.yaml", settings.to_yaml())
    with exclusive(experiment.folder, "taken"), pytest.raises(RunError, match="another process is writing the run"):
        run_experiment(settings, resume=experiment.folder)
    assert sorted(path.name for path in experiment.folder.iterdir()) == ["config.yaml"]
    record("fault", "two runs at once in one folder: the second is refused")


def test_runs_started_at_once_get_folders_of_their_own(tmp_path, monkeypatch, record) -> None:
    monkeypatch.setattr("anomaly_core.experiment.secrets.token_hex", lambda count: "aaaaaa")  # the worst of luck
    made: list[Path] = []
    failed: list[BaseException] = []

    def create() -> None:
        try:
            made.append(Experiment.create(str(tmp_path), "d", "c", "m").folder)
        except BaseException as error:  # said by the assert below
            failed.append(error)

    threads = [threading.Thread(target=create) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(set(made)) == 20
    names = iter(["first", "first", "first", "second"])  # another process was quicker, twice
    monkeypatch.setattr("anomaly_core.experiment._run_id", lambda place: next(names))
    assert [Experiment.create(str(tmp_path), "d", "c", "m").folder.name for _ in range(2)] == ["first", "second"]
    record("fault", "runs created in one moment", 20)


def test_a_clock_that_is_set_back_changes_no_order_and_no_duration(root, tmp_path, monkeypatch, record) -> None:
    place = (str(tmp_path), "sample", "fabric", "vanilla_ae")
    before = Experiment.create(*place)
    hours = iter(range(10**6))
    real = time.time()
    monkeypatch.setattr("anomaly_core.experiment.time.gmtime", lambda *s: time.localtime(*s) if s else time.localtime(0))
    monkeypatch.setattr("anomaly_core.runner.time.time", lambda: real - 3600 * next(hours))
    result = run_experiment(config(root, tmp_path))
    assert result.folder.name > before.folder.name
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert manifest["finished"] > manifest["started"]
    assert manifest["fit_seconds"] > 0 and manifest["test_images_per_second"] > 0
    found = Experiment.latest(*place, config(root, tmp_path))
    assert found is not None and found.folder == result.folder
    record("fault", "a clock that is set back by hours during a run")


def test_a_damaged_complete_run_is_an_error_of_ours(whole, tmp_path) -> None:
    for name in ("manifest.json", "metrics.json", "calibration.json", "model.safetensors", "predictions.csv", "config.yaml"):
        folder = tmp_path / name.replace(".", "-")
        shutil.copytree(whole[0], folder)
        (folder / name).unlink()
        (folder / name).mkdir()  # not to be read, even by root
        with pytest.raises(AnomalyError):
            load_run(folder)
            Experiment(folder).read_rows("predictions.csv")
            Experiment(folder).read_json("metrics.json")


def test_two_runs_differ_where_a_seed_does(whole, commands, root, tmp_path) -> None:
    """What makes `the same` above mean something: another seed gives other weights and scores."""
    done = commands(*fit(root, tmp_path, **{"base.seed": 5}))
    assert done.code == 0, done.err
    other, expected = contents(newest(tmp_path), KEPT), contents(whole[0], KEPT)
    assert all(other[name] != expected[name] for name in KEPT)
    assert np.isfinite(json.loads((newest(tmp_path) / "metrics.json").read_text())["image_auroc"])
