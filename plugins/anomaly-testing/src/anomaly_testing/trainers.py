"""Checks of a trainer: it fits the smallest modelers there are, the same way for the same seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor

from anomaly_core import BaseModeler, BaseTrainer, Figures, History, ModelConfig, PluginError, RunContext, validate
from anomaly_testing.checks import Broken, Skip, Subject, named, require
from anomaly_testing.common import CONFIG, SPEC
from anomaly_testing.pictures import CATEGORY, ObviousConfig, ObviousData
from anomaly_testing.probes import PROBES, GradientProbe, StrangeProbe

SIDE = 48


@dataclass
class Fit:
    """A probe after its fit, the course of that, and what was logged meanwhile."""

    modeler: BaseModeler
    history: History
    logged: list[tuple[Figures, int]]
    fitted: int
    held_out: int


class TrainerSubject(Subject):
    """A trainer under test."""

    def build(self) -> BaseTrainer:
        """The trainer with the author's overrides, for two epochs where it has epochs."""
        cls = self.component.config_class()
        options: dict[str, Any] = {"name": self.name}
        if "epochs" in cls.__dataclass_fields__:
            options["epochs"] = 2
        options |= {key.removeprefix("train."): value for key, value in self.overrides.items()}
        trainer: BaseTrainer = self.component.build(validate(cls, options, "train"), device="cpu")
        return trainer

    def fit(self, probe: type[BaseModeler], seed: int = 0) -> Fit:
        """Fit a probe.

        Raises:
            PluginError: the trainer does not fit modelers of its kind.
        """
        trainer = self.build()
        data = ObviousData(ObviousConfig(root=str(self.folder), batch_size=4, num_workers=0), seed=seed)
        set_seed(seed)
        modeler = probe(ModelConfig(image_size=SIDE))
        fitted, held_out = data.split(CATEGORY)
        logged: list[tuple[Figures, int]] = []
        context = RunContext(seed, log=lambda row, step: logged.append((dict(row), step)))
        train = data.loader(fitted, modeler.input_spec, shuffle=trainer.shuffles)
        history = trainer.fit(modeler, train, data.loader(held_out, modeler.input_spec), context)
        return Fit(modeler, history, logged, len(fitted), len(held_out))

    @cached_property
    def fits(self) -> dict[str, Fit]:
        """The fit of each probe that the trainer does not refuse, by the probe's name."""
        fits, refusals = {}, []
        for name, probe in PROBES.items():
            try:
                fits[name] = self.fit(probe)
            except PluginError as error:
                refusals.append(str(error))
        if not fits:
            raise Broken(f"it fits no kind of modeler that there is: {' '.join(refusals)}")
        return fits

    @property
    def of_gradient(self) -> tuple[GradientProbe, Fit]:
        """The fit of the gradient probe; Skip for a trainer that fits no gradient methods."""
        fit = self.fits.get(GradientProbe.__name__)
        if fit is None or not isinstance(fit.modeler, GradientProbe):
            raise Skip("it fits no gradient methods")
        return fit.modeler, fit


def fits_a_modeler(subject: TrainerSubject) -> None:
    """It fits a memory or a gradient modeler, whose state changes and stays finite."""
    require(isinstance(subject.build(), BaseTrainer), "its target is no BaseTrainer.")
    for name, fit in subject.fits.items():
        require(isinstance(fit.history, History), f"fit returned a {type(fit.history).__name__}, not a History.")
        set_seed(0)
        before = PROBES[name](ModelConfig(image_size=SIDE)).state_dict()
        after = fit.modeler.state_dict()
        require(any(not torch.equal(before[key], after[key]) for key in after), f"{name} is after fit as it was before.")
        require(all(value.isfinite().all() for value in after.values()), f"{name} holds NaN or infinity after fit.")


def tells_its_history(subject: TrainerSubject) -> None:
    """Rows and figures are finite floats; each row is logged with its step while it fits."""
    for name, fit in subject.fits.items():
        rows = fit.history.rows
        require(rows, f"fitting {name}, it keeps no row of history.")
        for row in [*rows, fit.history.figures]:
            wrong = {key: value for key, value in row.items() if not (isinstance(value, float) and math.isfinite(value))}
            require(not wrong, f"fitting {name}, it gives {wrong}: not finite floats.")
        require(len(fit.logged) == len(rows), f"fitting {name}, it has {len(rows)} rows and logged {len(fit.logged)}.")
        steps = [step for _, step in fit.logged]
        require(steps == sorted(set(steps)), f"fitting {name}, it logs the steps {steps}, not rising.")


def makes_every_pass(subject: TrainerSubject) -> None:
    """A gradient method gets before_training on all training images, then its steps, then after_training on held-out ones."""
    probe, fit = subject.of_gradient
    names = [name for name, _ in probe.passes]
    order = ["before_training", "training", "after_training"]
    require(names == order, f"it calls {', '.join(names) or 'nothing'}; expected {', '.join(order)}, each once.")
    first, _, last = (count for _, count in probe.passes)
    require(first == fit.fitted, f"before_training gets {first} of {fit.fitted} training images.")
    require(last == fit.held_out, f"after_training gets {last} of {fit.held_out} held-out images.")


def logs_what_summarize_returns(subject: TrainerSubject) -> None:
    """The figures of a gradient method's epoch are those that its summarize makes of the means."""
    _, fit = subject.of_gradient
    for row in fit.history.rows:
        require(not any(key.endswith("bright") for key in row), f"it logs {', '.join(row)}: means that summarize replaces.")
        values = [value for key, value in row.items() if key.endswith("percent")]
        require(values, f"it logs {', '.join(row)}, without the figure that summarize computes.")
        require(all(1 < value <= 100 for value in values), f"summarize computes percents, and it logs {values}.")


def leaves_it_ready(subject: TrainerSubject) -> None:
    """After fit the modeler scores at once: in eval mode, on the trainer's device."""
    for name, fit in subject.fits.items():
        require(not fit.modeler.training, f"{name} is in train mode after fit. Call modeler.eval().")


def same_seed_same_state(subject: TrainerSubject) -> None:
    """Two fits with one seed end in the same state, bit for bit."""
    name = next(iter(subject.fits))
    first: dict[str, Tensor] = subject.fits[name].modeler.state_dict()
    second = subject.fit(PROBES[name]).modeler.state_dict()
    for key, value in first.items():
        require(torch.equal(value, second[key]), f"two fits of {name} with the seed 0 end in another {key!r}.")


def refuses_with_reason(subject: TrainerSubject) -> None:
    """A modeler that it cannot fit is refused with a PluginError that names it."""
    probes: dict[str, type[BaseModeler]] = {**PROBES, StrangeProbe.__name__: StrangeProbe}
    for name, probe in probes.items():
        if name not in subject.fits:
            try:
                subject.fit(probe)
            except PluginError as error:
                require(name in str(error), f"it refuses {name} without naming it: {error}")


TRAINER = (
    SPEC
    + CONFIG
    + named(
        fits_a_modeler,
        tells_its_history,
        makes_every_pass,
        logs_what_summarize_returns,
        leaves_it_ready,
        same_seed_same_state,
        refuses_with_reason,
    )
)
