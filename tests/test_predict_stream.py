"""`anomaly predict` as a stream: sources, order, bounded memory, bad images, watching, and several processes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly_core import RunConfig, run_experiment
from anomaly_core.calibration import Calibration
from anomaly_core.cli import main
from anomaly_core.errors import DataError
from anomaly_core.inputs import InputSpec, read_image
from anomaly_core.pipeline import ahead, verdicts
from anomaly_core.sources import Watch, image_paths
from anomaly_core.types import Scored


def write(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8)).save(path)
    return path


class Brightness:
    """A detector whose score is the mean of an image; it counts what it holds."""

    calibration = Calibration(100.0, 0.1, 3, "test", scores=(10.0, 20.0, 30.0))

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.decoded = self.scored = self.most = 0
        self.batches: list[int] = []
        self.lock = threading.Lock()

    def decode(self, path: str | Path) -> np.ndarray:
        time.sleep(self.delay * (hash(str(path)) % 3))
        made = np.asarray(read_image(path))
        with self.lock:
            self.decoded += 1
            self.most = max(self.most, self.decoded - self.scored)
        return made

    def score(self, images: Sequence[np.ndarray]) -> list[Scored]:
        self.batches.append(len(images))
        with self.lock:
            self.scored += len(images)
        return [Scored(image, float(image.mean())) for image in images]


def test_order_verdicts_and_p_values_are_those_of_the_files(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i:03}.png", i * 5) for i in range(40)]
    said = list(verdicts(Brightness(delay=0.002), paths, batch_size=7, decoders=4))
    assert [v.path for v in said] == list(map(str, paths))
    assert [v.score for v in said] == [i * 5.0 for i in range(40)]
    assert [v.is_anomalous for v in said] == [i * 5 > 100 for i in range(40)]
    assert [said[0].p_value, said[3].p_value, said[39].p_value] == [1.0, 0.75, 0.25]


def test_memory_is_bound_by_the_batch_and_not_by_the_number_of_files(tmp_path: Path) -> None:
    path = write(tmp_path / "one.png", 7)
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield path

    scorer = Brightness()
    stream = verdicts(scorer, endless(), batch_size=4, decoders=3)
    for number, _ in enumerate(stream):
        if number == 400:
            break
    assert scorer.most <= 4 * 4 + 1
    assert taken <= 400 + 5 * 4
    assert set(scorer.batches) == {4}
    stream.close()


def test_one_bad_image_does_not_stop_the_others(tmp_path: Path) -> None:
    good = [write(tmp_path / name) for name in ("a.png", "c.png")]
    bad = tmp_path / "b.png"
    bad.write_bytes(b"no image")
    said = list(verdicts(Brightness(), [good[0], bad, good[1], tmp_path / "gone.png"], batch_size=2))
    assert [v.score for v in said] == [0.0, None, 0.0, None]
    assert "cannot read the image" in said[1].error
    assert said[0].error == said[2].error == ""


def test_a_fault_in_the_network_reaches_the_caller(tmp_path: Path) -> None:
    class Broken(Brightness):
        def score(self, images: Sequence[np.ndarray]) -> list[Scored]:
            raise DataError("broken network")

    with pytest.raises(DataError, match="broken network"):
        list(verdicts(Broken(), [write(tmp_path / "a.png")]))


def test_ahead_keeps_order_and_takes_no_more_than_it_may() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        assert list(ahead(pool, lambda x: x * x, range(100), 5)) == [x * x for x in range(100)]


def test_files_folders_globs_and_a_list_on_standard_input(tmp_path: Path) -> None:
    names = ["b/2.png", "a.png", "b/1.JPG", "b-c.png", "b/deep/3.png"]
    for name in names:
        write(tmp_path / name)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    every = list(image_paths([str(tmp_path)]))
    assert every == sorted(tmp_path / name for name in names)
    assert list(image_paths([str(tmp_path / "**" / "*.png")])) == sorted(p for p in every if p.suffix == ".png")
    listing = io.StringIO(f"{tmp_path / 'a.png'}\n\n{tmp_path / 'b/2.png'}\r\n")
    assert list(image_paths(["-", str(tmp_path / "a.png")], listing)) == [tmp_path / n for n in ("a.png", "b/2.png", "a.png")]
    write(tmp_path / "odd[1].png")  # a file's name comes before a pattern
    assert list(image_paths([str(tmp_path / "odd[1].png")])) == [tmp_path / "odd[1].png"]


def test_a_name_that_is_nothing_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    for name in ("missing.png", "missing/*.png"):
        with pytest.raises(DataError, match="no image or folder"):
            image_paths([str(tmp_path / "a.png"), str(tmp_path / name)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        list(image_paths([str(tmp_path / "empty")]))


def test_only_complete_files_are_seen_once_and_again_when_they_change(tmp_path: Path) -> None:
    watch = Watch(tmp_path, interval=0.01)
    assert watch.poll() == []
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    assert watch.poll() == watch.poll() == []  # empty: nothing was written yet
    path.write_bytes(b"half")
    assert watch.poll() == []
    path.write_bytes(b"half and more")
    assert watch.poll() == []  # it grew since the last look
    assert watch.poll() == [path]
    assert watch.poll() == []
    os.utime(path, ns=(1, 1))
    assert watch.poll() == []
    assert watch.poll() == [path]
    path.unlink()
    assert watch.poll() == []
    with pytest.raises(DataError, match="--watch needs a folder"):
        Watch(tmp_path / "gone")


@pytest.mark.parametrize("resize", ["stretch", "keep", "pad"])
@pytest.mark.parametrize("size", [(61, 90), (90, 61), (33, 33)])
def test_a_grey_image_is_placed_the_same_before_it_becomes_rgb(tmp_path: Path, resize: Any, size: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    path = tmp_path / "grey.png"
    Image.fromarray(values).save(path)
    spec = InputSpec((40, 48), resize, (32, 32))
    grey = read_image(path, grey=True)
    assert (grey.mode, read_image(path).mode) == ("L", "RGB")
    np.testing.assert_array_equal(spec.array(grey), spec.array(read_image(path)))
    given = spec.image(read_image(path)).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(spec.array(grey), (given * 255).round().astype(np.uint8))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    overrides = {
        "data.size": 64,
        "data.train_count": 8,
        "data.good_count": 3,
        "data.bad_count": 5,
        "data.root": str(root / "data"),
        "data.category": ["fabric"],
        "model.image_size": 64,
        "base.output": str(root / "runs"),
        "base.pictures": 0,
    }
    config = RunConfig.create(model="patchcore", data="sample", preset="edge", overrides=overrides)
    return run_experiment(config).runs[0].folder


def cli(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capfd.readouterr()
    return stop.value.code, out, err


def test_the_command_reports_bad_images_speed_and_order(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = write(tmp_path / "good.png", 90)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    code, out, err = cli(capfd, "predict", str(run), str(tmp_path), "--jsonl")
    assert code == 1
    first, second = map(json.loads, out.splitlines())
    assert (first["path"], first["score"], second["path"]) == (str(bad), None, str(good))
    assert "cannot read" in first["error"]
    assert "error" not in second
    assert "2 images in" in err and "images/s, 1 could not be read" in err
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{good}\n{good}\n"))
    code, out, _ = cli(capfd, "predict", str(run), "-")
    assert code == 0
    assert [row.split(",")[0] for row in out.splitlines()] == ["path", str(good), str(good)]
    code, _, err = cli(capfd, "predict", str(tmp_path / "good.png"), str(good))
    assert code == 1
    assert "neither a run's folder nor a file that an installed engine opens" in err


@pytest.mark.slow
def test_jobs_give_the_same_rows_in_the_same_order(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for i in range(9):
        write(tmp_path / f"{i}.png", 25 * i)
    _, alone, _ = cli(capfd, "predict", str(run), str(tmp_path))
    code, shared, err = cli(capfd, "predict", str(run), str(tmp_path), "--jobs", "2", "--maps", str(tmp_path / "maps"))
    assert code == 0, err
    paths, scores = zip(*(row.split(",")[:2] for row in alone.splitlines()[1:]), strict=True)
    other_paths, others = zip(*(row.split(",")[:2] for row in shared.splitlines()[1:]), strict=True)
    assert paths == other_paths
    np.testing.assert_allclose(list(map(float, scores)), list(map(float, others)), rtol=1e-4)
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [f"{i:05}-{i}.png" for i in range(9)]


@pytest.mark.slow
def test_watch_scores_what_comes_and_ends_with_ctrl_c(run: Path, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    write(inbox / "first.png", 10)
    command = [sys.executable, "-m", "anomaly_core", "predict", str(run), str(inbox), "--watch", "--interval", "0.1", "--jsonl"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # a shell's background jobs ignore SIGINT, and what they start does too
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, preexec_fn=listening, **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["path"] == str(inbox / "first.png")
        write(inbox / "second.png", 20)
        assert json.loads(process.stdout.readline())["path"] == str(inbox / "second.png")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        assert "2 images in" in process.stderr.read()
