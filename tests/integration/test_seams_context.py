"""A method that is told in words what it looks at: category names and prompt, when it is fitted and when it is used again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from seams import NOBODY, added, config, run, scores
from torch import Tensor

from anomaly_core import (
    ConfigError,
    Hooks,
    InputSpec,
    MemoryModeler,
    ModelConfig,
    ModelContext,
    ModelSpec,
    Prediction,
    RunConfig,
)
from anomaly_predict import evaluate, load_run, open_detector

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "linen": (0.45, 0.375, 0.275)}


class Named(MemoryModeler):
    """The distance to the colours that the prompt names, or else the categories; nothing of it is in the saved state."""

    fewest_images = 0

    def __init__(self, config: ModelConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.input_spec = InputSpec.from_config(config)
        words = self.context.prompt.split() or self.context.categories
        colours = [COLOURS[word] for word in words if word in COLOURS] or [(0.0, 0.0, 0.0)]
        self.colours = torch.tensor(colours)

    def collect(self, images: Tensor) -> None:
        assert self.context.pretrained
        return

    def build(self) -> None:
        return

    def predict_step(self, images: Tensor) -> Prediction:
        distances = (images[:, None] - self.colours.view(1, -1, 3, 1, 1).to(images)).square().sum(dim=2)
        maps = distances.amin(dim=1, keepdim=True)  # (B, N, H, W) -> (B, 1, H, W): to the nearest colour
        return Prediction(maps.mean(dim=(1, 2, 3)), maps)

    def describe(self) -> dict[str, float]:
        return {"colours": float(len(self.colours)), "categories": float(len(self.context.categories))}


@pytest.fixture(autouse=True)
def named() -> Iterator[None]:
    spec = ModelSpec(target=f"{__name__}:Named", config="anomaly_core:ModelConfig", trainer="memory", summary="names colours")
    with added(named=spec):
        yield


def of(output: Path, **options: Any) -> RunConfig:
    return config(output, "named", **options)


def paths_of(result: Any) -> list[str]:
    return [row.path for row in result.predictions]


def test_the_categories_are_known_when_it_is_fitted_and_again_when_it_is_loaded(tmp_path: Path) -> None:
    result = run(of(tmp_path))
    assert result.metrics["image_auroc"] == 1
    assert result.runs[0].figures == {"colours": 1, "categories": 1}
    detector = load_run(result.folder, device="cpu")
    assert detector.modeler.context == ModelContext(pretrained=False, categories=("linen",), prompt="")
    assert detector.predict(paths_of(result)).scores.tolist() == pytest.approx(scores(result))


def test_a_prompt_goes_into_the_config_and_comes_back(tmp_path: Path) -> None:
    plain, prompted = run(of(tmp_path)), run(of(tmp_path, **{"data.prompt": "a red or a green cloth"}))
    assert scores(prompted) != scores(plain)
    assert prompted.runs[0].figures["colours"] == 2
    assert RunConfig.create(config=prompted.folder / "config.yaml").data.prompt == "a red or a green cloth"
    detector = load_run(prompted.folder, device="cpu")
    assert detector.modeler.context == ModelContext(False, ("linen",), "a red or a green cloth")
    assert detector.predict(paths_of(prompted)).scores.tolist() == pytest.approx(scores(prompted))
    opened = open_detector(prompted.folder, device="cpu")
    images = [opened.decode(path) for path in paths_of(prompted)]
    assert [prediction.score for prediction in opened.score(images)] == pytest.approx(scores(prompted))


def test_a_unified_run_knows_all_its_categories(tmp_path: Path) -> None:
    result = run(of(tmp_path, **{"data.category": None, "data.unified": True}))
    assert result.runs[0].figures["categories"] == 2
    assert load_run(result.folder).modeler.context.categories == ("linen", "wool")


def test_an_evaluation_keeps_what_the_run_was_fitted_with(tmp_path: Path) -> None:
    result = run(of(tmp_path, **{"data.prompt": "a red cloth"}))
    with pytest.raises(ConfigError, match=r"data.prompt=a green cloth would be ignored: the run is fitted"):
        evaluate(result.folder, overrides={"data.prompt": "a green cloth"}, device="cpu", hooks=Hooks(NOBODY))
    again = evaluate(result.folder, device="cpu", hooks=Hooks(NOBODY))
    assert [row.score for row in again.predictions] == pytest.approx(scores(result))
