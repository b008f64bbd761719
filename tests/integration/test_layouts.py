"""Runs on images as people have them: each layout from a folder made here, fitted, tested, and judged on new images."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import ConfigError, RunConfig, RunFolder, RunResult, run_experiment
from anomaly_predict import evaluate, image_paths
from tiny.data import draw, write_image, write_mask

pytestmark = pytest.mark.usefixtures("tiny")
LEFT_BEHIND = (
    ".ipynb_checkpoints",
    ".Trash-1000",
    ".thumbnails",
    "@eaDir",
    "__MACOSX",
    "$RECYCLE.BIN",
    "#recycle",
    "lost+found",
)


@pytest.fixture(scope="session")
def companions() -> tuple[str, ...]:
    return ("anomaly-datasets", "anomaly-predict")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Commands of a user name folders from where they are called."""
    folder = tmp_path / "caps"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder


def good(folder: str, count: int = 10, seed: int = 0) -> None:
    for index in range(count):
        write_image(Path(folder) / f"{index}.png", draw(seed + index)[0])


def bad(folder: str, count: int = 3, seed: int = 500, masks: str = "") -> None:
    for index in range(count):
        _, spoilt, mask = draw(seed + index)
        write_image(Path(folder) / f"{index}.png", spoilt)
        if masks:
            write_mask(Path(masks) / f"{index}.png", mask)


BASE: dict[str, Any] = {"base.calibration": "holdout"}


def run(tmp_path: Path, **options: Any) -> tuple[RunResult, str]:
    """The result of the only category, and the run's warnings."""
    overrides = BASE | {"base.output": str(tmp_path / "runs")} | {f"data.{name}": value for name, value in options.items()}
    config = RunConfig.create(model="palette", data="folder", overrides=overrides)
    (result,) = run_experiment(config).runs
    return result, (result.folder / "log.txt").read_text(encoding="utf-8")


def counts(result: RunResult) -> dict[tuple[int | None, str], int]:
    return dict(Counter((row.label, row.defect) for row in result.predictions))


def data_facts(result: RunResult) -> dict[str, Any]:
    return dict(RunFolder.open(result.folder).manifest()["data"])


def test_plain_folders_are_named_after_the_product(tmp_path: Path) -> None:
    good("good")
    bad("bad", masks="masks")
    result, _ = run(tmp_path, normal="good/", abnormal="bad/", masks="masks/")
    assert result.category == "caps"  # a product whose images lie in caps/good was called "good"
    assert counts(result) == {(0, "good"): 2, (1, "bad"): 3}
    assert result.metrics["contrast"] is not None
    assert run(tmp_path, normal="good/", abnormal="bad/", product="lid 7")[0].category == "lid 7"


def test_kinds_of_defect_in_folders_beside_some_images(tmp_path: Path) -> None:
    good("good/monday", 6)
    good("good/tuesday", 4, 50)
    bad("bad", 1, masks="masks")
    bad("bad/scratch", 4, masks="masks/scratch")
    bad("bad/dent", 3, 700, masks="masks/dent")
    result, log = run(tmp_path, normal="good", abnormal="bad", masks="masks")
    assert counts(result) == {(0, "good"): 2, (1, "bad"): 1, (1, "scratch"): 4, (1, "dent"): 3}  # 7 of these were not read
    tested = [Path(row.path).parent.name for row in result.predictions if row.label == 0]
    assert tested == ["monday", "tuesday"] and data_facts(result)["fit"] == 7
    assert "mask" not in log


def test_a_list_of_normal_folders(tmp_path: Path) -> None:
    good("line1/ok", 6)
    good("line2/ok", 6, 50)
    good("a,b", 3, 70)
    result, _ = run(tmp_path, normal="line1/ok,line2/ok")
    assert result.category == "caps" and data_facts(result) | {"digest": ""} == {
        "fit": 9, "held_out": 1, "test": 2, "digest": "",
    }  # fmt: skip
    assert len(run(tmp_path, normal="a,b")[0].predictions) == 1  # a folder whose own name has a comma


def test_train_alone(tmp_path: Path) -> None:
    good("train/good")
    result, log = run(tmp_path, root=".")
    assert result.category == "caps" and counts(result) == {(0, "good"): 2}
    Path.cwd().rename(tmp_path / "lids")
    assert counts(evaluate(result.folder)) == counts(result)  # under another name
    assert "there is no test image" in log and "0.2" in log


@pytest.mark.parametrize(("train", "test"), [("OK", "ok"), ("Good", "Good"), ("normal", "NORMAL"), ("io", "i.O."), ("", "OK")])
def test_words_for_normal_are_understood(train: str, test: str, tmp_path: Path) -> None:
    good(f"train/{train}")
    good(f"test/{test}", 3, 50)
    bad("test/scratch", 2)
    assert counts(run(tmp_path, root=".")[0]) == {(0, "good"): 3, (1, "scratch"): 2}  # all five were anomalous


@pytest.mark.parametrize("place", ["test", "test/unlabelled"])
def test_unlabelled_test_images_are_scored_and_not_counted(place: str, tmp_path: Path) -> None:
    good("train/good")
    good("test/good", 3, 50)
    bad("test/blot", 2, masks="ground_truth/blot")
    known, _ = run(tmp_path, root=".")
    bad(place, 4, 900)
    result, log = run(tmp_path, root=".")
    assert counts(result) == {(0, "good"): 3, (1, "blot"): 2, (None, "unlabelled"): 4}
    assert "4 test images" in log and "no metric counts them" in log
    assert result.metrics == known.metrics  # of pixels too
    assert all(row.score > 0 for row in result.predictions if row.label is None)


def test_one_folder_of_images_of_which_nothing_is_known(tmp_path: Path) -> None:
    good("all", 12)
    bad("all/new", 1)
    result, log = run(tmp_path, images="all")
    assert counts(result) == {(None, "unlabelled"): 3} and "nothing is known of the 13 images" in log
    assert result.metrics["auroc"] is None and result.calibration.threshold is not None
    everything, _ = run(tmp_path, images="all", normal_test_share=1)
    assert len(everything.predictions) == 13 and data_facts(everything)["fit"] == 12


def test_a_list_of_images(tmp_path: Path) -> None:
    good("pictures", 12)
    bad("pictures/bad", 3, masks="masks")
    rows = [f"../caps/pictures/{index}.png;;ok;;" for index in range(12)]
    rows += [f"pictures/bad/{index}.png;masks/{index}.png;Scratch;test;" for index in range(3)]
    Path("parts.csv").write_text("\n".join(["path;mask;label;split;note", *rows]), encoding="utf-16")
    result, log = run(tmp_path, list="parts.csv")
    assert result.category == "caps" and counts(result) == {(0, "good"): 2, (1, "Scratch"): 3}
    assert result.metrics["contrast"] is not None and "are not used: note" in log


def test_a_zip_is_unpacked_once_beside_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good("parts/train/good")
    bad("parts/test/hole", 2)
    shutil.make_archive("parts", "zip", ".", "parts")
    shutil.rmtree("parts")
    caplog.set_level("WARNING")
    result, _ = run(tmp_path, root="parts.zip")
    assert result.category == "parts" and counts(result) == {(1, "hole"): 2}
    (unpacked,) = [item for item in Path().iterdir() if item.is_dir()]
    assert str(unpacked) in caplog.text
    before = {path: path.stat().st_mtime_ns for path in unpacked.rglob("*")}
    run(tmp_path, root="parts.zip")
    assert {path: path.stat().st_mtime_ns for path in unpacked.rglob("*")} == before
    good("other/good", seed=50)
    shutil.make_archive("parts", "zip", "other")  # other contents under the same name
    assert counts(run(tmp_path, normal="parts.zip")[0]) == {(0, "good"): 2}


def test_a_part_never_stands_on_two_sides(tmp_path: Path) -> None:
    for part in range(12):
        for view in range(3):
            write_image(Path("good") / f"part{part}_{view}.png", draw(10 * part + view)[0])
    result, _ = run(tmp_path, normal="good", group=r"part(\d+)", holdout=0.25)
    tested = Counter(Path(row.path).name.partition("_")[0] for row in result.predictions)
    assert set(tested.values()) == {3} and len(tested) == 2
    assert data_facts(result)["held_out"] % 3 == 0 and data_facts(result)["fit"] % 3 == 0


def test_what_other_programs_leave_is_not_seen(tmp_path: Path) -> None:
    good("root/caps/train/good")
    bad("root/caps/test/hole", 2)
    for name in LEFT_BEHIND:
        good(f"root/{name}/train/good", 1)
        good(f"root/caps/train/{name}", 1)
        good(f"root/caps/train/good/{name}", 1)
        good(f"root/caps/test/{name}", 1)
    Path("root/caps/train/good/._1.png").write_bytes(b"not an image")
    Path("root/caps/train/good/Thumbs.db").write_bytes(b"no image either")
    result, log = run(tmp_path, root="root")
    assert counts(result) == {(1, "hole"): 2} and data_facts(result)["fit"] == 9
    assert all(name not in log for name in LEFT_BEHIND)
    assert len(list(image_paths(["root"]))) == 12
    assert len(list(image_paths(["root/.thumbnails"]))) == 1  # what is named is taken


def test_pictures_that_are_not_read_are_told(tmp_path: Path) -> None:
    good("good")
    for name in ("a.heic", "b.HEIC", "c.nef", "notes.txt", "labels.json"):
        (Path("good") / name).write_bytes(b"")
    assert "left out" in (log := run(tmp_path, normal="good")[1]) and "2 .heic and 1 .nef" in log and ".txt" not in log


# New images for a finished run.


def test_new_images_are_judged_one_and_all(anomaly: Callable[..., Any], tmp_path: Path) -> None:
    good("good")
    bad("bad", masks="masks")
    finished, _ = run(tmp_path, normal="good/", abnormal="bad/", masks="masks/")
    good("new-good", 10, 50)
    bad("new-bad", 4, 900)
    for more in ([], ["--category", "all"]):
        words = ["evaluate", finished.folder, "--data", "folder", "--set", "data.normal=new-good/", *more]
        done = anomaly(*words, "--set", "data.abnormal=new-bad/")
        assert done.code == 0, done.err
        folder = Path(done.out.splitlines()[-1].partition("results in ")[2])
        result = RunFolder.open(folder).result()
        assert counts(result) == {(0, "good"): 10, (1, "new-bad"): 4}  # 2 of the 10 good ones were judged
        assert result.calibration == finished.calibration
        assert "mask" not in (folder / "log.txt").read_text()  # the run's own masks are not these images'
    same = evaluate(finished.folder, overrides={"data.normal": "good", "data.abnormal": "new-bad"})
    assert counts(same) == {(0, "good"): 2, (1, "new-bad"): 4}  # not those that it was fitted on
    only = evaluate(finished.folder, overrides={"data.abnormal": "new-bad"})
    assert counts(only) == {(1, "new-bad"): 4}


def test_its_own_images_are_divided_as_before(tmp_path: Path) -> None:
    good("good")
    finished, _ = run(tmp_path, normal="good")
    assert evaluate(finished.folder).predictions == finished.predictions
    assert (
        evaluate(finished.folder, overrides={"data.batch_size": 1, "data.category": None}).predictions == finished.predictions
    )


def test_a_new_tree_keeps_the_runs_product_where_it_has_it(tmp_path: Path) -> None:
    for product in ("lid", "cap"):
        good(f"first/{product}/train/good")
        good(f"second/{product}/test/good", 3, 50)
        good(f"second/{product}/train/good", 1, 50)
    finished, _ = run(tmp_path, root="first", category=["lid"])
    again = evaluate(finished.folder, overrides={"data.root": "second"})
    assert again.category == "lid" and len(again.predictions) == 3
    Path("second/lid").rename("second/lids")
    with pytest.raises(ConfigError, match=r"no category 'lid' .* Choose one of: cap, lids"):
        evaluate(finished.folder, overrides={"data.root": "second"})
    one = evaluate(finished.folder, overrides={"data.root": "second/lids"})
    assert one.category == "lids" and json.loads((one.folder / "manifest.json").read_text())["status"] == "complete"
