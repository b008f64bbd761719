"""Each check of trainers can fail: a trainer that is right but for one line."""

from __future__ import annotations

import pytest

from anomaly_core import TrainerSpec
from anomaly_testing import check_component, checks_of

SOURCE = """
from dataclasses import dataclass
from typing import Annotated
from pydantic import Field
from anomaly_core import TrainConfig

@dataclass(kw_only=True)
class Config(TrainConfig):
    passes: Annotated[int, Field(ge=1, description="over the images")] = 1
# ---
import torch
from anomaly_core import BaseTrainer, GradientModeler, History, MemoryModeler, PluginError

class Trainer(BaseTrainer):
    def fit(self, modeler, train, validation, run=None):
        if isinstance(modeler, MemoryModeler):
            row = self.remember(modeler, train)
        elif isinstance(modeler, GradientModeler):
            row = self.descend(modeler, train, validation)
        else:
            raise PluginError(f"cannot fit a {type(modeler).__name__}")
        modeler.eval()
        run.log(row, 1)
        return History([row], row)

    def remember(self, modeler, train):
        modeler.eval()
        with torch.inference_mode():
            for batch in train:
                modeler.collect(batch.images)
            modeler.build()
        return {"images": 1.0}

    def descend(self, modeler, train, validation):
        optimizer, _ = modeler.configure_optimizer(1)
        with torch.no_grad():
            modeler.before_training(train)
        for batch in train:
            optimizer.zero_grad()
            losses = modeler.training_step(batch)
            losses["loss"].backward()
            optimizer.step()
        with torch.no_grad():
            modeler.after_training(validation)
        return modeler.summarize({name: float(loss) for name, loss in losses.items()})
"""
MEMORY_ALONE = ("elif isinstance(modeler, GradientModeler)", "elif False")
# check, the line that is replaced, what stands there instead, words of the reason
BROKEN = [
    ("torch_free", "from typing", "import torch\nfrom typing", "imports torch"),
    ("defaults_are_valid", "] = 1", "] = 0", "passes=0"),
    ("config_survives_yaml", "] = 1", "] = 1\n    def __post_init__(self): self.passes += 1", "written to YAML"),
    ("fits_a_modeler", "modeler.build()", "pass", "as it was before"),
    ("tells_its_history", "run.log(row, 1)", "pass", "logged 0"),
    ("makes_every_pass", "modeler.before_training(train)", "pass", "it calls training, after_training; expected"),
    ("makes_every_pass", "before_training(train)", "before_training([*train][:1])", "gets 4 of 11 training images"),
    ("makes_every_pass", "after_training(validation)", "after_training(())", "gets 0 of 1 held-out images"),
    ("logs_what_summarize_returns", "modeler.summarize({name", "({name", "means that summarize replaces"),
    ("leaves_it_ready", "return History", "modeler.train(); return History", "train mode"),
    ("same_seed_same_state", "modeler.build()", "modeler.build(); modeler.mean += hash(object()) % 997", "another 'mean'"),
    ("refuses_with_reason", '(f"cannot fit a {type(modeler).__name__}")', '("no")', "without naming it"),
]


def spec(modules, old: str = "", new: str = "") -> TrainerSpec:
    name = modules(SOURCE, old, new)
    return TrainerSpec(target=f"{name}:Trainer", config=f"{name}_config:Config", summary="one pass")


def test_a_sound_trainer_passes_every_check(modules) -> None:
    results = check_component(spec(modules), "trainer")
    assert [outcome.check for outcome in results] == list(checks_of("trainer"))
    assert {outcome.status for outcome in results} == {"passed"}


def test_what_asks_for_gradients_is_skipped_for_a_trainer_of_memories(modules) -> None:
    results = check_component(spec(modules, *MEMORY_ALONE), "trainer")
    skipped = {outcome.check: outcome.reason for outcome in results if outcome.status == "skipped"}
    assert skipped == dict.fromkeys(("makes_every_pass", "logs_what_summarize_returns"), "it fits no gradient methods")
    assert {outcome.status for outcome in results} == {"passed", "skipped"}


@pytest.mark.parametrize(("check", "old", "new", "words"), BROKEN, ids=[f"{i}-{row[0]}" for i, row in enumerate(BROKEN)])
def test_a_broken_trainer_fails(modules, fails, check: str, old: str, new: str, words: str) -> None:
    fails(spec(modules, old, new), check, words)


def test_every_check_is_proved_to_fail(common: set[str]) -> None:
    assert set(checks_of("trainer")) == {check for check, *_ in BROKEN} | common
