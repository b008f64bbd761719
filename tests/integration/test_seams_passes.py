"""A gradient method with a pass before training (statistics) and one after (quantiles that scale its maps), in whole runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import Field
from seams import added, config, interrupted, run, scores
from torch import Tensor, nn

from anomaly_core import (
    BaseDataModule,
    Batch,
    GradientModeler,
    InputSpec,
    ModelConfig,
    ModelContext,
    ModelSpec,
    Prediction,
    Sample,
    registry,
)
from anomaly_predict import load_run


@dataclass(kw_only=True)
class ScaledConfig(ModelConfig):
    """Its options."""

    quantiles: Annotated[tuple[float, float], Field(description="of held-out maps that become 0 and 0.1")] = (0.9, 0.995)


class Scaled(GradientModeler):
    """Predicts each pixel from its neighbours, where channels have mean 0 and spread 1; scales its maps as EfficientAD does.

    Attributes:
        calls: of the passes, by all modelers of a test.
    """

    config: ScaledConfig
    mean: Tensor
    std: Tensor
    scale: Tensor
    calls: ClassVar[list[str]] = []

    def __init__(self, config: ScaledConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.input_spec = InputSpec.from_config(config)
        self.network = nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")
        self.register_buffer("mean", torch.empty(0))  # takes its shape when the images are seen, or a state is loaded
        self.register_buffer("std", torch.empty(0))
        self.register_buffer("scale", torch.tensor([0.0, 1.0]))

    def before_training(self, batches: Iterable[Batch]) -> None:
        self.calls.append("before")
        pixels = torch.cat([batch.images.transpose(0, 1).flatten(1) for batch in batches], dim=1)  # (3, B * H * W)
        self.mean, self.std = pixels.mean(dim=1).view(3, 1, 1), pixels.std(dim=1).view(3, 1, 1)

    def error(self, images: Tensor) -> Tensor:
        normalised = (images - self.mean) / self.std
        return (self.network(normalised) - normalised).square().mean(dim=1, keepdim=True)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        error = self.error(batch.images + 0.05 * torch.randn_like(batch.images))
        return {"loss": error.mean(), "large": (error > 1).float().mean()}

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        return {"loss": means["loss"], "rms": means["loss"] ** 0.5, "percent_large": 100 * means["large"]}

    def configure_optimizer(self, epochs: int) -> Any:
        return torch.optim.Adam(self.network.parameters(), lr=0.02), None

    def after_training(self, held_out: Iterable[Batch]) -> None:
        self.calls.append("after")
        errors = torch.cat([self.error(batch.images).flatten() for batch in held_out])
        self.scale = errors.quantile(torch.tensor(self.config.quantiles))

    def predict_step(self, images: Tensor) -> Prediction:
        low, high = self.scale
        maps = 0.1 * (self.error(images) - low) / (high - low)
        return Prediction(maps.amax(dim=(1, 2, 3)), maps)

    def describe(self) -> dict[str, float]:
        return {"map_low": float(self.scale[0]), "map_high": float(self.scale[1])}


SPEC = ModelSpec(
    target=f"{__name__}:Scaled", config=f"{__name__}:ScaledConfig", trainer="gradient", summary="scales its maps at last"
)


@pytest.fixture(autouse=True)
def scaled() -> Iterator[None]:
    Scaled.calls.clear()
    with added(scaled=SPEC):
        yield


def of(output: Path, **options: Any) -> Any:
    return config(output, "scaled", **{"train.epochs": 4, "data.num_workers": 0, **options})


def parts(configured: Any) -> tuple[list[Sample], list[Sample]]:
    """The images that the run fits on, and those that it holds out."""
    data: BaseDataModule = registry.datasets["weave"].build(configured.data, seed=configured.base.seed)
    data.categories()
    return data.split("linen")


def pixels(samples: list[Sample]) -> np.ndarray:
    """float64 (N, H, W, 3) in [0, 1], without torch."""
    return np.stack([np.asarray(Image.open(sample.path).convert("RGB"), dtype=np.float64) / 255 for sample in samples])


def test_both_passes_see_their_images_and_their_findings_are_saved(tmp_path: Path) -> None:
    result = run(of(tmp_path)).runs[0]
    assert Scaled.calls == ["before", "after"]
    fit, held_out = parts(of(tmp_path))
    modeler = load_run(result.folder).modeler
    np.testing.assert_allclose(modeler.mean.flatten(), pixels(fit).mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(modeler.std.flatten(), pixels(fit).std(axis=(0, 1, 2), ddof=1), rtol=1e-4)
    maps = load_run(result.folder).predict([sample.path for sample in held_out]).maps
    assert maps is not None
    np.testing.assert_allclose(np.quantile(maps.numpy(), [0.9, 0.995]), [0, 0.1], atol=1e-5)
    assert result.figures["map_low"] == float(modeler.scale[0])
    assert result.figures["map_high"] == float(modeler.scale[1])


def test_the_figures_of_an_epoch_are_those_of_summarize(tmp_path: Path) -> None:
    result = run(of(tmp_path)).runs[0]
    header, *rows = (result.folder / "history.csv").read_text().splitlines()
    columns = header.split(",")
    assert {"train_rms", "train_percent_large", "val_rms", "val_percent_large"} <= set(columns)
    assert not {"train_large", "val_large"} & set(columns)
    for row in rows:
        values = dict(zip(columns, map(float, row.split(",")), strict=True))
        assert values["val_rms"] ** 2 == pytest.approx(values["val_loss"])


@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_resumed_run_repeats_no_pass_and_ends_the_same(tmp_path: Path, after: int) -> None:
    """After epoch 4, the last, training is complete and what comes after it is not."""
    whole = run(of(tmp_path / "whole"))
    Scaled.calls.clear()
    configured = of(tmp_path / "parts", **{"data.root": str(tmp_path / "whole" / "weave")})
    folder = interrupted(configured, after).folder
    assert Scaled.calls == ["before"]
    resumed = run(configured, resume=True)
    assert Scaled.calls == ["before", "after"]
    assert resumed.folder == folder
    assert scores(resumed) == scores(whole)
    assert (folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()
    assert resumed.runs[0].figures == whole.runs[0].figures
