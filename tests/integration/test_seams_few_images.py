"""Few images or none: a zero-shot method, one that needs three, and any method on a single one."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from pydantic import Field
from seams import added, config, log_of, run
from torch import Tensor

from anomaly_core import (
    BaseDataModule,
    DataConfig,
    DataError,
    DatasetSpec,
    InputSpec,
    MemoryModeler,
    ModelConfig,
    ModelContext,
    ModelSpec,
    Prediction,
    RunFolder,
    RunResults,
    Sample,
)
from anomaly_predict import load_run
from tiny.data import draw, write_image
from tiny.methods import Mirror
from tiny.plugin import MIRROR

NO_THRESHOLD = "too few normal images to hold any out: the run has no threshold"


@dataclass(kw_only=True)
class FewConfig(DataConfig):
    """Its option."""

    count: Annotated[int, Field(ge=0, description="training images")] = 0


class Few(BaseDataModule):
    """As many training images as one asks for, three clean test images and three with a blot."""

    config: FewConfig

    def categories(self) -> list[str]:
        for number in range(100, 106):
            clean, spoilt, _ = draw(number)
            write_image(self.root / "test" / f"{number}.png", clean if number % 2 else spoilt)
        for number in range(self.config.count):
            if not (self.root / "train" / f"{number}.png").exists():
                write_image(self.root / "train" / f"{number}.png", draw(number)[0])
        return ["cloth"]

    def train_samples(self, category: str) -> list[Sample]:
        return [Sample(path, 0, None, category, "good") for path in sorted((self.root / "train").glob("*.png"))]

    def test_samples(self, category: str) -> list[Sample]:
        paths = sorted((self.root / "test").glob("*.png"))
        return [Sample(path, 1 - int(path.stem) % 2, None, category) for path in paths]


class Grey(MemoryModeler):
    """Zero-shot: whatever is not of a middling brightness is odd; normal images, if there are any, shift the middle."""

    fewest_images = 0
    middle: Tensor

    def __init__(self, config: ModelConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.input_spec = InputSpec.from_config(config)
        self.register_buffer("middle", torch.tensor(0.4))
        self._seen: list[Tensor] = []

    def collect(self, images: Tensor) -> None:
        self._seen.append(images.mean(dim=(1, 2, 3)))

    def build(self) -> None:
        if self._seen:
            self.middle = torch.cat(self._seen).mean()

    def predict_step(self, images: Tensor) -> Prediction:
        maps = (images - self.middle).abs().mean(dim=1, keepdim=True)
        return Prediction(maps.amax(dim=(1, 2, 3)), maps)

    def describe(self) -> dict[str, float]:
        return {"seen_images": float(sum(map(len, self._seen)))}


class NeedsThree(Grey):
    """The same for who wants three images."""

    fewest_images = 3


class NeedsOne(Grey):
    """The same with the default."""

    fewest_images = MemoryModeler.fewest_images


class Trained(Mirror):
    """A method that is trained, and that claims to need no image."""

    fewest_images = 0


def spec(name: str) -> ModelSpec:
    return ModelSpec(target=f"{__name__}:{name}", config="anomaly_core:ModelConfig", trainer="memory", summary="greys")


@pytest.fixture(autouse=True)
def components() -> Iterator[None]:
    few = DatasetSpec(target=f"{__name__}:Few", config=f"{__name__}:FewConfig", summary="few pictures")
    trained = replace(MIRROR, target=f"{__name__}:Trained", trainer="gradient")
    with added(few=few, grey=spec("Grey"), needs_three=spec("NeedsThree"), needs_one=spec("NeedsOne"), trained=trained):
        yield


def of(output: Path, model: str, count: int, **options: Any) -> RunResults:
    return run(config(output, model, "few", **{"data.count": count, **options}))


def images(result: RunResults) -> dict[str, Any]:
    """How many of each part, as the manifest says."""
    counts = RunFolder(result.folder).manifest()["data"]
    return {name: counts[name] for name in ("fit", "held_out", "test")}


def test_a_zero_shot_method_runs_without_a_training_image(tmp_path: Path) -> None:
    result = of(tmp_path, "grey", 0)
    assert images(result) == {"fit": 0, "held_out": 0, "test": 6}
    assert result.metrics["image_auroc"] == 1
    assert result.runs[0].calibration.threshold is None
    assert {row.is_anomalous for row in result.predictions} == {None}
    assert {row.p_value for row in result.predictions} == {None}
    assert NO_THRESHOLD in log_of(result)
    assert result.runs[0].figures["seen_images"] == 0


def test_without_a_threshold_predict_gives_scores_and_no_verdict(tmp_path: Path, anomaly: Callable[..., Any]) -> None:
    result = of(tmp_path, "grey", 0)
    paths = [row.path for row in result.predictions]
    outcome = anomaly("predict", result.folder, *paths, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert [float(row["score"]) for row in rows] == pytest.approx([row.score for row in result.predictions])
    assert {row["is_anomalous"] for row in rows} == {""}


def test_a_zero_shot_method_takes_what_there_is(tmp_path: Path) -> None:
    """Half of four images is held out for a threshold; the others are collected."""
    result = of(tmp_path, "grey", 4, **{"data.holdout": 0.5, "base.false_alarm_rate": 0.4})
    assert images(result) == {"fit": 2, "held_out": 2, "test": 6}
    assert result.runs[0].calibration.threshold is not None
    assert result.runs[0].figures["seen_images"] == 2
    assert {row.is_anomalous for row in result.predictions if row.label} == {True}
    assert NO_THRESHOLD not in log_of(result)
    assert float(load_run(result.folder).modeler.middle) != pytest.approx(0.4)


def test_too_few_images_are_an_error_that_says_how_many_are_needed(tmp_path: Path) -> None:
    words = r"'cloth' of 'few' has 2 normal training images, and the method needs 3, under '.*train', without those that test\."
    with pytest.raises(DataError, match=words):
        of(tmp_path, "needs_three", 2)
    with pytest.raises(DataError, match="has no normal training image under"):
        of(tmp_path / "none", "needs_one", 0)


def test_gradient_descent_on_no_image_is_an_error_and_no_crash(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no training image, and Trained is trained by gradient descent"):
        of(tmp_path, "trained", 0)
    assert images(of(tmp_path, "trained", 1, **{"train.epochs": 1}))["fit"] == 1


def test_images_that_cannot_be_used_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "few" / "train").mkdir(parents=True)
    (tmp_path / "few" / "train" / "0.png").write_bytes(b"damaged")
    skip = {"data.on_bad_image": "skip", "data.holdout": 0.0}
    with pytest.raises(DataError, match=r"has 2 normal training images that can be used, and the method needs 3: .*0\.png"):
        of(tmp_path, "needs_three", 3, **skip)
    assert images(of(tmp_path, "needs_three", 4, **skip))["fit"] == 3


@pytest.mark.parametrize(("model", "count", "fit", "held_out"), [("needs_three", 3, 3, 0), ("needs_three", 5, 3, 2)])
def test_what_the_method_needs_is_not_held_out(tmp_path: Path, model: str, count: int, fit: int, held_out: int) -> None:
    result = of(tmp_path, model, count, **{"data.holdout": 0.9})
    assert images(result) == {"fit": fit, "held_out": held_out, "test": 6}
    assert (NO_THRESHOLD in log_of(result)) == (not held_out)
    assert ("Add normal images: with 4 to train on, one of them is held out." in log_of(result)) == (not held_out)


@pytest.mark.parametrize(("count", "fit", "held_out"), [(1, 1, 0), (2, 1, 1), (3, 2, 1)])
def test_a_method_of_one_image_is_fitted_on_one_at_least(tmp_path: Path, count: int, fit: int, held_out: int) -> None:
    result = of(tmp_path, "needs_one", count)
    assert images(result) == {"fit": fit, "held_out": held_out, "test": 6}
    assert (result.runs[0].calibration.threshold is None) == (not held_out)
    assert (NO_THRESHOLD in log_of(result)) == (not held_out)


def test_the_threshold_was_not_asked_for_with_a_holdout_of_zero(tmp_path: Path) -> None:
    result = of(tmp_path, "needs_one", 4, **{"data.holdout": 0.0})
    assert result.runs[0].calibration.threshold is None
    assert NO_THRESHOLD not in log_of(result)
