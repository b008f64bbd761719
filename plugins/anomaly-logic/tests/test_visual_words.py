"""Visual words as a whole: what it finds that patches do not, and as a modeler on small images."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.resources import files
from threading import Barrier
from typing import Any

import pytest
import torch
import yaml
from sklearn.metrics import roc_auc_score
from torch import Tensor

from anomaly_core import ConfigError, DataError, ModelContext, RunError, registry, validate
from anomaly_features import FeatureExtractor
from anomaly_logic.visual_words.config import VisualWordsConfig
from anomaly_logic.visual_words.model import VisualWordsModel
from anomaly_logic.visual_words.modeler import VisualWordsModeler

Draw = Callable[[torch.Generator, tuple[int, ...]], Tensor]
SMALL = VisualWordsConfig(backbone="resnet18.tv_in1k", layers=("layer1", "layer2"), image_size=(64, 96), words=6, sigma=2.0)


def model_of(layers: list[Tensor], softness: float = 1.0, regions: tuple[int, ...] = (1,)) -> VisualWordsModel:
    model = VisualWordsModel([3] * len(layers), words=4, softness=softness, regions=regions, variance=0.3, top=0.01, sigma=0)
    model.fit(layers)
    return model


def test_counts_and_combinations_are_told_apart_and_patches_are_not(layers: list[Tensor], draw: Draw) -> None:
    model, generator = model_of(layers[:1]), torch.Generator().manual_seed(1)
    whole = [torch.stack([draw(generator, (0, 0, 1, 1, 2, 2)) for _ in range(10)])]
    usual, _ = model(whole, (48, 48))
    for kinds in ((0, 0, 1, 1, 2), (0, 0, 0, 1, 1, 2, 2), (0, 0, 0, 1, 2, 2)):  # missing, extra, one for another
        wrong = [torch.stack([draw(generator, kinds) for _ in range(10)])]
        scores, maps = model(wrong, (48, 48))
        assert roc_auc_score([0] * 10 + [1] * 10, torch.cat([usual, scores])) > 0.9, kinds
        assert maps.shape == (10, 1, 48, 48)
        structural = model.measured(wrong, without=False)[0][:, -1]
        assert bool((structural < 1.2 * model.measured(whole, without=False)[0][:, -1].max()).all())


def test_what_no_normal_image_shows_is_found_where_it_is(layers: list[Tensor], draw: Draw) -> None:
    odd = draw(torch.Generator().manual_seed(1), (0, 0, 1, 1, 2, 2))
    odd[:, 4, 7] = torch.tensor([9.0, -9.0, 9.0])
    model = model_of(layers[:1])
    measures, residuals, _ = model.measured([odd[None]], without=False)
    assert float(measures[0, -1]) > 1.5 * float(model.measured(layers[:1], without=True)[0][:, -1].max())
    assert int(residuals.argmax()) == 4 * 12 + 7
    assert float(model([odd[None]], (12, 12))[0]) > 1.5 * float(model.scored(layers[:1], (12, 12), without=True)[0].max())


def test_measures_of_normal_images_are_standardised(layers: list[Tensor]) -> None:
    model = model_of(layers, softness=4.0, regions=(1, 2))
    measures, residuals, parts = model.measured(layers, without=True)
    standardised = (measures - model.offsets) / model.spreads
    torch.testing.assert_close(standardised.mean(dim=0), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(standardised.std(dim=0), torch.ones(5), atol=1e-4, rtol=0)
    for part in parts:
        torch.testing.assert_close(part.sum(dim=(1, 2)), torch.ones(40), atol=1e-3, rtol=0)
    scores, _, evidence = model.combined(measures, residuals, parts)
    structural = torch.nn.functional.softplus(standardised[:, -1])
    torch.testing.assert_close(
        evidence.sum(dim=(1, 2)) + structural**2, scores**2, rtol=1e-3, atol=0
    )  # the map holds all of the score


def test_more_regions_than_cells() -> None:
    with pytest.raises(ConfigError, match=r"model\.regions=3.*2 x 2 cells"):
        VisualWordsModel([4]).fit([torch.randn(5, 4, 2, 2)])


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(8, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def fitted(images: Tensor, config: VisualWordsConfig = SMALL, batch: int = 3) -> VisualWordsModeler:
    torch.manual_seed(0)
    modeler = VisualWordsModeler(config).eval()
    with torch.inference_mode():
        for part in images.split(batch):
            modeler.collect(part)
        modeler.build()
    return modeler


@torch.inference_mode()
def test_modeler(images: Tensor) -> None:
    modeler = fitted(images)
    assert modeler.describe()["words"] == 12
    assert modeler.describe()["measures"] == 5
    assert modeler.describe()["fitted_images"] == 8
    assert [tuple(layer.shape) for layer in modeler.embed(images)] == [(8, 64, 8, 12), (8, 128, 8, 12)]  # cells of 8 pixels
    normal = modeler.predict_step(images)
    odd = images.clone()
    odd[:, :, 20:40, 30:60] = 1.0
    anomalous = modeler.predict_step(odd)
    single = torch.cat([modeler.predict_step(image[None]).scores for image in odd])
    assert normal.maps is not None
    assert normal.maps.shape == (8, 1, 64, 96)
    assert bool((anomalous.scores > normal.scores.max()).all())
    torch.testing.assert_close(single, anomalous.scores, rtol=1e-3, atol=0)
    without = modeler.predict_without(images, [torch.tensor([i]) for i in range(8)])
    assert bool((without.scores > normal.scores).all())


@torch.inference_mode()
def test_a_saved_state_scores_the_same_and_batches_do_not_matter(images: Tensor) -> None:
    modeler = fitted(images)
    loaded = VisualWordsModeler(SMALL).eval()
    loaded.load_state({key: value.clone() for key, value in modeler.state_dict().items()})
    assert torch.equal(loaded.predict_step(images).scores, modeler.predict_step(images).scores)
    assert loaded.describe() == modeler.describe()
    numbers = [torch.tensor([i]) for i in range(8)]
    assert torch.equal(loaded.predict_without(images, numbers).scores, modeler.predict_without(images, numbers).scores)
    one_by_one = fitted(images, batch=1).predict_step(images).scores
    torch.testing.assert_close(one_by_one, modeler.predict_step(images).scores, rtol=1e-2, atol=1e-2)


class Together:
    """Accelerate's gather among threads that stand for processes."""

    def __init__(self, processes: int) -> None:
        self.num_processes = processes
        self._barrier = Barrier(processes, timeout=20)
        self._parts: dict[int, Tensor] = {}

    def of(self, rank: int) -> Any:
        return Process(self, rank)

    def share(self, rank: int, tensor: Tensor) -> list[Tensor]:
        self._parts[rank] = tensor
        self._barrier.wait()
        parts = [self._parts[each] for each in range(self.num_processes)]
        self._barrier.wait()
        return parts

    def run(self, process: Callable[[int], Any]) -> list[Any]:
        with ThreadPoolExecutor(self.num_processes) as pool:
            return list(pool.map(process, range(self.num_processes)))


class Process:
    """One of them."""

    def __init__(self, together: Together, rank: int) -> None:
        self.num_processes, self._together, self._rank = together.num_processes, together, rank

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat(self._together.share(self._rank, tensor))

    def pad_across_processes(self, tensor: Tensor) -> Tensor:
        most = max(len(part) for part in self._together.share(self._rank, tensor))
        return torch.cat([tensor, tensor.new_zeros(most - len(tensor), *tensor.shape[1:])])


def test_processes_merge_to_the_fit_of_one(images: Tensor) -> None:
    together = Together(3)
    modelers = []
    for _ in range(3):
        torch.manual_seed(0)  # of the network's weights
        modelers.append(VisualWordsModeler(SMALL).eval())

    def process(rank: int) -> Tensor:
        with torch.inference_mode():
            for part in [images[:2], images[2:], images[:0]][rank].split(4):
                if len(part):
                    modelers[rank].collect(part)
            modelers[rank].merge(together.of(rank))
            modelers[rank].build()
            return modelers[rank].predict_step(images).scores

    with torch.inference_mode():
        expected = fitted(images, batch=8).predict_step(images).scores
    for modeler, scores in zip(modelers, together.run(process), strict=True):
        assert modeler.describe()["fitted_images"] == 8
        torch.testing.assert_close(scores, expected, rtol=1e-2, atol=1e-2)


@torch.inference_mode()
def test_errors(images: Tensor) -> None:
    modeler = VisualWordsModeler(SMALL).eval()
    with pytest.raises(DataError, match="no training image"):
        modeler.build()
    with pytest.raises(RunError, match="Fit it first"):
        modeler.predict_step(images)
    with pytest.raises(DataError, match=r"4 training images or more.*saw 3"):
        fitted(images[:3])
    with pytest.raises(RunError, match=r"8 x 12 cells.*8 x 8"):
        fitted(images).predict_step(images[..., :64])
    broken = images.clone()
    broken[2, 0, 5, 5] = torch.nan
    with pytest.raises(DataError, match="1 of 8 images"):
        modeler.collect(broken)
    with pytest.raises(ConfigError, match=r"not 2 at once \(nut, wood\).*--unified"):
        VisualWordsModeler(SMALL, ModelContext(pretrained=False, categories=("nut", "wood")))
    assert VisualWordsModeler(replace(SMALL, regions=(2,)), ModelContext(pretrained=False, categories=("nut",)))


@pytest.mark.parametrize("preset", ["paper", "edge"])
def test_presets_are_valid(preset: str) -> None:
    component = registry.models["visual_words"]
    package, _, folder = component.spec.presets.partition(":")
    sections = yaml.safe_load((files(package) / folder / f"{preset}.yaml").read_text("utf-8"))
    config = validate(component.config_class(), sections["model"], "model")
    assert isinstance(config, VisualWordsConfig)
    with torch.device("meta"):
        channels = FeatureExtractor(config.backbone, config.layers).channels
    assert sum(channels) == (1792 if preset == "paper" else 176)
    if preset == "edge":
        assert config == VisualWordsConfig(resize="stretch")


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning", "ignore::torch.jit.TracerWarning")
def test_a_traced_graph_takes_any_number_of_images(layers: list[Tensor]) -> None:
    model = model_of(layers, softness=4.0, regions=(1, 2))

    class Graph(torch.nn.Module):
        def forward(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return model.combined(*model.measured([fine, coarse], without=False))

    with torch.no_grad():
        traced = torch.jit.trace(Graph(), tuple(layer[:2].clone() for layer in layers), check_trace=False)
        for part in (slice(1), slice(2, 9)):
            images = [layer[part] for layer in layers]
            torch.testing.assert_close(traced(*images), Graph()(*images), rtol=1e-4, atol=1e-4)
