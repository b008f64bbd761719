"""The memory trainer on a small modeler of our own: one pass, in order, in parts where memory is short."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from anomaly_core import Batch, InputSpec, MemoryModeler, ModelConfig, Prediction, RunContext, Sample, collate
from anomaly_trainers import MemoryTrainConfig, MemoryTrainer


class Remembering(MemoryModeler):
    """Remembers the brightness of every image; ``fits`` images at once."""

    def __init__(self, fits: int = 100) -> None:
        super().__init__(ModelConfig())
        self.input_spec = InputSpec((4, 4))
        self.register_buffer("memory", torch.empty(0))
        self.fits = fits
        self.parts: list[Tensor] = []

    def collect(self, images: Tensor) -> None:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        if len(images) > self.fits:
            raise MemoryError(f"{len(images)} images")
        self.parts.append(images.mean(dim=(1, 2, 3)))

    def build(self) -> None:
        self.memory = torch.cat(self.parts).clone()

    def held_out_step(self, images: Tensor) -> dict[str, Tensor]:
        assert len(self.memory), "the memory is built"
        return {"brightness": images.mean()}

    def describe(self) -> dict[str, float]:
        return {"remembered": float(len(self.memory))}

    def predict_step(self, images: Tensor) -> Prediction:
        return Prediction(images.mean(dim=(1, 2, 3)))


def loader(values: list[float], batch_size: int = 4) -> DataLoader[Batch]:
    known = torch.ones(1, dtype=torch.bool)
    items = [
        Batch(torch.full((1, 3, 4, 4), value), torch.zeros(1), None, known, [Sample(Path(f"{value}.png"))]) for value in values
    ]
    return DataLoader(items, batch_size=batch_size, collate_fn=collate)  # type: ignore[arg-type]


VALUES = [i / 16 for i in range(11)]


def test_every_image_once_in_order_then_the_memory_and_what_it_says() -> None:
    modeler, logged = Remembering(), []
    run = RunContext(log=lambda figures, step: logged.append((step, figures)))
    history = MemoryTrainer(MemoryTrainConfig()).fit(modeler, loader(VALUES), loader([0.25, 0.25, 0.75], 2), run)
    assert modeler.memory.tolist() == VALUES
    figures = {"remembered": 11.0, "brightness": pytest.approx(1.25 / 3)}  # a mean over images, not over batches
    assert history.figures == figures
    assert history.rows == [{"epoch": 1.0, **figures}]
    assert logged == [(1, figures)]


def test_a_batch_that_memory_does_not_hold_comes_in_parts() -> None:
    modeler = Remembering(fits=2)
    with pytest.warns(UserWarning, match="out of memory while collecting features with 4 images"):
        MemoryTrainer(MemoryTrainConfig()).fit(modeler, loader(VALUES), None)
    assert modeler.memory.tolist() == VALUES
    assert [len(part) for part in modeler.parts] == [2, 2, 2, 2, 2, 1]


def test_its_images_come_once_alone() -> None:
    assert not MemoryTrainer.shuffles
