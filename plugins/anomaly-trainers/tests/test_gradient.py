"""The gradient trainer on small modelers of our own: what it keeps, repeats, refuses and says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from anomaly_core import (
    Batch,
    ConfigError,
    GradientModeler,
    InputSpec,
    MemoryModeler,
    ModelConfig,
    PluginError,
    Prediction,
    RunContext,
    RunError,
    Sample,
    collate,
)
from anomaly_trainers import GradientTrainConfig, GradientTrainer, MemoryTrainConfig, MemoryTrainer
from anomaly_trainers.checkpoint import BEST, LAST
from anomaly_trainers.means import Means


class Noisy(GradientModeler):
    """Learns the mean colour, with noise, batch statistics, dropout and a schedule: all that a resume must restore."""

    def __init__(self) -> None:
        super().__init__(ModelConfig())
        self.input_spec = InputSpec((8, 8))
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3))
        self.network[1].requires_grad_(False)  # its running statistics move all the same
        self.started: list[tuple[int, int]] = []

    def trained_state(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.state_dict().items() if not name.startswith("frozen.")}

    def start_epoch(self, epoch: int, epochs: int) -> None:
        self.started.append((epoch, epochs))

    def configure_optimizer(self, epochs: int) -> Any:
        optimizer = torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=0.01)
        return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4], gamma=0.5)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        colours = batch.images.mean(dim=(2, 3))
        made = self.network(self.frozen(colours + 0.1 * torch.randn_like(colours)))
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
    with pytest.warns(UserWarning, match="data.holdout above 0, or say so with train.keep=last"):
        _, history = fitted(GradientTrainConfig(epochs=2), Folder(tmp_path).context(), validation=False)
    assert history.figures["kept_epoch"] == 2


class Stepwise(Noisy):
    """Its schedule steps after each update; it notes the rates that the updates used."""

    schedule_interval = "step"

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int]] = []
        self.rates: list[float] = []

    def configure_optimizer(self, epochs: int) -> Any:
        self.asked.append((epochs, self.steps))
        self.optimizer = torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)
        return self.optimizer, torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, 0.0, total_iters=self.steps)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return super().training_step(batch)


@pytest.mark.parametrize(("epochs", "steps", "made"), [(9, 10, 10), (2, 10, 8), (9, 3, 3), (2, None, 8)])
def test_a_training_ends_after_so_many_steps(epochs: int, steps: int | None, made: int) -> None:
    modeler = Stepwise()
    config = GradientTrainConfig(epochs=epochs, steps=steps)
    history = GradientTrainer(config, "cpu").fit(modeler, loader(), loader(7, 4, shuffle=False))  # 4 batches an epoch
    rates = [rate for rate in modeler.rates if rate > 0]  # held-out images are scored by training_step, too
    assert modeler.asked == [(math.ceil(made / 4), made)]
    assert len(history.rows) == math.ceil(made / 4)
    assert sorted(set(rates), reverse=True) == pytest.approx([0.1 * (1 - done / made) for done in range(made)])


def test_a_stopped_training_by_steps_resumes_to_the_same_weights(tmp_path: Path) -> None:
    def fit(run: RunContext) -> Stepwise:
        torch.manual_seed(1)
        GradientTrainer(GradientTrainConfig(epochs=9, steps=10, keep="last"), "cpu").fit(
            modeler := Stepwise(), loader(), None, run
        )
        return modeler

    with pytest.raises(KeyboardInterrupt):
        fit(Folder(tmp_path / "parts", stop_after=2).context())
    whole, resumed = fit(Folder(tmp_path / "whole").context()), fit(Folder(tmp_path / "parts").context(resume=True))
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


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


def test_bfloat16_trains_and_float16_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomaly_trainers.processes.has_bfloat16", lambda: True)
    torch.manual_seed(0)
    exact, rounded = Noisy(), Noisy()
    rounded.load_state_dict(exact.state_dict())
    for modeler, precision in ((exact, "32"), (rounded, "bf16-mixed")):
        config = GradientTrainConfig(epochs=1, precision=precision, keep="last")  # type: ignore[arg-type]
        GradientTrainer(config, "cpu").fit(modeler, loader(), None)
    assert all(value.dtype == torch.float32 for value in rounded.network.parameters())
    difference = max(float((a - b).detach().abs().max()) for a, b in zip(exact.parameters(), rounded.parameters(), strict=True))
    assert 0 < difference < 0.1
    with pytest.raises(ConfigError, match="16-mixed needs a GPU"):
        GradientTrainer(GradientTrainConfig(epochs=1, precision="16-mixed"), "cpu")


def test_a_processor_without_bfloat16_is_not_kept_busy_for_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomaly_trainers.processes.has_bfloat16", lambda: False)
    config = GradientTrainConfig(precision="bf16-mixed")
    with pytest.raises(ConfigError, match=r"this processor has no bfloat16.* Use train.precision=32"):
        GradientTrainer(config, "cpu")
    GradientTrainer(config, "meta")  # other devices tell for themselves
    GradientTrainer(GradientTrainConfig(), "cpu")


def test_a_checkpoint_holds_the_trained_state_alone(tmp_path: Path) -> None:
    modeler, _ = fitted(GradientTrainConfig(epochs=2), Folder(tmp_path).context())
    last = torch.load(tmp_path / LAST, weights_only=True)["modeler"]
    names = {name for name in modeler.state_dict() if name.startswith("network.")}
    assert set(last) == set(load_file(tmp_path / BEST)) == names


def test_each_trainer_refuses_what_it_cannot_fit() -> None:
    class Remembering(MemoryModeler):
        def collect(self, images: Tensor) -> None: ...

        def build(self) -> None: ...

        def predict_step(self, images: Tensor) -> Prediction:
            return Prediction(images.mean(dim=(1, 2, 3)))

    with pytest.raises(PluginError, match="Remembering is none"):
        GradientTrainer(GradientTrainConfig(), "cpu").fit(Remembering(ModelConfig()), loader(), None)
    with pytest.raises(PluginError, match="MemoryModeler"):
        MemoryTrainer(MemoryTrainConfig(), "cpu").fit(Noisy(), loader(), None)


def test_what_the_modeler_says_of_an_epoch_is_logged() -> None:
    """A figure that is no mean over batches, made of means that are not logged themselves."""

    class Counting(Noisy):
        def training_step(self, batch: Batch) -> dict[str, Tensor]:
            hits = torch.tensor(0.25 if self.training else 0.5)
            return {**super().training_step(batch), "hits": hits, "misses": hits * 3}

        def summarize(self, means: dict[str, float]) -> dict[str, float]:
            hits, misses = means.pop("hits"), means.pop("misses")
            return {**means, "hit_rate": hits / (hits + misses), "hits_seen": hits}

    history = GradientTrainer(GradientTrainConfig(epochs=1), "cpu").fit(Counting(), loader(), loader(7, 7, shuffle=False))
    (row,) = history.rows
    assert (row["train_hit_rate"], row["val_hit_rate"]) == (0.25, 0.25)
    assert (row["train_hits_seen"], row["val_hits_seen"]) == (0.25, 0.5)
    assert not {"train_hits", "val_misses"} & set(row)
    assert history.figures["val_hit_rate"] == 0.25


def test_means_weigh_by_images() -> None:
    means = Means()
    means.add({"a": torch.tensor(1.0)}, 3)
    means.add({"a": torch.tensor(5.0)}, 1)
    assert means.values() == {"a": 2.0}


def test_patience_without_held_out_images_is_said_to_do_nothing() -> None:
    config = GradientTrainConfig(epochs=1, keep="last", patience=3)
    with pytest.warns(UserWarning, match=r"train.patience=3 stops nothing"):
        GradientTrainer(config, "cpu").fit(Noisy(), loader(), None)
