"""Known defects: who learns from them, who does not, and what they do not test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from anomaly_core import Batch, ConfigError, DataError, InputSpec, RunResults, Sample, run_experiment
from anomaly_core.run.defects import balanced, known_defects
from anomaly_core.run.splits import split
from tiny.config import TreeConfig
from tiny.data import Tree, write_tree
from tiny.methods import Mirror
from tiny.runs import config, log_of

pytestmark = pytest.mark.usefixtures("tiny")
SEEN: list[Batch] = []


class Taught(Mirror):
    """Notes what it is trained on."""

    uses_anomalous: ClassVar[bool] = True

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        SEEN.append(batch)
        return super().training_step(batch)


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Batch]]:
    """The method mirror learns from known defects; its batches."""
    monkeypatch.setattr("tiny.methods.Mirror", Taught)
    SEEN.clear()
    yield SEEN
    SEEN.clear()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "cloth", train=6, good=3, bad=8)


def tree(root: Path, wanted: Any, seed: int = 0) -> Tree:
    return Tree(TreeConfig(name="tree", root=str(root), abnormal_train=wanted), seed=seed)


def run(root: Path, output: Path, model: str = "mirror", **options: Any) -> RunResults:
    one = {"data.root": str(root), "train.epochs": 2} if model == "mirror" else {"data.root": str(root)}
    return run_experiment(config(output, model=model, data="tree", **{**one, **options}))


def names(samples: list[Sample]) -> list[str]:
    return [sample.path.name for sample in samples]


def test_fewer_are_among_more_and_another_seed_draws_others(root: Path) -> None:
    drawn = [names(known_defects(tree(root, count), "cloth").known) for count in range(8)]
    assert [len(part) for part in drawn] == list(range(8))
    assert all(set(few) < set(many) for few, many in pairwise(drawn))
    assert len({tuple(names(known_defects(tree(root, 2, seed), "cloth").known)) for seed in range(9)}) > 3
    assert len(known_defects(tree(root, 0.25), "cloth").known) == 2


def test_what_is_learnt_does_not_test(root: Path) -> None:
    every = tree(root, None).test_samples("cloth")
    known, test, aside = known_defects(tree(root, 3), "cloth")
    assert aside == 0
    assert {sample.label for sample in known} == {1}
    assert sorted(map(str, [s.path for s in (*known, *test)])) == sorted(str(sample.path) for sample in every)


def test_nor_do_others_of_its_group(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Tree.test_samples

    def of_parts(self: Tree, category: str) -> list[Sample]:
        return [replace(s, extra={"group": int(s.path.stem) // 2}) for s in samples(self, category)]

    monkeypatch.setattr(Tree, "test_samples", of_parts)
    known, test, aside = known_defects(tree(root, 1), "cloth")
    assert not {s.extra["group"] for s in known} & {s.extra["group"] for s in test}
    assert len(known) + len(test) + aside == 11 and aside > 0


@pytest.mark.parametrize("wanted", [8, 50])
def test_one_is_left_to_test_on(wanted: int, root: Path) -> None:
    with pytest.raises(ConfigError, match=rf"abnormal_train={wanted}: .* has 8 images .* one must be left to test on"):
        known_defects(tree(root, wanted), "cloth")


def test_a_data_set_may_have_some_of_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = [Sample(Path(f"own{i}.png"), 1) for i in range(3)]
    monkeypatch.setattr(Tree, "abnormal_samples", lambda self, category: own)
    known, test, _ = known_defects(tree(root, 3), "cloth")
    assert (known, len(test)) == (own, 11)
    with pytest.raises(ConfigError, match=r"has 3 images that are labelled anomalous\. Lower it"):
        known_defects(tree(root, 4), "cloth")


def test_an_epoch_is_balanced() -> None:
    normal, bad = [Sample(Path(f"{i}.png"), 0) for i in range(7)], [Sample(Path(f"bad{i}.png"), 1) for i in range(3)]
    epoch = balanced(normal, bad)
    assert epoch[:7] == normal
    assert [epoch[7:].count(sample) for sample in bad] == [3, 2, 2]
    assert balanced(normal, []) == normal
    assert [sample.label for sample in balanced(bad, normal)] == [1] * 7 + [0] * 7


def test_a_run_learns_them_and_says_so(
    root: Path, tmp_path: Path, learner: list[Batch], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "anomaly_core")
    result = run(root, tmp_path, **{"data.abnormal_train": 2, "data.holdout": 0.34})
    assert "learns from 2 known defects too, 2 with a mask: they do not test." in caplog.text
    facts = json.loads((result.folder / "manifest.json").read_text())
    assert (facts["data"]["abnormal"], facts["data"]["fit"], facts["data"]["test"]) == (2, 4, 9)
    assert len(facts["abnormal_train"]) == 2
    assert not set(facts["abnormal_train"]) & {row.path for row in result.predictions}
    labels = torch.cat([batch.labels for batch in learner])
    assert labels.sum() == 2 * 4  # two epochs, each with as many as there are normal images
    masks = torch.cat([torch.zeros(len(b), 1, 32, 32) if b.masks is None else b.masks for b in learner])
    assert torch.equal(masks.flatten(1).any(dim=1), labels == 1)
    rows = (result.folder / "normals.csv").read_text().splitlines()
    assert len(rows) == 3 and not any("blot" in row for row in rows)  # the threshold's images are normal


def test_each_fold_learns_them(root: Path, tmp_path: Path, learner: list[Batch]) -> None:
    options = {"data.abnormal_train": 1, "base.calibration": "cross", "base.folds": 2, "data.holdout": None}
    result = run(root, tmp_path, **options)
    assert sum(int(batch.labels.sum()) for batch in learner) == 2 * (6 + 3 + 3)
    assert len((result.folder / "normals.csv").read_text().splitlines()) == 7


def test_excluded_ones_are_not_learnt(root: Path, tmp_path: Path, learner: list[Batch]) -> None:
    known = known_defects(tree(root, 2), "cloth").known
    (tmp_path / "list.txt").write_text(str(known[0].path))
    result = run(root, tmp_path, **{"data.abnormal_train": 2, "data.exclude": str(tmp_path / "list.txt")})
    facts = json.loads((result.folder / "manifest.json").read_text())
    assert facts["abnormal_train"] == [str(known[1].path)] and facts["excluded"] == 1


def test_a_method_of_normal_images_refuses_them(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'mirror' learns from normal images alone"):
        run(root, tmp_path, **{"data.abnormal_train": 2})
    with pytest.raises(ConfigError, match="'palette' learns from normal images alone"):
        run(root, tmp_path, "palette", **{"data.abnormal_train": 2})


def labelled_in_train(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Tree.train_samples

    def with_one(self: Tree, category: str) -> list[Sample]:
        return [replace(s, label=int(s.path.stem == "2")) for s in samples(self, category)]

    monkeypatch.setattr(Tree, "train_samples", with_one)


def test_one_that_stands_in_training_is_learnt_or_left_out_and_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled_in_train(monkeypatch)
    with pytest.warns(UserWarning, match=r"1 training images of cloth are labelled anomalous, such as .*2\.png"):
        ignored = split(tree(root, None), ["cloth"], 1)
    learnt = split(tree(root, None), ["cloth"], 1, learns_defects=True)
    assert (names(ignored.abnormal), names(learnt.abnormal)) == ([], ["2.png"])
    assert learnt.fit == ignored.fit


@pytest.mark.parametrize("masked", [True, False])
def test_tiles_are_labelled_by_their_masks(masked: bool, tmp_path: Path, learner: list[Batch]) -> None:
    root = write_tree(tmp_path / "large", train=4, good=1, bad=3, side=64)
    if not masked:
        for path in (root / "ground_truth" / "blot").iterdir():
            path.unlink()
    result = run(root, tmp_path, **{"data.abnormal_train": 1, "data.tile": 16, "data.tile_overlap": 0})
    labels = [int(label) for batch in learner for label in batch.labels]
    if masked:
        assert set(labels) == {0, 1} and sum(labels) < len(labels) / 2
        assert all(
            bool(mask.any()) == bool(label)
            for batch in learner
            if batch.masks is not None
            for mask, label in zip(batch.masks, batch.labels, strict=True)
        )
    else:
        assert set(labels) == {0}
        assert "1 of 1 known defects" in log_of(result)


def test_a_damaged_one_stops_the_run(root: Path) -> None:
    data = tree(root, 2)
    known_defects(data, "cloth").known[0].path.write_bytes(b"no image")
    with pytest.raises(DataError, match="no image"):
        split(data, ["cloth"], 1, learns_defects=True)


def test_batches_have_masks_of_those_that_have_one(root: Path) -> None:
    data = tree(root, 2)
    known = known_defects(data, "cloth").known
    known[1] = replace(known[1], mask_path=None)
    (batch,) = data.loader([*data.train_samples("cloth")[:2], *known], InputSpec((16, 16)))
    assert (batch.labels.tolist(), batch.has_mask.tolist()) == ([0, 0, 1, 1], [True, True, True, False])
