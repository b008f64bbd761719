"""Checks of a metric: fed with predictions whose order of merit is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from anomaly_core.backbones import Backbones
from anomaly_core.base.metric import BaseMetric
from anomaly_core.calibration import Calibration
from anomaly_core.errors import BackboneError, UndefinedMetric
from anomaly_core.testing.checks import Skip, Subject, named, require
from anomaly_core.testing.common import SPEC
from anomaly_core.types import Batch, Prediction, Sample

SIDE, COUNT = 160, 12  # AUPIMO wants 100 000 normal pixels and more
Fed = list[tuple[Batch, Prediction]]


class MetricSubject(Subject):
    """A metric under test."""

    def build(self, calibration: Calibration | None = None) -> BaseMetric:
        """The metric with a threshold between the two classes of :func:`fed`; Skip where its weights are not here."""
        calibration = calibration or Calibration(0.5, 0.01, 20, "the conformance kit", 0.0, 0.5, None, (0.1, 0.2))
        try:
            metric = self.component.build(calibration, Backbones(self.overrides.get("base.backbones")))
        except BackboneError as error:
            raise Skip(f"its pretrained weights are not here: {error}") from error
        require(isinstance(metric, BaseMetric), f"its target made a {type(metric).__name__}, which is no BaseMetric.")
        return metric  # type: ignore[no-any-return]

    def value(self, batches: Fed) -> float:
        """What it says of the batches."""
        metric = self.build()
        metric.share([])
        for batch, prediction in batches:
            metric.update(batch, prediction)
        value = computed(metric)
        require(isinstance(value, float), f"compute returned a {type(value).__name__}, not a float.")
        return value


def computed(metric: BaseMetric) -> float:
    """The metric's value; Skip where the weights that it compares features with are not here."""
    try:
        return metric.compute()
    except (BackboneError, UndefinedMetric) as error:
        if isinstance(error, BackboneError) or isinstance(error.__cause__, BackboneError):
            raise Skip(f"its pretrained weights are not here: {error}") from error
        raise


def fed(quality: float, sizes: Sequence[int] = (COUNT,), order: Sequence[int] = tuple(range(COUNT))) -> Fed:
    """Batches of half normal, half defective images, and what a detector says that is right (1) or wrong (0) or between.

    Args:
        quality: 1 tells all images and pixels apart and reconstructs well, 0 takes every one for its opposite.
        sizes: images a batch.
        order: of the images.
    """
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(COUNT, 3, SIDE, SIDE, generator=draw)
    labels = torch.arange(COUNT) % 2
    masks = torch.zeros(COUNT, 1, SIDE, SIDE, dtype=torch.bool)
    masks[1::2, :, 40:90, 60:120] = True

    def judged(truth: Tensor) -> Tensor:
        return quality * truth.float() + (1 - quality) * (1 - truth.float()) + 0.05 * torch.rand(truth.shape, generator=draw)

    scores, maps = judged(labels), judged(masks)
    noise = torch.randn(images.shape, generator=draw)
    made = (images + (0.02 + 0.5 * (1 - quality)) * noise).clamp(0, 1)
    batches: Fed = []
    start = 0
    for size in sizes:
        picked = list(order[start : start + size])
        start += size
        samples = [Sample(Path(f"{i}.png"), int(labels[i]), None, "made", "") for i in picked]
        batch = Batch(images[picked], labels[picked], masks[picked], torch.ones(len(picked), dtype=torch.bool), samples)
        batches.append((batch, Prediction(scores[picked], maps[picked], made[picked])))
    return batches


def tells_good_from_bad(subject: MetricSubject) -> None:
    """A detector that is right has a better value than one that is wrong, in the direction that the spec names."""
    right, wrong = subject.value(fed(1.0)), subject.value(fed(0.0))
    better = right > wrong if subject.component.spec.higher_is_better else right < wrong
    require(better, f"a right detector gets {right:.6g}, a wrong one {wrong:.6g}. Is the spec's higher_is_better right?")
    require(math.isfinite(right) and math.isfinite(wrong), f"its values are {right} and {wrong}, not finite.")


def any_batching(subject: MetricSubject) -> None:
    """The value depends neither on how the images come in batches nor on their order."""
    once, apart = subject.value(fed(0.7)), subject.value(fed(0.7, (5, 1, 4, 2)))
    turned = subject.value(fed(0.7, (COUNT,), tuple(reversed(range(COUNT)))))
    words = f"in one batch {once:.9g}, in four {apart:.9g}, in reverse {turned:.9g}"
    same = math.isclose(once, apart, rel_tol=1e-5, abs_tol=1e-7) and math.isclose(once, turned, rel_tol=1e-5, abs_tol=1e-7)
    require(same, f"{words}. Gather what compute needs, and do not average the batches.")


def asked_again(subject: MetricSubject) -> None:
    """compute may be called again and says the same; what was fed is left as it was."""
    batches = fed(0.7)
    kept = [(part.images.clone(), said.scores.clone(), said.maps.clone()) for part, said in batches if said.maps is not None]
    metric = subject.build()
    for batch, prediction in batches:
        metric.update(batch, prediction)
    first, second = computed(metric), computed(metric)
    require(first == second, f"asked twice it says {first} and {second}.")
    for (images, scores, maps), (batch, prediction) in zip(kept, batches, strict=True):
        same = torch.equal(images, batch.images) and torch.equal(scores, prediction.scores)
        require(same and prediction.maps is not None and torch.equal(maps, prediction.maps), "it changed what it was fed.")


def undefined_with_a_reason(subject: MetricSubject) -> None:
    """Fed nothing, or images that it can say nothing of, it raises UndefinedMetric with the reason, never NaN."""
    for what, batches in (("nothing", []), ("images without scores to compare", fed(1.0, (1,)))):
        metric = subject.build(Calibration(None, 0.01, 0, "the conformance kit") if not batches else None)
        for batch, prediction in batches:
            metric.update(batch, Prediction(prediction.scores))
        try:
            value = metric.compute()
        except UndefinedMetric as error:
            require(str(error).strip(), f"fed {what}, it raises UndefinedMetric without a reason.")
        else:
            require(batches, f"fed nothing, it says {value}. Raise anomaly_core.UndefinedMetric with the reason.")
            require(math.isfinite(value), f"fed {what}, it says {value}. Raise anomaly_core.UndefinedMetric with the reason.")


METRIC = SPEC + named(tells_good_from_bad, any_batching, asked_again, undefined_with_a_reason)
