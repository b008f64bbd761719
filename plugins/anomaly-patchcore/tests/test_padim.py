"""PaDiM against the original's steps, its moments against numpy's, and as a modeler on small images."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from anomaly_core import ConfigError, DataError, RunError, registry, validate
from anomaly_features import FeatureExtractor
from anomaly_patchcore.padim.config import PaDiMConfig
from anomaly_patchcore.padim.model import PaDiMModel, locations
from anomaly_patchcore.padim.modeler import PaDiMModeler
from anomaly_patchcore.padim.moments import Moments

# Six images are far fewer than any test's features; one test below looks for the word about it.
pytestmark = pytest.mark.filterwarnings("ignore:PaDiM saw")

SMALL = PaDiMConfig(
    backbone="resnet18.tv_in1k",
    layers=("layer1", "layer2"),
    image_size=(64, 96),
    center_crop=None,
    n_features=24,
    sigma=2.0,
)


@pytest.fixture(scope="module")
def padim() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "golden" / "padim.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


def features(golden: dict[str, Tensor], part: str) -> list[Tensor]:
    return [golden[f"{part}_layer{number}"] for number in (1, 2, 3)]


def golden_model(golden: dict[str, Tensor], batch: int = 7) -> PaDiMModel:
    layers = features(golden, "train")
    model = PaDiMModel([layer.shape[1] for layer in layers], len(golden["selected_dims"]))
    model.selected = golden["selected_dims"]
    vectors = locations(model.embed(layers))
    moments = Moments(len(vectors), vectors.shape[2])
    for part in vectors.split(batch, dim=1):
        moments.add(part)
    model.build(moments, (16, 16))
    return model


@pytest.mark.parametrize("batch", [1, 7, 30])
def test_golden(padim: dict[str, Tensor], batch: int) -> None:
    model = golden_model(padim, batch)
    test = features(padim, "test")
    embedding = model.embed(test)
    assert torch.equal(embedding, padim["test_embedding"])
    torch.testing.assert_close(model.distances(embedding).double(), padim["mahalanobis"], rtol=1e-5, atol=0)
    size = int(padim["input_size"])
    scores, maps = model(test, (size, size))
    torch.testing.assert_close(scores.double(), padim["image_scores"], rtol=1e-5, atol=0)
    torch.testing.assert_close(maps[:, 0].double(), padim["anomaly_maps"], rtol=1e-5, atol=0)


def test_the_finest_layer_sets_the_grid_in_any_order(padim: dict[str, Tensor]) -> None:
    fine, coarse = padim["test_layer1"], padim["test_layer3"]
    embedding = PaDiMModel([10, 6]).embed([coarse, fine])
    assert embedding.shape == (3, 16, 16, 16)
    assert torch.equal(embedding[:, :10], coarse.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3))
    assert torch.equal(embedding[:, 10:], fine)


def random_vectors(count: int = 23, offset: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, count, 8, generator=generator) * torch.rand(5, 1, 8, generator=generator) + offset


def assert_moments(moments: Moments, vectors: Tensor, rtol: float = 1e-4) -> None:
    assert moments.count == vectors.shape[1]
    exact = vectors.double().numpy()
    np.testing.assert_allclose(moments.mean().numpy(), exact.mean(axis=1), rtol=1e-5, atol=1e-6)
    expected = np.stack([np.cov(rows, rowvar=False) for rows in exact])
    np.testing.assert_allclose(moments.scatter().numpy() / (moments.count - 1), expected, rtol=rtol, atol=rtol * expected.max())


@pytest.mark.parametrize("offset", [0.0, 1000.0], ids=["centred", "far from zero"])
@pytest.mark.parametrize("batch", [1, 4, 23])
def test_moments_are_numpys(batch: int, offset: float) -> None:
    vectors = random_vectors(offset=offset)
    moments = Moments(5, 8)
    for part in vectors.split(batch, dim=1):
        moments.add(part)
    assert_moments(moments, vectors)


class Together:
    """Accelerate's reduce among threads that stand for processes."""

    def __init__(self, processes: int) -> None:
        self.num_processes = processes
        self._barrier = Barrier(processes, timeout=20)
        self._parts: list[Tensor] = []

    def reduce(self, tensor: Tensor, reduction: str = "mean") -> Tensor:
        assert reduction == "sum"
        self._parts.append(tensor.clone())
        self._barrier.wait()
        total = torch.stack(self._parts).sum(dim=0)
        if self._barrier.wait() == 0:
            self._parts.clear()
        self._barrier.wait()
        return total

    def run(self, process: Callable[[int], Any]) -> list[Any]:
        with ThreadPoolExecutor(self.num_processes) as pool:
            return list(pool.map(process, range(self.num_processes)))


@pytest.mark.parametrize("offset", [0.0, 1000.0], ids=["centred", "far from zero"])
def test_processes_merge_to_the_moments_of_one(offset: float) -> None:
    vectors = random_vectors(offset=offset)
    shares = [vectors[:, :9], vectors[:, 9:9], vectors[:, 9:]]  # the second process has nothing
    together = Together(3)

    def process(rank: int) -> Moments:
        moments = Moments(5, 8)
        for part in shares[rank].split(4, dim=1) if shares[rank].shape[1] else []:
            moments.add(part)
        moments.merge(together)  # type: ignore[arg-type]
        return moments

    for merged in together.run(process):
        assert_moments(merged, vectors)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(6, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def fitted(images: Tensor, config: PaDiMConfig = SMALL, batch: int = 4) -> PaDiMModeler:
    torch.manual_seed(0)
    modeler = PaDiMModeler(config).eval()
    with torch.inference_mode():
        for part in images.split(batch):
            modeler.collect(part)
        modeler.build()
    return modeler


def test_modeler(images: Tensor) -> None:
    modeler = fitted(images)
    assert modeler.describe() == {"embedding_dim": 24, "locations": 16 * 24, "fitted_images": 6}
    with torch.inference_mode():
        normal = modeler.predict_step(images)
        odd = images.clone()
        odd[:, :, 20:40, 30:60] = 1.0
        anomalous = modeler.predict_step(odd)
        single = torch.cat([modeler.predict_step(image[None]).scores for image in odd])
    assert normal.maps is not None and anomalous.maps is not None
    assert normal.maps.shape == (6, 1, 64, 96)
    assert torch.equal(normal.scores, normal.maps.amax(dim=(1, 2, 3)))
    assert (anomalous.scores > normal.scores).all()
    torch.testing.assert_close(single, anomalous.scores, rtol=1e-4, atol=0)


def test_fewer_images_than_dimensions(images: Tensor) -> None:
    with pytest.warns(UserWarning, match="2 images, no more than its 192 features"):
        modeler = fitted(images[:2], replace(SMALL, n_features=None, regularization=0.1))
    with torch.inference_mode():
        vectors = locations(modeler.embed(images)).double()
        distances = modeler.model.distances(modeler.embed(images)).flatten(1).double()
    for place in (0, 100, 383):
        covariance = np.cov(vectors[place, :2].numpy(), rowvar=False) + 0.1 * np.eye(192)
        deviations = (vectors[place] - vectors[place, :2].mean(dim=0)).numpy()
        expected = np.sqrt(np.einsum("bi,ij,bj->b", deviations, np.linalg.inv(covariance), deviations))
        np.testing.assert_allclose(distances[:, place].numpy(), expected, rtol=1e-4)


def test_batches_and_processes_do_not_matter(images: Tensor) -> None:
    one = fitted(images, batch=6)
    assert torch.allclose(fitted(images, batch=1).model.mean, one.model.mean, rtol=1e-4, atol=1e-5)
    together = Together(3)

    def process(rank: int) -> PaDiMModeler:
        with torch.inference_mode():
            for part in [images[:2], images[2:], images[:0]][rank].split(3):
                if len(part):
                    modelers[rank].collect(part)
            modelers[rank].merge(together)  # type: ignore[arg-type]
            modelers[rank].build()
        return modelers[rank]

    modelers = []
    for _ in range(3):
        torch.manual_seed(0)
        modelers.append(PaDiMModeler(SMALL).eval())
    with torch.inference_mode():
        expected = one.predict_step(images).scores
        for modeler in together.run(process):
            assert modeler.describe() == one.describe()
            torch.testing.assert_close(modeler.predict_step(images).scores, expected, rtol=1e-3, atol=0)


def test_channels_are_drawn_by_the_seed() -> None:
    def drawn(seed: int) -> list[int]:
        torch.manual_seed(seed)
        return PaDiMModeler(SMALL).model.selected.tolist()

    assert drawn(0) == drawn(0) != drawn(1)
    assert drawn(0) == sorted(set(drawn(0)))
    assert len(drawn(0)) == 24
    assert max(drawn(0)) >= 64  # the second layer's are among them


def test_a_saved_state_scores_the_same(images: Tensor) -> None:
    modeler = fitted(images)
    torch.manual_seed(1)
    loaded = PaDiMModeler(SMALL).eval()
    loaded.load_state({key: value.clone() for key, value in modeler.state_dict().items()})
    with torch.inference_mode():
        assert torch.equal(loaded.predict_step(images).scores, modeler.predict_step(images).scores)
    assert loaded.describe() == modeler.describe()


def test_held_out_images_are_farther_than_fitted_ones(images: Tensor) -> None:
    modeler = fitted(images[:4])
    with torch.inference_mode():
        seen, unseen = modeler.held_out_step(images[:4]), modeler.held_out_step(images[4:])
    for name in ("held_out_distance", "held_out_greatest_distance"):
        assert 0 < float(seen[name]) < float(unseen[name])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_not_finite(images: Tensor, value: float) -> None:
    modeler = PaDiMModeler(SMALL).eval()
    broken = images.clone()
    broken[2, 0, 5, 5] = value
    with torch.inference_mode(), pytest.raises(DataError, match="1 of 6 images"):
        modeler.collect(broken)


def test_errors(images: Tensor) -> None:
    modeler = PaDiMModeler(SMALL).eval()
    with pytest.raises(DataError, match="no training image"):
        modeler.build()
    with pytest.raises(RunError, match="Fit it first"):
        modeler.predict_step(images)
    with pytest.raises(DataError, match=r"two training images or more .* saw 1"):
        fitted(images[:1])
    with pytest.raises(RunError, match=r"16x24 locations.*16x16"):
        fitted(images).predict_step(images[..., :64])
    with pytest.raises(ConfigError, match=r"n_features=193.*64 \+ 128.*1 to 192"):
        PaDiMModeler(replace(SMALL, n_features=193))


def test_features_that_vary_too_much() -> None:
    moments = Moments(1, 40)
    moments.add(torch.randn(1, 3, 40, generator=torch.Generator().manual_seed(0)) * 1e8)
    with pytest.raises(DataError, match="regularization"):
        PaDiMModel([40]).build(moments, (1, 1))


@pytest.mark.parametrize("preset", ["paper", "edge"])
def test_presets_are_valid(preset: str) -> None:
    component = registry.models["padim"]
    package, _, folder = component.spec.presets.partition(":")
    sections = yaml.safe_load((files(package) / folder / f"{preset}.yaml").read_text("utf-8"))
    config = validate(component.config_class(), sections["model"], "model")
    assert isinstance(config, PaDiMConfig)
    with torch.device("meta"):
        channels = FeatureExtractor(config.backbone, config.layers).channels
    assert sum(channels) == (1792 if preset == "paper" else 176)
    if preset == "paper":
        assert config == PaDiMConfig(resize="keep")
