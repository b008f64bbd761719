"""What the metrics are fed: each its own category, and work shared where they can."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anomaly_core import BaseMetric, Batch, Calibration, InputSpec, Prediction, RunConfig, Sample
from anomaly_core.run.evaluation import Evaluator

pytestmark = pytest.mark.usefixtures("tiny")
NONE = Calibration(None, 0.01, 0, "none")


def batch(categories: str, height: int = 4, width: int = 6) -> Batch:
    """An image of each of the categories, whose pixels are its number."""
    count = len(categories)
    images = torch.arange(float(count)).view(-1, 1, 1, 1).expand(count, 3, height, width)
    samples = [Sample(Path(f"{index}.png"), index % 2, None, name) for index, name in enumerate(categories)]
    masks = torch.zeros(count, 1, height, width, dtype=torch.bool)
    return Batch(images, torch.tensor([s.label for s in samples]), masks, torch.zeros(count, dtype=torch.bool), samples)


class Spy(BaseMetric):
    """Remembers what it was fed, and with whom it shares."""

    def __init__(self, calibration: Calibration | None = None) -> None:
        super().__init__(calibration)
        self.fed: list[tuple[Batch, Prediction]] = []
        self.partners: list[BaseMetric] | None = None
        spies.append(self)

    def share(self, others) -> None:
        self.partners = list(others)

    def update(self, batch: Batch, prediction: Prediction) -> None:
        self.fed.append((batch, prediction))

    def compute(self) -> float:
        return float(sum(len(part) for part, _ in self.fed))


spies: list[Spy] = []


@pytest.fixture(autouse=True)
def spied(monkeypatch: pytest.MonkeyPatch) -> None:
    spies.clear()
    for name in ("Auroc", "Contrast", "Residue"):
        monkeypatch.setattr(f"tiny.metrics.{name}", Spy)


def evaluator(categories: list[str], **options: object) -> Evaluator:
    overrides = {"base.metrics": ["auroc", "contrast", "residue"], **options}
    config = RunConfig.create(model="palette", data="tree", overrides=overrides)
    return Evaluator(config, NONE, categories, InputSpec((4, 6)))


def test_each_category_is_judged_by_itself() -> None:
    whole = batch("abba")
    prediction = Prediction(torch.arange(4.0), whole.images[:, :1])
    judge = evaluator(["a", "b"])
    rows = judge.update(whole, prediction)
    assert [(row.category, row.score) for row in rows] == [("a", 0.0), ("b", 1.0), ("b", 2.0), ("a", 3.0)]
    fed = {part.samples[0].category: (part, predicted) for part, predicted in spies[0].fed + spies[3].fed}
    for category, chosen in (("a", [0, 3]), ("b", [1, 2])):
        part, predicted = fed[category]
        assert part.samples == [whole.samples[index] for index in chosen]
        assert torch.equal(part.images, whole.images[chosen]) and torch.equal(part.labels, whole.labels[chosen])
        assert predicted.scores.tolist() == [float(index) for index in chosen]
        assert predicted.maps is not None and torch.equal(predicted.maps, whole.images[chosen, :1])
    measure = judge.evaluation().measures["auroc"]
    assert (measure.value, measure.categories) == (2.0, {"a": 2.0, "b": 2.0})


def test_metrics_of_one_category_may_share_their_work() -> None:
    evaluator(["a", "b"])
    for first, second, third in (spies[:3], spies[3:]):
        assert first.partners == [] and second.partners == [first] and third.partners == [first, second]


def test_a_batch_of_one_category_is_handed_over_as_it_is() -> None:
    whole, prediction = batch("aa"), Prediction(torch.arange(2.0))
    evaluator(["a"]).update(whole, prediction)
    assert spies[0].fed == [(whole, prediction)] and spies[0].fed[0][0] is whole
