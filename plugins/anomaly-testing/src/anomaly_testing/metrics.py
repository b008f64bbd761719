"""Checks of a metric: fed with predictions whose order of merit is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor

from anomaly_core import BaseMetric, Batch, Calibration, MetricSpec, Prediction, Sample, UndefinedMetric
from anomaly_features import BackboneError
from anomaly_testing.checks import Skip, Subject, named, require
from anomaly_testing.common import SPEC

SIDE, COUNT = 160, 12  # AUPIMO wants 100 000 normal pixels and more
TITLE = 32  # characters that fit the head of a table's column
Batches = list[tuple[Batch, Prediction]]
UNDEFINED = "Raise anomaly_core.UndefinedMetric with the reason."


class MetricSubject(Subject):
    """A metric under test."""

    def build(self, calibration: Calibration | None = None) -> BaseMetric:
        """The metric, by default with a threshold between the two classes of :func:`judged`."""
        calibration = calibration or Calibration(0.5, 0.01, 20, "the conformance kit", 0.0, 0.5, None, (0.1, 0.2))
        try:
            metric = self.component.build(calibration)
        except BackboneError as error:
            raise Skip(f"its pretrained weights are not here: {error}") from error
        require(isinstance(metric, BaseMetric), f"its target is a {type(metric).__name__}, which is no BaseMetric.")
        return metric  # type: ignore[no-any-return]

    def value(self, batches: Batches) -> float:
        """Its value on the batches."""
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


def judged(quality: float, sizes: Sequence[int] = (COUNT,), order: Sequence[int] = tuple(range(COUNT))) -> Batches:
    """Batches of half normal, half defective images, and the predictions of a detector that is right (1), wrong (0) or between.

    Args:
        quality: 1 tells all images and pixels apart and reconstructs well, 0 takes every one for its opposite.
        sizes: images a batch.
        order: of the images.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(COUNT, 3, SIDE, SIDE, generator=generator)
    labels = torch.arange(COUNT) % 2
    masks = torch.zeros(COUNT, 1, SIDE, SIDE, dtype=torch.bool)
    masks[1::2, :, 40:90, 60:120] = True

    def likeness(truth: Tensor) -> Tensor:
        noise = 0.05 * torch.rand(truth.shape, generator=generator)
        return quality * truth.float() + (1 - quality) * (1 - truth.float()) + noise

    scores, maps = likeness(labels), likeness(masks)
    noise = torch.randn(images.shape, generator=generator)
    reconstruction = (images + (0.02 + 0.5 * (1 - quality)) * noise).clamp(0, 1)
    batches: Batches = []
    start = 0
    for size in sizes:
        chosen = list(order[start : start + size])
        start += size
        # two views of each object, for metrics that judge objects
        objects = [{"object": f"{i % 2}-{i // 4}"} for i in chosen]
        samples = [
            Sample(Path(f"{i}.png"), int(labels[i]), None, "drawn", "", shown) for i, shown in zip(chosen, objects, strict=True)
        ]
        batch = Batch(images[chosen], labels[chosen], masks[chosen], torch.ones(len(chosen), dtype=torch.bool), samples)
        batches.append((batch, Prediction(scores[chosen], maps[chosen], reconstruction[chosen])))
    return batches


def says_where_it_stands(subject: MetricSubject) -> None:
    """The spec's level and prominence are ones that the core knows, and its title fits the head of a column."""
    spec = subject.component.spec
    hints = get_type_hints(MetricSpec)
    for name in ("level", "prominence"):
        value, choices = getattr(spec, name), get_args(hints[name])
        require(value in choices, f"its {name} is {value!r}; choose one of {', '.join(choices)}.")
    one_line = spec.title == spec.title.strip() and "\n" not in spec.title and len(spec.title) <= TITLE
    require(one_line, f"its title is {spec.title!r}; write at most {TITLE} characters, or none to take the name.")


def judges_its_level(subject: MetricSubject) -> None:
    """It judges what the spec's level says, scores, maps or reconstructions, and nothing else of a prediction."""
    level = subject.component.spec.level
    whole = judged(0.7)
    value = subject.value(whole)
    alone = subject.value([(batch, _only(level, prediction)) for batch, prediction in whole])
    require(
        math.isclose(value, alone, rel_tol=1e-6),
        f"its level is {level!r}, and its value is {value:.9g}; without what another level judges it is {alone:.9g}.",
    )


def tells_good_from_bad(subject: MetricSubject) -> None:
    """A detector that is right has a better value than one that is wrong, in the direction that the spec names."""
    right, wrong = subject.value(judged(1.0)), subject.value(judged(0.0))
    better = right > wrong if subject.component.spec.higher_is_better else right < wrong
    require(better, f"a right detector gets {right:.6g}, a wrong one {wrong:.6g}. Is the spec's higher_is_better right?")
    require(math.isfinite(right) and math.isfinite(wrong), f"its values are {right} and {wrong}, not finite.")


def any_batching(subject: MetricSubject) -> None:
    """The value depends neither on how the images come in batches nor on their order."""
    once, apart = subject.value(judged(0.7)), subject.value(judged(0.7, (5, 1, 4, 2)))
    turned = subject.value(judged(0.7, (COUNT,), tuple(reversed(range(COUNT)))))
    words = f"in one batch {once:.9g}, in four {apart:.9g}, in reverse {turned:.9g}"
    same = math.isclose(once, apart, rel_tol=1e-5, abs_tol=1e-7) and math.isclose(once, turned, rel_tol=1e-5, abs_tol=1e-7)
    require(same, f"{words}. Gather what compute needs, and do not average the batches.")


def asked_again(subject: MetricSubject) -> None:
    """compute may be called again and gives the same; what it was fed is left as it was."""
    batches = judged(0.7)
    before = [(batch.images.clone(), *_parts(prediction)) for batch, prediction in batches]
    metric = subject.build()
    for batch, prediction in batches:
        metric.update(batch, prediction)
    first, second = computed(metric), computed(metric)
    require(first == second, f"asked twice it gives {first} and {second}.")
    after = [(batch.images, *_parts(prediction)) for batch, prediction in batches]
    for kept, present in zip(before, after, strict=True):
        require(all(map(torch.equal, kept, present)), "it changed what it was fed.")


def undefined_with_a_reason(subject: MetricSubject) -> None:
    """Fed nothing, or images that it cannot judge, it raises UndefinedMetric with the reason, never NaN."""
    for what, batches in (("nothing", []), ("images without scores to compare", judged(1.0, (1,)))):
        metric = subject.build(Calibration(None, 0.01, 0, "the conformance kit") if not batches else None)
        for batch, prediction in batches:
            metric.update(batch, Prediction(prediction.scores))
        try:
            value = metric.compute()
        except UndefinedMetric as error:
            require(str(error).strip(), f"fed {what}, it raises UndefinedMetric without a reason.")
        else:
            require(batches, f"fed nothing, its value is {value}. {UNDEFINED}")
            require(math.isfinite(value), f"fed {what}, its value is {value}. {UNDEFINED}")


METRIC = SPEC + named(
    says_where_it_stands, tells_good_from_bad, judges_its_level, any_batching, asked_again, undefined_with_a_reason
)


def _only(level: str, prediction: Prediction) -> Prediction:
    """What a metric of the level judges, and nothing else; scores, which no prediction is without, are all the same."""
    if level == "image":
        return Prediction(prediction.scores)
    blank = torch.zeros_like(prediction.scores)
    return Prediction(blank, prediction.maps) if level == "pixel" else Prediction(blank, None, prediction.reconstruction)


def _parts(prediction: Prediction) -> tuple[Any, ...]:
    """Copies of all tensors of a prediction that has them."""
    return tuple(part.clone() for part in (prediction.scores, prediction.maps, prediction.reconstruction) if part is not None)
