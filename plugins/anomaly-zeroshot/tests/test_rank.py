"""``anomaly rank``, as a user calls it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from anomaly_core import AnomalyError, TestedImage
from anomaly_predict import load_run
from anomaly_zeroshot.commands.rank import rank
from anomaly_zeroshot.ranking import ranked

Rank = Callable[..., Result]
SMALL = ("--set", "model.image_size=64", "--set", "data.batch_size=5")


@pytest.fixture
def call(tmp_path: Path) -> Rank:
    return lambda *arguments: CliRunner().invoke(rank, [*map(str, arguments), "--output", str(tmp_path), *SMALL])


def test_blots_come_first(call: Rank, mixed: Path, tmp_path: Path) -> None:
    outcome = call(mixed, "--pictures", "3")
    assert outcome.exit_code == 0, outcome.output
    assert "12 images are ranked" in outcome.output
    assert "there is no threshold and no metric" in outcome.output
    (listed,) = tmp_path.glob("folder/*/musc/*/ranking.csv")
    with listed.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == [str(number) for number in range(1, 13)]
    assert {Path(row["path"]).name for row in rows[:2]} == {"03-blot.png", "08-blot.png"}
    values = [float(row["score"]) for row in rows]
    assert values == sorted(values, reverse=True)
    pictures = [listed.parent / row["picture"] for row in rows if row["picture"]]
    assert len(pictures) == 3
    assert all(picture.is_file() for picture in pictures)
    log = (listed.parent / "log.txt").read_text()
    assert "the 12 images to test are compared with one another" in log
    # later, each is recognised, and has the same score
    again = load_run(listed.parent).predict([row["path"] for row in rows]).scores
    assert again.tolist() == pytest.approx(values, rel=1e-4)


def test_too_few_images_are_refused_by_name(call: Rank, mixed: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for number in (0, 1, 2, 4):
        (few / f"{number}.png").write_bytes((mixed / f"{number:02d}.png").read_bytes())
    outcome = call(few)
    assert isinstance(outcome.exception, AnomalyError)
    assert "4 images to compare with one another, and the method needs 5" in str(outcome.exception)


def test_a_method_that_learns_is_refused(call: Rank, mixed: Path) -> None:
    outcome = call(mixed, "--model", "patchcore")
    assert isinstance(outcome.exception, AnomalyError)
    assert "'patchcore' learns from normal images" in str(outcome.exception)


def test_equal_scores_have_one_rank_and_nan_has_none() -> None:
    images = [
        TestedImage(name, "c", "", None, score) for name, score in (("a", 1.0), ("b", 2.0), ("c", 1.0), ("d", float("nan")))
    ]
    rows = [(row["rank"], row["path"]) for row in ranked(images)]
    assert rows == [(1, "b"), (2, "a"), (2, "c")]
