"""Checks of a trainer: it fits the smallest modelers there are, the same way for the same seed."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor

from anomaly_core.base.modeler import BaseModeler
from anomaly_core.base.trainer import BaseTrainer, Figures, History, RunContext
from anomaly_core.config import validate
from anomaly_core.errors import PluginError
from anomaly_core.options import ModelConfig
from anomaly_core.testing.checks import Broken, Subject, named, require
from anomaly_core.testing.common import CONFIG, SPEC
from anomaly_core.testing.pictures import CATEGORY, ObviousConfig, ObviousData
from anomaly_core.testing.probes import PROBES

SIDE = 48


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

    def fit(self, probe: type[BaseModeler], seed: int = 0) -> tuple[BaseModeler, History, list[tuple[Figures, int]]]:
        """A probe after its fit, the history, and what was logged meanwhile."""
        trainer = self.build()
        data = ObviousData(ObviousConfig(root=str(self.folder), batch_size=4, num_workers=0), seed=seed)
        set_seed(seed)
        modeler = probe(ModelConfig(image_size=SIDE))
        fit, held = data.split(CATEGORY)
        logged: list[tuple[Figures, int]] = []
        context = RunContext(seed, log=lambda row, step: logged.append((dict(row), step)))
        train = data.loader(fit, modeler.input_spec, shuffle=trainer.shuffles)
        history = trainer.fit(modeler, train, data.loader(held, modeler.input_spec), context)
        return modeler, history, logged

    @cached_property
    def fitted(self) -> dict[str, tuple[BaseModeler, History, list[tuple[Figures, int]]]]:
        """Probe -> its fit, of those that the trainer does not refuse."""
        found, refusals = {}, []
        for name, probe in PROBES.items():
            try:
                found[name] = self.fit(probe)
            except PluginError as error:
                refusals.append(str(error))
        if not found:
            raise Broken(f"it fits no kind of modeler that there is: {' '.join(refusals)}")
        return found


def fits_a_modeler(subject: TrainerSubject) -> None:
    """It fits a memory, gradient, flow or classification modeler, whose state changes and stays finite."""
    require(isinstance(subject.build(), BaseTrainer), "its target is no BaseTrainer.")
    for name, (modeler, history, _) in subject.fitted.items():
        require(isinstance(history, History), f"fit returned a {type(history).__name__}, not a History.")
        set_seed(0)
        before = PROBES[name](ModelConfig(image_size=SIDE)).state_dict()
        after = modeler.state_dict()
        require(any(not torch.equal(before[key], after[key]) for key in after), f"{name} is after fit as it was before.")
        require(all(value.isfinite().all() for value in after.values()), f"{name} holds NaN or infinity after fit.")


def tells_its_history(subject: TrainerSubject) -> None:
    """Rows and figures are finite floats; each row is logged with its step while it fits."""
    for name, (_, history, logged) in subject.fitted.items():
        require(history.rows, f"fitting {name}, it keeps no row of history.")
        for row in [*history.rows, history.figures]:
            wrong = {key: value for key, value in row.items() if not (isinstance(value, float) and math.isfinite(value))}
            require(not wrong, f"fitting {name}, it tells {wrong}: not finite floats.")
        require(len(logged) == len(history.rows), f"fitting {name}, it has {len(history.rows)} rows and logged {len(logged)}.")
        steps = [step for _, step in logged]
        require(steps == sorted(set(steps)), f"fitting {name}, it logs the steps {steps}, not rising.")


def leaves_it_ready(subject: TrainerSubject) -> None:
    """After fit the modeler scores at once: in eval mode, on the trainer's device."""
    for name, (modeler, _, _) in subject.fitted.items():
        require(not modeler.training, f"{name} is in train mode after fit. Call modeler.eval().")


def same_seed_same_state(subject: TrainerSubject) -> None:
    """Two fits with one seed end in the same state, bit for bit."""
    name = next(iter(subject.fitted))
    first: dict[str, Tensor] = subject.fitted[name][0].state_dict()
    second = subject.fit(PROBES[name])[0].state_dict()
    for key, value in first.items():
        require(torch.equal(value, second[key]), f"two fits of {name} with the seed 0 end in another {key!r}.")


def refuses_with_reason(subject: TrainerSubject) -> None:
    """A modeler that it cannot fit is refused with a PluginError that names it."""
    for name, probe in PROBES.items():
        if name not in subject.fitted:
            try:
                subject.fit(probe)
            except PluginError as error:
                require(name in str(error), f"it refuses {name} without naming it: {error}")


TRAINER = SPEC + CONFIG + named(fits_a_modeler, tells_its_history, leaves_it_ready, same_seed_same_state, refuses_with_reason)
