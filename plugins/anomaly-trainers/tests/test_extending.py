"""A trainer of somebody else's, which extends the gradient trainer through what its docstring names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import DataLoader

from anomaly_core import (
    Batch,
    Figures,
    GradientModeler,
    InputSpec,
    ModelConfig,
    Prediction,
    Sample,
    collate,
    validate,
)
from anomaly_trainers import GradientTrainConfig, GradientTrainer, Training


@dataclass(kw_only=True)
class BoundedTrainConfig(GradientTrainConfig):
    """The options of the trainer below."""

    bound: Annotated[float, Field(gt=0, description="greatest absolute weight")] = 0.05
    penalty: Annotated[float, Field(ge=0, description="of the weights in the loss")] = 0.5


class BoundedTrainer(GradientTrainer):
    """Weights stay within bounds and are penalised; the epoch is chosen by the worst held-out image."""

    config: BoundedTrainConfig

    def losses(self, training: Training, batch: Batch) -> dict[str, Tensor]:
        losses = super().losses(training, batch)
        penalty = torch.stack([parameter.abs().mean() for parameter in training.modeler.parameters()]).sum()
        return {**losses, "loss": losses["loss"] + self.config.penalty * penalty, "penalty": penalty}

    def update(self, training: Training) -> None:
        super().update(training)
        with torch.no_grad():
            for parameter in training.modeler.parameters():
                parameter.clamp_(-self.config.bound, self.config.bound)

    def validate(self, training: Training, held_out: DataLoader[Batch]) -> Figures:
        assert not training.modeler.training
        assert not torch.is_grad_enabled()
        figures = super().validate(training, held_out)
        worst = max(
            float(training.modeler.validation_step(batch[[i]])["loss"]) for batch in held_out for i in range(len(batch))
        )
        return {**figures, "val_mean_loss": figures["val_loss"], "val_loss": worst}


class Colours(GradientModeler):
    """Learns to repeat the mean colour."""

    def __init__(self) -> None:
        super().__init__(ModelConfig())
        self.input_spec = InputSpec((8, 8))
        self.network = nn.Linear(3, 3)

    def configure_optimizer(self, epochs: int) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1), None

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        colours = batch.images.mean(dim=(2, 3))
        return {"loss": (self.network(colours) - colours).square().mean()}

    def predict_step(self, images: Tensor) -> Prediction:
        return Prediction(self.network(images.mean(dim=(2, 3))).norm(dim=1))


def loader(count: int, shuffle: bool) -> DataLoader[Batch]:
    images = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(count)) * torch.linspace(0, 1, count).view(
        -1, 1, 1, 1
    )
    known = torch.ones(1, dtype=torch.bool)
    items = [Batch(images[i : i + 1], torch.zeros(1), None, known, [Sample(Path(f"{i}.png"))]) for i in range(count)]
    return DataLoader(items, batch_size=4, shuffle=shuffle, collate_fn=collate)  # type: ignore[arg-type]


def test_a_trainer_that_extends_it() -> None:
    torch.manual_seed(0)
    modeler = Colours()
    trainer = BoundedTrainer(validate(BoundedTrainConfig, {"epochs": "3", "bound": "0.0625"}, "train"))
    history = trainer.fit(modeler, loader(12, shuffle=True), loader(5, shuffle=False))
    weights = torch.cat([parameter.detach().flatten() for parameter in modeler.parameters()])
    assert float(weights.abs().max()) <= 0.0625
    assert (weights.abs() == 0.0625).any(), "the bound was reached"
    for row in history.rows:
        assert row["train_penalty"] > 0
        assert row["val_loss"] > row["val_mean_loss"], "the worst image is worse than the mean"
    worst = [row["val_loss"] for row in history.rows]
    assert history.figures["kept_epoch"] == worst.index(min(worst)) + 1


def test_its_loss_is_the_one_that_is_minimised() -> None:
    torch.manual_seed(0)
    plain, penalised = Colours(), Colours()
    penalised.load_state_dict(plain.state_dict())
    for modeler, penalty in ((plain, 0.0), (penalised, 0.5)):
        config = BoundedTrainConfig(epochs=3, bound=10, penalty=penalty, keep="last")
        BoundedTrainer(config).fit(modeler, loader(12, shuffle=True), loader(5, shuffle=False))
    sizes = [sum(float(p.detach().abs().sum()) for p in modeler.parameters()) for modeler in (plain, penalised)]
    assert sizes[1] < 0.9 * sizes[0]
