"""A trainer of one's own that extends the public GradientTrainer: named in a config, resumed, checked by the kit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from pydantic import Field
from seams import added, config, interrupted, run, scores
from torch import Tensor, nn

from anomaly_core import (
    Batch,
    ConfigError,
    GradientModeler,
    InputSpec,
    ModelConfig,
    ModelContext,
    ModelSpec,
    Prediction,
    RunConfig,
    TrainerSpec,
)
from anomaly_predict import load_run
from anomaly_testing import check_component, checks_of
from anomaly_trainers import GradientTrainConfig, GradientTrainer, Training


@dataclass(kw_only=True)
class BoundedConfig(GradientTrainConfig):
    """The gradient trainer's options, and one more."""

    bound: Annotated[float, Field(gt=0, description="greatest absolute value of a weight")] = 0.1


class BoundedTrainer(GradientTrainer):
    """After each step, no weight is larger than a bound."""

    config: BoundedConfig

    def update(self, training: Training) -> None:
        super().update(training)
        with torch.no_grad():
            for parameter in training.modeler.parameters():
                parameter.clamp_(-self.config.bound, self.config.bound)


class Predictor(GradientModeler):
    """Predicts each pixel from its neighbours."""

    def __init__(self, config: ModelConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.input_spec = InputSpec.from_config(config)
        self.network = nn.Conv2d(3, 3, 3, padding=1)

    def error(self, images: Tensor) -> Tensor:
        return (self.network(images) - images).square().mean(dim=1, keepdim=True)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.error(batch.images + 0.05 * torch.randn_like(batch.images)).mean()}

    def configure_optimizer(self, epochs: int) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.05), None

    def predict_step(self, images: Tensor) -> Prediction:
        maps = self.error(images)
        return Prediction(maps.amax(dim=(1, 2, 3)), maps)


MODEL = ModelSpec(target=f"{__name__}:Predictor", config="anomaly_core:ModelConfig", trainer="gradient", summary="predicts")
TRAINER = TrainerSpec(target=f"{__name__}:BoundedTrainer", config=f"{__name__}:BoundedConfig", summary="bounds weights")


@pytest.fixture(autouse=True)
def components() -> Iterator[None]:
    with added(predictor=MODEL, bounded=TRAINER):
        yield


def of(output: Path, **options: Any) -> RunConfig:
    return config(output, "predictor", **{"train.name": "bounded", "train.epochs": 3, **options})


def largest(folder: Path) -> float:
    return max(float(value.abs().max()) for value in load_run(folder).modeler.state_dict().values())


def test_a_run_names_it_and_its_option(tmp_path: Path) -> None:
    configured = of(tmp_path, **{"train.bound": "0.0625"})
    assert configured.train == BoundedConfig(name="bounded", epochs=3, bound=0.0625)
    bounded = run(configured)
    assert RunConfig.create(config=bounded.folder / "config.yaml").train == configured.train
    assert largest(bounded.folder) == 0.0625
    free = run(of(tmp_path / "free", **{"train.name": "gradient"}))
    assert largest(free.folder) > 0.1
    with pytest.raises(ConfigError, match=r"train\.bound='0' is not valid"):
        of(tmp_path, **{"train.bound": "0"})


def test_resumed_it_ends_as_if_it_had_not_been_stopped(tmp_path: Path) -> None:
    whole = run(of(tmp_path / "whole"))
    configured = of(tmp_path / "parts", **{"data.root": str(tmp_path / "whole" / "weave")})
    folder = interrupted(configured, after=2).folder
    resumed = run(configured, resume=True)
    assert resumed.folder == folder
    assert scores(resumed) == scores(whole)


def test_it_passes_the_conformance_kit() -> None:
    elsewhere = "torch_free"  # its config stands in this file, which imports torch
    results = check_component("bounded", "trainer", only=[check for check in checks_of("trainer") if check != elsewhere])
    assert {outcome.status for outcome in results} == {"passed"}
