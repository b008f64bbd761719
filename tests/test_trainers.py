"""The trainers on small modelers of our own: what they keep, repeat, refuse and say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from anomaly_core.base.data import collate
from anomaly_core.base.modeler import ClassificationModeler, FlowModeler, GradientModeler
from anomaly_core.base.trainer import RunContext
from anomaly_core.errors import ConfigError, PluginError, RunError
from anomaly_core.features import FrozenNetwork
from anomaly_core.inputs import InputSpec
from anomaly_core.options import ModelConfig
from anomaly_core.trainers.checkpoint import trainable_state
from anomaly_core.trainers.classification import ClassificationTrainer
from anomaly_core.trainers.config import GradientTrainConfig
from anomaly_core.trainers.flow import FlowTrainer
from anomaly_core.trainers.gradient import GradientTrainer
from anomaly_core.trainers.means import Means
from anomaly_core.trainers.memory import MemoryTrainer
from anomaly_core.types import Batch, Prediction, Sample


class Frozen(FrozenNetwork):
    """A mixture of colours that nobody trains."""

    def __init__(self) -> None:
        super().__init__()
        self.mixture = nn.Linear(3, 3).requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        return [self.mixture(images)]


class Noisy(GradientModeler):
    """Learns the mean colour, with noise, batch statistics, dropout and a schedule: all that a resume must restore."""

    def __init__(self) -> None:
        super().__init__(ModelConfig())
        self.input_spec = InputSpec((8, 8))
        self.frozen = Frozen()
        self.network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3))
        self.network[1].requires_grad_(False)  # its running statistics move all the same
        self.started: list[tuple[int, int]] = []

    def start_epoch(self, epoch: int, epochs: int) -> None:
        self.started.append((epoch, epochs))

    def configure_optimizer(self, epochs: int) -> Any:
        optimizer = torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=0.01)
        return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4], gamma=0.5)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        colours = batch.images.mean(dim=(2, 3))
        made = self.network(self.frozen(colours + 0.1 * torch.randn_like(colours))[0])
        loss = (made - colours).square().mean()
        return {"loss": loss, "l1_loss": (made - colours).abs().mean()}

    def predict_step(self, images: Tensor) -> Prediction:
        return Prediction(self.network(images.mean(dim=(2, 3))).norm(dim=1))


def loader(count: int = 20, batch_size: int = 6, shuffle: bool = True) -> DataLoader[Batch]:
    images = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(count))
    items = [
        Batch(images[i : i + 1], torch.zeros(1), None, torch.ones(1, dtype=torch.bool), [Sample(Path(f"{i}.png"))])
        for i in range(count)
    ]
    return DataLoader(
        items,  # type: ignore[arg-type]
        batch_size=batch_size,
        shuffle=shuffle,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(0),
    )


class Folder:
    """A run's folder that a process may leave at any epoch."""

    def __init__(self, path: Path, stop_after: int | None = None) -> None:
        self.path, self.stop_after = path, stop_after
        self.logged: list[int] = []

    def context(self, resume: bool = False) -> RunContext:
        return RunContext(3, self.path, self.write, resume, self.log)

    def write(self, name: str, content: bytes) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_bytes(content)

    def log(self, row: dict[str, float], step: int) -> None:
        self.logged.append(step)
        if step == self.stop_after:
            raise KeyboardInterrupt


def fitted(config: GradientTrainConfig, run: RunContext, validation: bool = True) -> tuple[Noisy, Any]:
    torch.manual_seed(1)
    modeler = Noisy()
    history = GradientTrainer(config, "cpu").fit(modeler, loader(), loader(7, 4, shuffle=False) if validation else None, run)
    return modeler, history


def untimed(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_stopped_training_resumes_to_the_same_weights(tmp_path: Path, keep: str) -> None:
    config = GradientTrainConfig(epochs=6, keep=keep)  # type: ignore[arg-type]
    whole, history = fitted(config, Folder(tmp_path / "whole").context())
    with pytest.raises(KeyboardInterrupt):
        fitted(config, Folder(tmp_path / "parts", stop_after=3).context())
    rest = Folder(tmp_path / "parts")
    resumed, again = fitted(config, rest.context(resume=True))
    assert rest.logged == [4, 5, 6]
    assert untimed(again.rows) == untimed(history.rows)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_the_best_epoch_on_held_out_images_is_kept(tmp_path: Path) -> None:
    modeler, history = fitted(GradientTrainConfig(epochs=8), Folder(tmp_path).context())
    losses = [row["val_loss"] for row in history.rows]
    best = losses.index(min(losses)) + 1
    assert history.figures["kept_epoch"] == best
    assert history.figures["val_loss"] == min(losses)
    assert history.figures["train_l1_loss"] == history.rows[best - 1]["train_l1_loss"]
    assert {row["lr"] for row in history.rows} == {0.01, 0.005, 0.0025}
    assert modeler.started == [(epoch, 8) for epoch in range(1, 9)]


def test_patience_stops_early_and_a_resume_stays_stopped(tmp_path: Path) -> None:
    config = GradientTrainConfig(epochs=50, patience=2, min_delta=0.05)
    _, history = fitted(config, Folder(tmp_path).context())
    assert len(history.rows) == history.figures["kept_epoch"] + 2 < 50
    _, again = fitted(config, Folder(tmp_path).context(resume=True))
    assert untimed(again.rows) == untimed(history.rows)


def test_without_held_out_images_the_last_epoch_is_kept_and_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="data.holdout=0"):
        _, history = fitted(GradientTrainConfig(epochs=2), Folder(tmp_path).context(), validation=False)
    assert history.figures["kept_epoch"] == 2


def test_a_damaged_checkpoint_is_one_error_and_executes_nothing(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").write_bytes(b"no checkpoint")
    with pytest.raises(RunError, match=r"Delete .*checkpoints"):
        fitted(GradientTrainConfig(epochs=2), Folder(tmp_path).context(resume=True))
    torch.save({"epoch": print}, tmp_path / "checkpoints" / "last.pt")
    with pytest.raises(RunError, match="cannot be resumed"):
        fitted(GradientTrainConfig(epochs=2), Folder(tmp_path).context(resume=True))


def test_a_loss_that_is_not_finite_names_epoch_and_batch() -> None:
    class Diverging(Noisy):
        def training_step(self, batch: Batch) -> dict[str, Tensor]:
            losses = super().training_step(batch)
            return {"loss": losses["loss"] * (math.nan if self.started[-1][0] == 2 else 1.0)}

    with pytest.raises(RunError, match="epoch 2, batch 1 of 4"):
        GradientTrainer(GradientTrainConfig(epochs=3, keep="last"), "cpu").fit(Diverging(), loader(), None)


def test_gradient_clipping_bounds_the_step() -> None:
    class Steep(Noisy):
        def configure_optimizer(self, epochs: int) -> Any:
            return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=1.0), None

        def training_step(self, batch: Batch) -> dict[str, Tensor]:
            return {"loss": super().training_step(batch)["loss"] * 1e4}

    torch.manual_seed(0)
    modeler = Steep()
    before = {name: value.detach().clone() for name, value in modeler.named_parameters()}
    config = GradientTrainConfig(epochs=1, gradient_clip=0.001, keep="last")
    GradientTrainer(config, "cpu").fit(modeler, loader(6, 6), None)
    moved = torch.cat([(value.detach() - before[name]).flatten() for name, value in modeler.named_parameters()])
    assert 0 < float(moved.norm()) <= 0.0011


def test_bfloat16_trains_and_float16_needs_a_gpu() -> None:
    torch.manual_seed(0)
    exact, rounded = Noisy(), Noisy()
    rounded.load_state_dict(exact.state_dict())
    for modeler, precision in ((exact, "32"), (rounded, "bf16-mixed")):
        config = GradientTrainConfig(epochs=1, precision=precision, keep="last")  # type: ignore[arg-type]
        GradientTrainer(config, "cpu").fit(modeler, loader(), None)
    assert all(value.dtype == torch.float32 for value in rounded.network.parameters())
    difference = max(float((a - b).detach().abs().max()) for a, b in zip(exact.parameters(), rounded.parameters(), strict=True))
    assert 0 < difference < 0.1
    with pytest.raises(ConfigError, match="16-mixed"):
        GradientTrainer(GradientTrainConfig(epochs=1, precision="16-mixed"), "cpu").fit(Noisy(), loader(), None)


def test_frozen_parts_are_in_no_checkpoint() -> None:
    names = set(trainable_state(Noisy()))
    assert names == {name for name in Noisy().state_dict() if name.startswith("network.")}


def test_each_trainer_refuses_what_it_cannot_fit() -> None:
    for trainer in (FlowTrainer, ClassificationTrainer):
        with pytest.raises(PluginError, match="Noisy is none"):
            trainer(GradientTrainConfig(), "cpu").fit(Noisy(), loader(), None)
    with pytest.raises(PluginError, match="MemoryModeler"):
        MemoryTrainer(GradientTrainConfig(), "cpu").fit(Noisy(), loader(), None)


def test_flow_reports_nll_and_bits_per_dimension() -> None:
    class Standard(Noisy, FlowModeler):
        dimensions = 3

        def training_step(self, batch: Batch) -> dict[str, Tensor]:
            z = self.network(batch.images.mean(dim=(2, 3)))
            return {"loss": 0.5 * z.square().sum(dim=1).mean()}

    history = FlowTrainer(GradientTrainConfig(epochs=1), "cpu").fit(Standard(), loader(), loader(7, 7, shuffle=False))
    (row,) = history.rows
    reference = row["val_loss"] + 1.5 * math.log(2 * math.pi)
    assert row["val_nll"] == pytest.approx(reference)
    assert row["val_bits_per_dim"] == pytest.approx(reference / (3 * math.log(2)))


def test_classification_reports_the_f1_of_synthetic_pixels() -> None:
    class Half(Noisy, ClassificationModeler):
        def synthesize(self, images: Tensor) -> tuple[Tensor, Tensor]:
            masks = torch.zeros(len(images), 1, 8, 8)
            masks[:, :, :4] = 1
            return images, masks

        def supervised_step(self, images: Tensor, augmented: Tensor, masks: Tensor) -> tuple[dict[str, Tensor], Tensor]:
            probability = torch.zeros_like(masks)
            probability[..., :2] = 0.9  # a quarter of all pixels, half of them right
            return {"loss": self.network(images.mean(dim=(2, 3))).square().mean()}, probability

        training_step = ClassificationModeler.training_step

    history = ClassificationTrainer(GradientTrainConfig(epochs=1), "cpu").fit(Half(), loader(), loader(7, 7, shuffle=False))
    (row,) = history.rows
    # precision 1/2, recall 1/4
    assert row["train_synthetic_pixel_f1"] == pytest.approx(1 / 3)
    assert row["val_synthetic_pixel_f1"] == pytest.approx(1 / 3)
    assert "train_true_positives" not in row


def test_means_weigh_by_images() -> None:
    means = Means()
    means.add({"a": torch.tensor(1.0)}, 3)
    means.add({"a": torch.tensor(5.0)}, 1)
    assert means.values() == {"a": 2.0}
