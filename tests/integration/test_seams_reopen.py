"""A finished memory that is extended: opened again, more images collected, built anew; and a method that cannot do that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seams import added, config, run
from torch import Tensor

from anomaly_core import (
    AnomalyError,
    BaseDataModule,
    BaseTrainer,
    InputSpec,
    MemoryModeler,
    ModelConfig,
    ModelContext,
    ModelSpec,
    Prediction,
    RunFolder,
    Sample,
    registry,
)
from anomaly_predict import RunDetector, load_run
from tiny.data import draw, write_image
from tiny.plugin import PALETTE


class Colours(MemoryModeler):
    """The distance to the nearest mean colour of a normal image."""

    bank: Tensor

    def __init__(self, config: ModelConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.input_spec = InputSpec.from_config(config)
        self.register_buffer("bank", torch.zeros(0, 3))
        self._seen: list[Tensor] = []

    def collect(self, images: Tensor) -> None:
        self._seen.append(images.mean(dim=(2, 3)))

    def build(self) -> None:
        self.bank = torch.cat(self._seen)
        self._seen = []

    def reopen(self) -> None:
        self._seen = [self.bank]

    def predict_step(self, images: Tensor) -> Prediction:
        return Prediction(torch.cdist(images.mean(dim=(2, 3)), self.bank).amin(dim=1))

    def describe(self) -> dict[str, float]:
        return {"bank_size": float(len(self.bank))}


@pytest.fixture(autouse=True)
def colours() -> Iterator[None]:
    spec = ModelSpec(target=f"{__name__}:Colours", config="anomaly_core:ModelConfig", trainer="memory", summary="colours")
    with added(colours=spec, palette=PALETTE):
        yield


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of a run on eight images, of which two are held out."""
    return run(config(tmp_path, "colours")).folder


def new_images(folder: Path) -> list[Sample]:
    """Four normal images of a product that is much brighter than those of the run."""
    bright = [np.minimum(draw(number)[0].astype(int) + 100, 255).astype(np.uint8) for number in range(900, 904)]
    return [Sample(write_image(folder / f"{number}.png", picture), 0) for number, picture in enumerate(bright)]


def extend(detector: RunDetector, samples: list[Sample], output: Path) -> Any:
    """Collect more images into the modeler of a finished run, by the trainer that fitted it; the trainer's history."""
    modeler, configured = detector.modeler, detector.config
    assert isinstance(modeler, MemoryModeler)
    data: BaseDataModule = registry.datasets["weave"].build(configured.data)
    trainer: BaseTrainer = registry.trainers[configured.train.name].build(configured.train)
    modeler.reopen()
    return trainer.fit(modeler, data.loader(samples, modeler.input_spec), None)


def test_what_was_collected_later_is_normal_too(finished: Path, tmp_path: Path) -> None:
    detector = load_run(finished, device="cpu")
    new, old = new_images(tmp_path / "new"), [row.path for row in RunFolder(finished).result().predictions]
    paths = [sample.path for sample in new]
    before, before_old = detector.predict(paths).scores, detector.predict(old).scores
    history = extend(detector, new, tmp_path)
    after, after_old = detector.predict(paths).scores, detector.predict(old).scores
    assert history.figures == {"bank_size": 10.0}
    assert bool((before > 0.3).all()) and bool((after < 1e-6).all())
    assert bool((after_old <= before_old + 1e-7).all()), "more normal images make no image more anomalous"
    assert torch.equal(after_old[after_old < 0.1], before_old[before_old < 0.1]), "what was normal is as normal as before"


def test_fitted_in_two_parts_it_is_what_it_is_fitted_at_once(finished: Path, tmp_path: Path) -> None:
    first = load_run(finished, device="cpu")
    new = new_images(tmp_path / "new")
    extend(first, new[:2], tmp_path)
    extend(first, new[2:], tmp_path)
    second = load_run(finished, device="cpu")
    extend(second, new, tmp_path)
    assert torch.equal(first.modeler.state_dict()["bank"], second.modeler.state_dict()["bank"])


def test_the_extended_memory_is_saved_and_loaded_as_any(finished: Path, tmp_path: Path) -> None:
    detector, samples = load_run(finished, device="cpu"), new_images(tmp_path / "new")
    extend(detector, samples, tmp_path)
    RunFolder(finished).write_state(detector.modeler.state_dict())
    again = load_run(finished, device="cpu").predict([sample.path for sample in samples])
    assert bool((again.scores < 1e-6).all())


def test_a_method_that_cannot_says_so_and_what_to_do(tmp_path: Path) -> None:
    detector = load_run(run(config(tmp_path, "palette", **{"train.name": "memory"})).folder, device="cpu")
    before = {name: value.clone() for name, value in detector.modeler.state_dict().items()}
    with pytest.raises(AnomalyError, match=r"Palette cannot extend a finished memory\. Fit it anew on all normal images\."):
        extend(detector, new_images(tmp_path / "new"), tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in detector.modeler.state_dict().items())
