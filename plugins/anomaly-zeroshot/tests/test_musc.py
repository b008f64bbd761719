"""MuSc as a modeler, on small networks of random weights."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.resources import files
from threading import Barrier, local
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from anomaly_core import AnomalyError, ConfigError, DataError, registry, validate
from anomaly_features import ExtractorModeler
from anomaly_zeroshot.musc.config import MuScConfig
from anomaly_zeroshot.musc.model import MuScModel
from anomaly_zeroshot.musc.modeler import MuScModeler

CNN = MuScConfig(
    backbone="resnet18.tv_in1k", layers=("layer1", "layer2"), image_size=64, neighbourhoods=(1, 3), rscin=(), engine="torch"
)
CLIP = MuScConfig(backbone="vit_xsmall_patch16_clip_224", layers=("blocks.1", "blocks.2"), image_size=64, engine="torch")


def fit(images: Tensor, config: MuScConfig = CNN, at_once: int = 3) -> MuScModeler:
    torch.manual_seed(0)
    modeler = MuScModeler(config).eval()
    with torch.inference_mode():
        for part in images.split(at_once):
            modeler.collect(part)
        modeler.build()
    return modeler


def scores(modeler: MuScModeler, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return modeler.predict_step(images).scores


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(9, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4


@pytest.mark.parametrize("config", [CNN, replace(CNN, store="float16"), replace(CNN, rscin=(1, 3)), CLIP])
def test_an_image_that_was_collected_is_not_compared_with_itself(config: MuScConfig, images: Tensor) -> None:
    modeler = fit(images, config)
    whole = scores(modeler, images)
    for number in (0, 4):
        others = torch.cat([images[:number], images[number + 1 :]])
        without = fit(others, config)
        with torch.inference_mode():
            maps, _ = without.embed(images[number : number + 1])
            raw = without.model(maps, None, (64, 64))[0][0]
        expected = modeler.model.raw[number] if config.rscin else whole[number]  # before similar images have their say
        torch.testing.assert_close(raw, expected, rtol=1e-3, atol=1e-4)


def test_a_new_image_is_compared_with_all(images: Tensor) -> None:
    modeler = fit(images[:8])
    maps, _ = modeler.embed(images[8:])
    assert not modeler.model.patch_scores(maps)[1].any()
    spoilt = images[8:].clone()
    spoilt[..., 20:40, 20:40] = 0
    assert scores(modeler, spoilt) > scores(modeler, images[8:])


def test_one_of_two_equal_images_counts(images: Tensor) -> None:
    twice = torch.cat([images[:6], images[:1]])
    modeler = fit(twice)
    maps, _ = modeler.embed(twice)
    assert modeler.model.patch_scores(maps)[1].sum(dim=1).tolist() == [1] * 7
    assert scores(modeler, twice)[0] < 0.01  # its twin looks just like it: so few others are compared that it is the nearest


def test_rscin_brings_scores_nearer_to_those_of_similar_images(images: Tensor) -> None:
    plain, averaged = (scores(fit(images, replace(CNN, rscin=ks)), images) for ks in ((1,), (1, 9)))
    scaled = (plain - plain.min()) / (plain.max() - plain.min())
    torch.testing.assert_close(scaled, plain, rtol=1e-4, atol=1e-5)  # k = 1 is the image itself, on a scale from 0 to 1
    assert averaged.std() < 0.8 * plain.std()


def test_most_images_bounds_the_memory_and_draws_by_the_seed(images: Tensor) -> None:
    config = replace(CNN, most_images=5)
    first, again = (fit(images, config, at_once) for at_once in (3, 4))
    assert first.describe()["compared_images"] == 5
    assert torch.equal(first.model.memory[0], again.model.memory[0])
    assert not torch.equal(first.model.memory[0], fit(images).model.memory[0][:5])


def test_features_are_kept_in_the_precision_asked_for(images: Tensor) -> None:
    half, whole = (fit(images, replace(CNN, store=store)) for store in ("float16", "float32"))
    assert half.describe()["memory_mb"] == pytest.approx(whole.describe()["memory_mb"] / 2)
    torch.testing.assert_close(scores(half, images), scores(whole, images), rtol=1e-2, atol=1e-3)


def test_a_saved_state_scores_the_same(images: Tensor) -> None:
    modeler = fit(images, CLIP)
    loaded = MuScModeler(CLIP).eval()
    loaded.load_state({key: value.clone() for key, value in modeler.state_dict().items()})
    assert torch.equal(scores(loaded, images), scores(modeler, images))


class Together:
    """Accelerate's gathering among threads that stand for processes."""

    def __init__(self, processes: int) -> None:
        self.num_processes = processes
        self._barrier = Barrier(processes, timeout=20)
        self._parts: dict[int, Tensor] = {}
        self._ranks = local()

    def gather(self, tensor: Tensor) -> Tensor:
        self._parts[self._ranks.number] = tensor.clone()
        self._barrier.wait()
        joined = torch.cat([self._parts[rank] for rank in range(self.num_processes)])
        self._barrier.wait()
        return joined

    def pad_across_processes(self, tensor: Tensor) -> Tensor:
        longest = int(self.gather(torch.tensor([len(tensor)])).max())
        return torch.cat([tensor, tensor.new_zeros(longest - len(tensor), *tensor.shape[1:])])

    def run(self, process: Callable[[int], Any]) -> list[Any]:
        def numbered(rank: int) -> Any:
            self._ranks.number = rank
            return process(rank)

        with ThreadPoolExecutor(self.num_processes) as pool:
            return list(pool.map(numbered, range(self.num_processes)))


@pytest.mark.parametrize(("config", "count"), [(CLIP, 9), (replace(CNN, most_images=5), 5)])
def test_processes_compare_all_images(images: Tensor, config: MuScConfig, count: int) -> None:
    together, modelers = Together(3), []
    for _ in range(3):
        torch.manual_seed(0)
        modelers.append(MuScModeler(config).eval())

    def process(rank: int) -> MuScModeler:
        with torch.inference_mode():
            for part in [images[:4], images[4:], images[:0]][rank].split(3):
                if len(part):
                    modelers[rank].collect(part)
            modelers[rank].merge(together)  # type: ignore[arg-type]
            modelers[rank].build()
        return modelers[rank]

    merged = together.run(process)
    assert [modeler.describe()["compared_images"] for modeler in merged] == [count] * 3
    expected = scores(fit(images, config) if count == 9 else merged[0], images)
    for modeler in merged:
        torch.testing.assert_close(scores(modeler, images), expected, rtol=1e-4, atol=1e-5)


def test_it_says_that_it_needs_no_normal_image() -> None:
    assert MuScModeler.transductive
    assert MuScModeler.fewest_images == 5
    assert issubclass(MuScModeler, ExtractorModeler)


def test_errors(images: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"neighbourhoods has 2"):
        MuScModeler(replace(CNN, neighbourhoods=(1, 2)))
    with pytest.raises(ConfigError, match=r"lowest=0\.5,0\.3 is no interval"):
        MuScModeler(replace(CNN, lowest=(0.5, 0.3)))
    with pytest.raises(DataError, match=r"compares 4 images.*Give 5 images or more"):
        fit(images[:4])
    with pytest.raises(DataError, match="was given 0"):
        MuScModeler(CNN).build()
    with pytest.raises(AnomalyError, match="no images to compare with"):
        scores(MuScModeler(CNN).eval(), images)
    with pytest.raises(AnomalyError, match="of the size that it was fitted on"):
        scores(fit(images), torch.rand(1, 3, 96, 96))
    with pytest.raises(DataError, match="hold NaN"):
        fit(images.clone().fill_(torch.nan))


@pytest.mark.parametrize("preset", ["paper", "edge"])
def test_presets_are_valid(preset: str) -> None:
    component = registry.models["musc"]
    package, _, folder = component.spec.presets.partition(":")
    sections = yaml.safe_load((files(package) / folder / f"{preset}.yaml").read_text("utf-8"))
    config = validate(component.config_class(), sections["model"], "model")
    if preset == "paper":
        assert config == MuScConfig()


def test_an_interval_that_holds_no_other_image_says_how_many_it_needs() -> None:
    model = MuScModel(1, (1,), (0.1, 0.2), ())
    with pytest.raises(DataError, match="Give 6 images or more"):
        model.build([torch.rand(5, 3, 4, 4)])
    model.build([torch.rand(6, 3, 4, 4)])
