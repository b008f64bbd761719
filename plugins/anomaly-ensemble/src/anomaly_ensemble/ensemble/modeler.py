"""An ensemble: several methods' scores and maps on one scale, averaged.

Each member keeps its own way of scoring. A scale turns its scores into minus the logarithm of the share of normal images with
such a score, and its maps likewise, so that methods whose scores have other units count alike; the ensemble's score and map are
the means. The scales come from scores of normal images that the members did not see: those of the members' runs
(``anomaly ensemble RUN RUN``), or, where the members are fitted together, of up to 64 of the training images, each left out of
the memories.

All members see one input. A member of another size sees it resized; other geometries are refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_core import (
    BaseModeler,
    Batch,
    ConfigError,
    InputSpec,
    MemoryModeler,
    ModelConfig,
    ModelContext,
    Prediction,
    registry,
    validate,
)
from anomaly_ensemble.ensemble.config import GEOMETRY, EnsembleConfig, resolved
from anomaly_ensemble.ensemble.scale import Scale

SOME = 64  # training images whose scores without themselves set the scales


class EnsembleModeler(MemoryModeler):
    """Several modelers as one.

    Attributes:
        members: the members' modelers.
        of_scores, of_maps: their scales.
    """

    config: EnsembleConfig
    fewest_images = 3  # one is left out, and a covariance needs two

    def __init__(self, config: EnsembleConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        sections = [_section(config, resolved(member)) for member in config.members]
        self.members = nn.ModuleList([registry.models[section.name].build(section, self.context) for section in sections])
        self.of_scores = nn.ModuleList([Scale() for _ in sections])
        self.of_maps = nn.ModuleList([Scale() for _ in sections])
        self.input_spec = InputSpec.from_config(config)
        for section, member in zip(sections, self.modelers(), strict=True):
            if member.input_spec.resize != self.input_spec.resize or (
                member.input_spec.center_crop not in (None, self.input_spec.center_crop)
            ):
                raise ConfigError(
                    f"an ensemble gives all members the same image, and {section.name!r} has model.resize={section.resize}, "
                    f"model.center_crop={section.center_crop} where the ensemble has model.resize={config.resize}, "
                    f"model.center_crop={config.center_crop}. Choose the same for all."
                )
        self.image_room = min(member.image_room for member in self.modelers())
        self._some: list[Tensor] = []

    def modelers(self) -> Iterator[BaseModeler]:
        """The members."""
        yield from self.members  # type: ignore[misc]  # ModuleList yields modules

    @property
    def leaves_out(self) -> float:  # type: ignore[override]  # that of the member that can do without the fewest
        """As of the member that can do without the fewest images."""
        return min(member.leaves_out if isinstance(member, MemoryModeler) else 0 for member in self.modelers())

    def predict_step(self, images: Tensor) -> Prediction:
        """Score float32 (B, 3, H, W) RGB images in [0, 1]: mean of the members' scaled scores and maps."""
        return self._combined(self._each(images), images)

    def predict_without(self, images: Tensor, numbers: Sequence[Tensor]) -> Prediction:
        """As :meth:`predict_step`, by memories that lack some of the images."""
        return self._combined(self._without(images, numbers), images)

    def collect(self, images: Tensor) -> None:
        """Every member takes in the images; the first ones are kept for the scales, as 8-bit images."""
        for member in self._memories():
            member.expected = self.expected
            member.collect(_resized(images, member))
        room = SOME - sum(map(len, self._some))
        if room > 0:
            self._some.append((images[:room] * 255).round().to("cpu", torch.uint8))

    def build(self) -> None:
        """Every member builds its memory; the scales come from the kept images, each left out of the memories."""
        for member in self._memories():
            member.build()
        if not self.leaves_out:
            warnings.warn(
                "a member's memory holds too few images to do without one: the scales rest on scores of images that the "
                "members have seen. Add normal images.",
                stacklevel=2,
            )
        summaries = [_Summary([], [], []) for _ in self.members]
        some, self._some = torch.cat(self._some), []
        device = next(self.buffers()).device
        for start in range(0, len(some), 16):
            part = some[start : start + 16].to(device).float() / 255
            numbers = [torch.tensor([start + i], device=device) for i in range(len(part))]
            for summary, prediction in zip(
                summaries, (self._without(part, numbers) if self.leaves_out else self._each(part)), strict=True
            ):
                summary.add(prediction)
        for number, summary in enumerate(summaries):
            self.set_scale(number, summary.scores, summary.maxima, median(summary.medians) if summary.medians else None)

    def set_scale(self, number: int, scores: Sequence[float], maxima: Sequence[float], low: float | None) -> None:
        """Set a member's scales.

        Args:
            number: of the member.
            scores: of normal images that it did not see.
            maxima: the greatest values of their maps; empty for a member without maps.
            low: the map's value at a typical normal pixel.
        """
        extrapolate = self.config.scale == "tail"
        self.of_scores[number].fit(scores, extrapolate=extrapolate)  # type: ignore[operator]  # a Scale
        if maxima:
            self.of_maps[number].fit(maxima, low=low, extrapolate=extrapolate)  # type: ignore[operator]

    @contextmanager
    def fitting(self, repeated: bool) -> Iterator[None]:
        """Every member's own."""
        with ExitStack() as stack:
            for member in self.modelers():
                stack.enter_context(member.fitting(repeated))
            yield

    def warm_up(self, device: torch.device) -> None:
        """Every member's own."""
        for member in self.modelers():
            member.warm_up(device)

    def prepare_fitting(self, batches: Iterable[Batch]) -> None:
        """Every member's own."""
        for member in self.modelers():
            size = member.input_spec.output_size
            member.prepare_fitting(batches if size == self.input_spec.output_size else _Resized(batches, member))

    def prepare_export(self) -> None:
        """Every member's own."""
        for member in self.modelers():
            member.prepare_export()

    def computing(self, device: torch.device) -> dict[str, str]:
        """What the members say, each once: ``openvino``, or ``openvino, torch`` where they differ."""
        said: dict[str, dict[str, None]] = {}
        for member in self.modelers():
            for name, value in member.computing(device).items():
                said.setdefault(name, {})[value] = None
        return {name: ", ".join(values) for name, values in said.items()}

    def describe(self) -> dict[str, float]:
        """The members' figures, with the method's name before them."""
        figures = {}
        for section, member in zip(self.config.members, self.modelers(), strict=True):
            for name, value in member.describe().items():
                figures[f"{section['name']}_{name}"] = value
        return figures

    def trained_state(self) -> dict[str, Tensor]:
        """The members' trained states, and the scales."""
        state = {name: value for name, value in self.state_dict().items() if not name.startswith("members.")}
        for number, member in enumerate(self.modelers()):
            state |= {f"members.{number}.{name}": value for name, value in member.trained_state().items()}
        return state

    def load_state(self, state: Mapping[str, Tensor], strict: bool = True) -> None:
        """Each member loads its part as it would load its own."""
        for number, member in enumerate(self.modelers()):
            prefix = f"members.{number}."
            own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            member.load_state(own, strict)
        for name in ("of_scores", "of_maps"):
            own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
            getattr(self, name).load_state_dict(own, strict=strict)

    def _memories(self) -> Iterator[MemoryModeler]:
        for section, member in zip(self.config.members, self.modelers(), strict=True):
            if not isinstance(member, MemoryModeler):
                raise ConfigError(
                    f"model.members: {section['name']!r} has no memory, and only methods that have one are fitted together. "
                    "Fit each method by itself; then `anomaly ensemble RUN RUN` makes one detector of the runs."
                )
            yield member

    def _each(self, images: Tensor) -> list[Prediction]:
        return [member.predict_step(_resized(images, member)) for member in self.modelers()]

    def _without(self, images: Tensor, numbers: Sequence[Tensor]) -> list[Prediction]:
        return [member.predict_without(_resized(images, member), numbers) for member in self._memories()]

    def _combined(self, predictions: Sequence[Prediction], images: Tensor) -> Prediction:
        scaled = [scale(part.scores) for scale, part in zip(self.of_scores, predictions, strict=True)]
        maps = []
        for scale, part in zip(self.of_maps, predictions, strict=True):
            if part.maps is not None:
                maps.append(scale(_sized(part.maps, images.shape[-2:])))
        return Prediction(torch.stack(scaled).mean(dim=0), torch.stack(maps).mean(dim=0) if maps else None)


class _Summary(NamedTuple):
    """A member's scores, and the greatest values and medians of its maps, an entry an image; empty without maps."""

    scores: list[float]
    maxima: list[float]
    medians: list[float]

    def add(self, prediction: Prediction) -> None:
        self.scores.extend(prediction.scores.tolist())
        if prediction.maps is not None:
            flat = prediction.maps.flatten(1)
            self.maxima.extend(flat.amax(dim=1).tolist())
            self.medians.extend(flat.median(dim=1).values.tolist())


def _section(config: EnsembleConfig, member: Mapping[str, Any]) -> ModelConfig:
    """The config of a member: with the ensemble's geometry, where it has none of its own, and its engine."""
    options = {name: getattr(config, name) for name in GEOMETRY} | dict(member)
    component = registry.models[str(member["name"])]
    section: ModelConfig = validate(component.config_class(), options, "model")
    if config.engine is not None and hasattr(section, "engine"):
        section = replace(section, engine=config.engine)  # type: ignore[call-arg]  # it has one
    return section


def _resized(images: Tensor, member: BaseModeler) -> Tensor:
    """(B, 3, H, W) at the ensemble's size -> at the member's."""
    return _sized(images, member.input_spec.output_size)


def _sized(images: Tensor, size: Sequence[int]) -> Tensor:
    height, width = size
    if images.shape[-2:] == (height, width):
        return images
    shrinks = height < images.shape[-2] or width < images.shape[-1]
    return F.interpolate(images, (height, width), mode="bilinear", align_corners=False, antialias=shrinks)


class _Resized:
    """Batches at a member's size, for any number of passes."""

    def __init__(self, batches: Iterable[Batch], member: BaseModeler) -> None:
        self._batches, self._member = batches, member

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            yield replace(batch, images=_resized(batch.images, self._member))
