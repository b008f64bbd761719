"""The passes before and after training: once, without gradients, kept by checkpoints, with the state that is kept."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from anomaly_core import Batch, GradientModeler, InputSpec, ModelConfig, Prediction, RunContext, Sample, collate
from anomaly_trainers import GradientTrainConfig, GradientTrainer


class Normalising(GradientModeler):
    """Finds the mean colour first, learns to say it, and scales its scores by the held-out images at last."""

    def __init__(self) -> None:
        super().__init__(ModelConfig())
        self.input_spec = InputSpec((8, 8))
        self.network = nn.Linear(3, 3)
        self.register_buffer("mean", torch.empty(0))  # takes its shape from the images
        self.register_buffer("scale", torch.ones(()))
        self.passes: list[str] = []

    def _look(self, name: str) -> None:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.passes.append(name)

    def before_training(self, batches: Iterable[Batch]) -> None:
        self._look("before")
        total, count = torch.zeros(3), 0
        for batch in batches:
            total, count = total + batch.images.mean(dim=(2, 3)).sum(dim=0), count + len(batch)
        deviation = sum(float((batch.images.mean(dim=(2, 3)) - total / count).abs().sum()) for batch in batches)
        assert deviation > 0, "a second pass sees the images again"
        self.mean = total / count + 0.01 * torch.randn(3)  # drawn, and the same in every run

    def after_training(self, held_out: Iterable[Batch]) -> None:
        self._look("after")
        scores = [self.predict_step(batch.images).scores for batch in held_out]
        self.scale = torch.cat(scores).max() if scores else self.scale

    def configure_optimizer(self, epochs: int) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1), None

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        colours = batch.images.mean(dim=(2, 3)) - self.mean
        return {"loss": (self.network(colours) - colours).square().mean()}

    def predict_step(self, images: Tensor) -> Prediction:
        return Prediction(self.network(images.mean(dim=(2, 3)) - self.mean).norm(dim=1) / self.scale)

    def describe(self) -> dict[str, float]:
        return {"scale": float(self.scale)}


def loader(count: int = 12, shuffle: bool = True) -> DataLoader[Batch]:
    images = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(count))
    none, known = None, torch.ones(1, dtype=torch.bool)
    items = [Batch(images[i : i + 1], torch.zeros(1), none, known, [Sample(Path(f"{i}.png"))]) for i in range(count)]
    generator = torch.Generator().manual_seed(0)
    return DataLoader(items, batch_size=4, shuffle=shuffle, collate_fn=collate, generator=generator)  # type: ignore[arg-type]


def fitted(folder: Path, *, resume: bool = False, stop_after: int = 0, epochs: int = 4, held_out: bool = True) -> Normalising:
    def write(name: str, content: bytes) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    def log(row: dict[str, float], epoch: int) -> None:
        if epoch == stop_after:
            raise KeyboardInterrupt

    torch.manual_seed(1)
    modeler = Normalising()
    trainer = GradientTrainer(GradientTrainConfig(epochs=epochs, keep="best" if held_out else "last"), "cpu")
    run = RunContext(3, folder, write, resume, log)
    modeler.history = trainer.fit(modeler, loader(), loader(5, shuffle=False) if held_out else None, run)  # type: ignore[assignment]
    return modeler


def test_each_pass_happens_once_and_both_find_state(tmp_path: Path) -> None:
    modeler = fitted(tmp_path)
    assert modeler.passes == ["before", "after"]
    expected = torch.cat([batch.images for batch in loader()]).mean(dim=(0, 2, 3))
    assert torch.allclose(modeler.mean, expected, atol=0.05)
    assert not torch.equal(modeler.mean, expected)
    scores = torch.cat([modeler.predict_step(batch.images).scores for batch in loader(5, shuffle=False)])
    assert float(scores.detach().max()) == pytest.approx(1), "the state that is kept was looked at, and nothing moved since"
    assert modeler.history.figures["scale"] == float(modeler.scale)  # type: ignore[union-attr]


def test_a_resumed_training_finds_the_first_pass_in_its_checkpoint(tmp_path: Path) -> None:
    whole = fitted(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "parts", stop_after=2)
    resumed = fitted(tmp_path / "parts", resume=True)
    assert resumed.passes == ["after"]
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_a_training_that_ended_before_its_last_pass_catches_up(tmp_path: Path) -> None:
    whole = fitted(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "parts", stop_after=4)
    resumed = fitted(tmp_path / "parts", resume=True)
    assert torch.equal(resumed.scale, whole.scale)


def test_stopped_before_the_first_checkpoint_all_is_done_again(tmp_path: Path) -> None:
    assert fitted(tmp_path, resume=True).passes == ["before", "after"]


def test_without_held_out_images_the_last_pass_sees_none(tmp_path: Path) -> None:
    modeler = fitted(tmp_path, held_out=False)
    assert modeler.passes == ["before", "after"]
    assert float(modeler.scale) == 1
