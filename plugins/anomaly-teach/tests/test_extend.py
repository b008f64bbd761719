"""``anomaly extend``: a finished run learns more normal images, as a new run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seams import NOBODY, added, config, run
from torch import Tensor

from anomaly_core import (
    AnomalyError,
    Calibration,
    DataError,
    Hooks,
    InputSpec,
    MemoryModeler,
    ModelConfig,
    ModelContext,
    ModelSpec,
    NormalImage,
    Prediction,
    RunError,
    RunFolder,
)
from anomaly_predict import evaluate, load_run
from anomaly_teach.extend_scores import recalibrated
from anomaly_teach.extending import Extension, extend
from tiny.data import draw, write_image
from tiny.plugin import ONE_PASS, PALETTE


class Colours(MemoryModeler):
    """The distance of each pixel to the nearest mean colour of a normal image; an image's is that of its mean."""

    bank: Tensor

    def __init__(self, config: ModelConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.input_spec = InputSpec.from_config(config)
        self.register_buffer("bank", torch.zeros(0, 3))
        self._seen: list[Tensor] = []

    def collect(self, images: Tensor) -> None:
        self._seen.append(images.mean(dim=(2, 3)))

    def build(self) -> None:
        self.bank = torch.cat(self._seen)
        self._seen = []

    def reopen(self) -> None:
        self._seen = [self.bank]

    def predict_step(self, images: Tensor) -> Prediction:
        pixels = images.permute(0, 2, 3, 1).flatten(1, 2)  # (B, 3, H, W) -> (B, H * W, 3)
        maps = torch.cdist(pixels, self.bank).amin(dim=2).view(len(images), 1, *images.shape[2:])
        return Prediction(torch.cdist(images.mean(dim=(2, 3)), self.bank).amin(dim=1), maps)

    def describe(self) -> dict[str, float]:
        return {"bank_size": float(len(self.bank))}


pytestmark = pytest.mark.filterwarnings("ignore:.* cannot support a false-alarm rate", "ignore:.* to the run until now")


@pytest.fixture(autouse=True)
def colours() -> Iterator[None]:
    sys.modules["colours_of_tests"] = sys.modules[__name__]  # whose own name has a dash, as its folder
    spec = ModelSpec(target="colours_of_tests:Colours", config="anomaly_core:ModelConfig", trainer="memory", summary="colours")
    with added(colours=spec, palette=PALETTE, one_pass=ONE_PASS):
        yield


def finished(tmp_path: Path, **options: Any) -> Path:
    """The folder of a run on the drawn pictures; six train, and by default two of eight are held out."""
    return run(config(tmp_path, "colours", **{"data.train_count": 8, **options})).folder


def pictures(folder: Path, brighter: int = 0, count: int = 4) -> list[Path]:
    """Normal pictures that no run has, or brighter ones."""
    drawn = (draw(number)[0].astype(int) + brighter for number in range(900, 900 + count))
    return [write_image(folder / f"{i}.png", np.clip(one, 0, 255).astype(np.uint8)) for i, one in enumerate(drawn)]


def extended(parent: Path, images: list[Path], **options: Any) -> Extension:
    return extend(parent, images, device="cpu", hooks=Hooks(NOBODY), **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("options", [{}, {"data.holdout": None}], ids=["holdout", "cross"])
def test_a_run_learns_more_images_as_a_new_run(tmp_path: Path, options: dict[str, Any]) -> None:
    parent = finished(tmp_path, **options)
    files, old = contents(parent), RunFolder.open(parent)
    new = pictures(tmp_path / "new")
    extension = extended(parent, new)
    folder = extension.run.folder
    assert contents(parent) == files, "the parent stays as it is"
    assert folder.parent == parent.parent
    manifest = extension.run.manifest()
    assert manifest["parent"] == str(parent)
    assert [entry["path"] for entry in manifest["added"]] == [str(path) for path in new]
    assert manifest["data"]["fit"] == old.manifest()["data"]["fit"] + 4
    assert extension.figures["bank_size"] == old.manifest()["data"]["fit"] + 4
    before, after = old.calibration(), RunFolder.open(folder).calibration()
    assert after.count == before.count + 4 == len(RunFolder(folder).normals())
    assert list(after.scores) == sorted([*before.scores, *(image.before for image in extension.images)])
    assert after.threshold == max(after.scores) and after.scored_by == before.scored_by
    assert after.map_threshold == max(after.map_maxima) and after.map_low == before.map_low
    predicted = load_run(folder, device="cpu").predict([str(path) for path in new]).scores.tolist()
    assert predicted == [image.after for image in extension.images] and max(predicted) < 1e-6
    assert RunFolder.open(folder).result().predictions == [], "nothing was tested"
    assert RunFolder.open(folder).differing() == {}
    where = (str(tmp_path / "runs"), "weave", "linen", "colours")
    latest = RunFolder.latest(*where, old.config())
    assert latest is not None and latest.folder == parent, "`anomaly run --resume` finds the run of these options"
    assert len(RunFolder(folder).read_rows("history.csv")) == 2


def test_a_false_alarm_is_none_afterwards_and_does_not_set_the_threshold(tmp_path: Path) -> None:
    parent = finished(tmp_path)
    alarm = pictures(tmp_path / "new", brighter=100, count=1)
    with pytest.warns(UserWarning, match=r"1 of 1 images looked anomalous to the run until now: '.*0\.png' \(0\.\d+\)"):
        extension = extended(parent, alarm, false_alarms=True)
    calibration = RunFolder.open(parent).calibration()
    assert extension.after == calibration == extension.run.calibration()
    assert extension.run.normals() == RunFolder(parent).normals()
    (image,) = extension.images
    assert calibration.is_anomalous(image.before) and not calibration.is_anomalous(image.after)
    assert extension.run.manifest()["added"][0]["false_alarm"] is True
    with pytest.warns(UserWarning, match="none of the images exceeded the threshold"):
        extended(extension.run.folder, pictures(tmp_path / "usual", count=1), false_alarms=True)


def test_what_looks_anomalous_is_not_learnt_unseen(tmp_path: Path) -> None:
    parent = finished(tmp_path, **{"data.holdout": None, "data.train_count": 12})
    runs = sorted(parent.parent.iterdir())
    odd = [*pictures(tmp_path / "new", count=3), *pictures(tmp_path / "odd", brighter=100, count=1)]
    with pytest.raises(DataError, match=r"1 of 4 images score far above the normal ones, where the threshold .*odd.*--yes"):
        extended(parent, odd)
    assert sorted(parent.parent.iterdir()) == runs
    with pytest.warns(UserWarning, match="looked anomalous to the run until now"):
        assert len(extended(parent, odd, accept=True).images) == 4


def test_images_that_the_run_has(tmp_path: Path) -> None:
    parent = finished(tmp_path)
    train = sorted((tmp_path / "weave" / "linen" / "train" / "good").iterdir())
    (new,) = pictures(tmp_path / "new", count=1)
    held_out = {Path(row.path) for row in RunFolder(parent).normals()}
    learnt = [path for path in train if path not in held_out]
    copy = tmp_path / "copy.png"
    copy.write_bytes(learnt[1].read_bytes())
    with pytest.warns(UserWarning) as told:
        extension = extended(parent, [new, new, learnt[0], copy, *held_out], accept=True)
    texts = [str(item.message) for item in told]
    assert any("1 image is given twice, and learnt once" in text for text in texts)
    assert any("2 images are left out, as the run has learnt the same before" in text for text in texts)
    assert {Path(image.path) for image in extension.images} == {new, *held_out}
    assert extension.after.count == extension.before.count + 1, "held-out images counted before"
    with pytest.raises(DataError, match=r"no new image among those given: the run has learnt all 2 before"):
        extended(extension.run.folder, [new, learnt[0]])


def test_a_cross_fitted_run_has_learnt_all_whatever_set_its_threshold_since(tmp_path: Path) -> None:
    parent = RunFolder.open(finished(tmp_path, **{"data.holdout": None}))
    # as `anomaly threshold --from` writes it
    parent.write_json("calibration.json", replace(parent.calibration(), scored_by="holdout").to_dict())
    train = sorted((tmp_path / "weave" / "linen" / "train" / "good").iterdir())
    with pytest.raises(DataError, match=r"the run has learnt all 8 before"):
        extended(parent.folder, train)


def test_test_images_that_are_learnt_test_no_more(tmp_path: Path) -> None:
    parent = finished(tmp_path)
    good = sorted((tmp_path / "weave" / "linen" / "test" / "good").iterdir())
    bad = sorted((tmp_path / "weave" / "linen" / "test" / "blot").iterdir())
    with pytest.raises(DataError, match=r"1 image is labelled anomalous in the run's own test set: '.*' \(blot\)"):
        extended(parent, [bad[0]], false_alarms=True)
    extension = extended(parent, good[:1], accept=True, with_test=True)
    log = (extension.run.folder / "log.txt").read_text()
    assert "images that were in the test set are learnt, and test no more (1, listed for data.exclude in excluded.txt" in log
    assert extension.result is not None
    paths = [row.path for row in extension.result.predictions]
    assert str(good[0]) not in paths and str(good[1]) in paths
    assert len(paths) == len(RunFolder(parent).result().predictions) - 1
    listed = Path(extension.run.config().data.exclude or "")
    assert str(good[0]) in listed.read_text("utf-8").splitlines()
    assert extension.result.metrics == extension.run.result().metrics


def test_images_that_cannot_be_used(tmp_path: Path) -> None:
    parent = finished(tmp_path)
    runs = sorted(parent.parent.iterdir())
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        extended(parent, [broken, *pictures(tmp_path / "new")])
    assert sorted(parent.parent.iterdir()) == runs
    (large,) = [write_image(tmp_path / "large.png", draw(5, side=64)[0])]
    with pytest.warns(UserWarning, match=r"large\.png"):
        extended(parent, [large], accept=True)


def test_without_the_runs_own_images(tmp_path: Path) -> None:
    parent = finished(tmp_path, **{"data.category": ["linen"]})
    (tmp_path / "weave").rename(tmp_path / "elsewhere")
    (tmp_path / "weave" / "linen").mkdir(parents=True)
    with pytest.warns(UserWarning, match="none of the new ones can be compared"):
        assert len(extended(parent, pictures(tmp_path / "new"), accept=True).images) == 4


@pytest.mark.parametrize(
    ("options", "each"),
    [({"data.tile": 32, "data.size": 64, "data.tile_overlap": 0}, 4), ({"data.augment": ["brightness:0.1"]}, 2)],
    ids=["tiles", "copies"],
)
def test_new_images_are_collected_as_the_first_were(tmp_path: Path, options: dict[str, Any], each: int) -> None:
    parent = finished(tmp_path, **options)
    new = [write_image(tmp_path / "new" / f"{i}.png", draw(900 + i, options.get("data.size", 32))[0]) for i in range(3)]
    before = RunFolder(parent).result().figures["bank_size"]
    assert extended(parent, new, accept=True).figures["bank_size"] == before + 3 * each


def test_methods_without_a_memory_say_so(tmp_path: Path) -> None:
    parent = run(config(tmp_path, "palette")).folder
    with pytest.raises(RunError, match=r"'palette' cannot take in more images once it is fitted.*anomaly run --config"):
        extended(parent, pictures(tmp_path / "new"))


def test_a_test_of_a_run_learns_nothing(tmp_path: Path) -> None:
    parent = finished(tmp_path)
    tested = evaluate(parent, device="cpu", hooks=Hooks(NOBODY)).folder
    with pytest.raises(RunError, match=f"is a test of a finished run, and learnt nothing. Give that run: {parent}"):
        extended(tested, pictures(tmp_path / "new"))


def test_a_failure_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = finished(tmp_path)
    runs = sorted(parent.parent.iterdir())

    def fail(self: Colours) -> None:
        raise AnomalyError("no room")

    monkeypatch.setattr(Colours, "build", fail)
    with pytest.raises(AnomalyError, match="no room"):
        extended(parent, pictures(tmp_path / "new"), accept=True)
    assert sorted(parent.parent.iterdir()) == runs


def rows(*scores: float) -> list[NormalImage]:
    return [NormalImage(f"{score}.png", "x", score, score) for score in scores]


def test_a_threshold_that_was_chosen_otherwise_stays() -> None:
    scores = tuple(float(i) for i in range(20))
    before = Calibration(15.0, 0.1, 20, "by hand", 0.5, 14.0, scores=scores, map_maxima=scores, chosen_by="value")
    with pytest.warns(UserWarning, match="the threshold 15 was chosen by value and stays"):
        after = recalibrated(before, rows(3.5, 40.0), 0.01)
    assert (after.threshold, after.count, after.scores[-1], after.chosen_by) == (15.0, 22, 40.0, "value")
    by_rate = recalibrated(replace(before, chosen_by="rate"), rows(3.5, 40.0), 0.01)
    assert (by_rate.threshold, by_rate.map_threshold, by_rate.false_alarm_rate) == (19.0, 19.0, 0.1)
    assert recalibrated(before, [], 0.01) == before
    none = Calibration(None, 0.01, 0, "none")
    assert recalibrated(none, rows(1.0, 2.0), 0.3).threshold == 2.0


def test_the_command(tmp_path: Path, anomaly: Callable[..., Any]) -> None:
    parent = finished(tmp_path)
    pictures(tmp_path / "new")
    done = anomaly("extend", parent, tmp_path / "new", "--device", "cpu", "--yes", "--output", tmp_path / "out")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert sum(str(tmp_path / "new") in line for line in lines) == 4
    (place,) = [line.removeprefix("results in ") for line in lines if line.startswith("results in ")]
    assert Path(place).parent == tmp_path / "out" / "weave" / "linen" / "colours"
    assert any(line.startswith("threshold ") for line in lines)
    assert lines[-1] == f"not tested: `anomaly evaluate {place}` scores the test set"
    assert json.loads((Path(place) / "manifest.json").read_text("utf-8"))["status"] == "complete"
    refused = anomaly("extend", parent, tmp_path / "nothing")
    assert refused.code == 1 and "there is no image or folder" in refused.err
