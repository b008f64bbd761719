"""PatchCore against the official code's outputs, and as a modeler on small images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files

import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F

from anomaly_core import ConfigError, DataError, RunError, registry, validate
from anomaly_patchcore.patchcore.config import PatchCoreConfig
from anomaly_patchcore.patchcore.model import PatchCoreModel
from anomaly_patchcore.patchcore.modeler import PatchCoreModeler

Fit = Callable[[Tensor, PatchCoreConfig], PatchCoreModeler]
SMALL = PatchCoreConfig(
    backbone="resnet18.tv_in1k",
    image_size=(64, 96),
    center_crop=None,
    pretrain_dim=24,
    target_dim=32,
    coreset_ratio=0.2,
    sigma=2.0,
)


def golden_model(golden: dict[str, Tensor], **options: object) -> PatchCoreModel:
    patch, pretrain, target, k = (int(golden[key]) for key in ("patch_size", "pretrain_dim", "target_dim", "num_neighbors"))
    return PatchCoreModel(patch, pretrain, target, **{"neighbors": k, **options})


def features(golden: dict[str, Tensor], part: str) -> list[Tensor]:
    return [golden[f"{part}_layer2"], golden[f"{part}_layer3"]]


@pytest.mark.parametrize("part", ["train", "test"])
def test_golden_embedding(patchcore: dict[str, Tensor], part: str) -> None:
    embedding = golden_model(patchcore).embed(features(patchcore, part))
    assert embedding.shape[1:3] == (12, 12)
    torch.testing.assert_close(embedding.flatten(0, 2), patchcore[f"{part}_embedding"], rtol=1e-4, atol=1e-6)


def test_golden_scores_and_maps(patchcore: dict[str, Tensor]) -> None:
    model = golden_model(patchcore)
    model.build(model.embed(features(patchcore, "train")).flatten(0, 2), ratio=1)
    size = int(patchcore["input_size"])
    scores, maps = model.score(model.embed(features(patchcore, "test")), (size, size))
    torch.testing.assert_close(scores, patchcore["image_scores"], rtol=1e-4, atol=0)
    torch.testing.assert_close(maps[:, 0], patchcore["anomaly_maps"], rtol=1e-4, atol=0)


def test_equation_7(patchcore: dict[str, Tensor]) -> None:
    model = golden_model(patchcore, reweight=True, reweight_neighbors=5)
    model.build(patchcore["train_embedding"], ratio=1)
    scores, _ = model.score(patchcore["test_embedding"].view(2, 12, 12, -1), (12, 12))
    bank = model.memory_bank.double()
    for patches, score in zip(patchcore["test_embedding"].double().view(2, 144, -1), scores, strict=True):
        distances = torch.cdist(patches, bank)
        worst = int(distances.min(dim=1).values.argmax())
        best = int(distances[worst].argmin())
        around = torch.cdist(bank[[best]], bank)[0].topk(5, largest=False).indices
        weight = 1 - distances[worst, best].exp() / distances[worst, around].exp().sum()
        assert 0 < float(weight) < 1
        assert float(score) == pytest.approx(float(weight * distances[worst, best] ** 2), rel=1e-4)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit.trace:FutureWarning")
@pytest.mark.parametrize("reweight", [False, True])
@pytest.mark.parametrize("neighbors", [1, 3])
def test_a_graph_taken_for_an_export_scores_the_same(patchcore: dict[str, Tensor], neighbors: int, reweight: bool) -> None:
    model = golden_model(patchcore, neighbors=neighbors, reweight=reweight, reweight_neighbors=5)
    model.build(patchcore["train_embedding"], ratio=0.5)
    patches = patchcore["test_embedding"].view(2, 12, 12, -1)
    graph = torch.jit.trace(lambda patches: model.score(patches, (24, 24)), patches[:1], check_trace=False)
    torch.testing.assert_close(graph(patches), model.score(patches, (24, 24)), rtol=1e-4, atol=1e-5)


def test_without_pooling_layers_are_concatenated(patchcore: dict[str, Tensor]) -> None:
    layer2, layer3 = features(patchcore, "test")
    embedding = PatchCoreModel(target_dim=None).embed([layer2, layer3])
    assert embedding.shape == (2, 12, 12, 72)
    cells = F.pad(layer2, (1, 1, 1, 1))[0, :, 3:6, 7:10]  # around row 3, column 7
    torch.testing.assert_close(embedding[0, 3, 7, :24], cells.mean(dim=(1, 2)))


def test_a_smaller_coreset_keeps_rare_patches(patchcore: dict[str, Tensor]) -> None:
    points = patchcore["train_embedding"].clone()
    points[5] += 10
    model = PatchCoreModel(target_dim=40)
    model.build(points, ratio=0.02, projection_dim=16, generator=torch.Generator().manual_seed(0))
    assert model.memory_bank.shape == (11, 40)
    assert (model.memory_bank == points[5]).all(dim=1).any()
    assert 0 < float(model.coreset_radius) < 10


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(5, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, target_dim=None, projection_dim=None, neighbors=3, reweight=True)])
def test_modeler(fitted: Fit, images: Tensor, config: PatchCoreConfig) -> None:
    modeler = fitted(images, config)
    assert modeler.describe()["memory_bank_size"] == int(5 * 8 * 12 * 0.2)
    with torch.inference_mode():
        normal = modeler.predict_step(images)
        odd = images.clone()
        odd[:, :, 20:40, 30:60] = 1.0
        anomalous = modeler.predict_step(odd)
        single = torch.cat([modeler.predict_step(image[None]).scores for image in odd])
    assert normal.scores.shape == (5,)
    assert normal.maps is not None
    assert normal.maps.shape == (5, 1, 64, 96)
    assert (anomalous.scores > normal.scores).all()
    torch.testing.assert_close(single, anomalous.scores, rtol=1e-4, atol=0)


def test_same_seed_same_bank(fitted: Fit, images: Tensor) -> None:
    assert torch.equal(fitted(images, SMALL).model.memory_bank, fitted(images, SMALL).model.memory_bank)


def test_a_saved_state_scores_the_same(fitted: Fit, images: Tensor) -> None:
    modeler = fitted(images, SMALL)
    loaded = PatchCoreModeler(SMALL).eval()
    assert not len(loaded.model.memory_bank)
    loaded.load_state({key: value.clone() for key, value in modeler.state_dict().items()})
    with torch.inference_mode():
        assert torch.equal(loaded.predict_step(images).scores, modeler.predict_step(images).scores)
    assert loaded.describe() == modeler.describe()


class TwoProcesses:
    """Accelerate's interface as a process sees it whose peer has collected other patches."""

    num_processes = 2
    process_index = 1

    def __init__(self, other: Tensor) -> None:
        self.other = other

    def pad_across_processes(self, tensor: Tensor) -> Tensor:
        self.rows = max(len(tensor), len(self.other))
        return F.pad(tensor, (0, 0, 0, self.rows - len(tensor)))

    def gather(self, tensor: Tensor) -> Tensor:
        if tensor.ndim == 1:
            return torch.cat([torch.tensor([len(self.other) if tensor > 2 else 3]), tensor])
        return torch.cat([F.pad(self.other, (0, 0, 0, self.rows - len(self.other))), tensor])


def test_merge_gathers_what_each_process_has(images: Tensor) -> None:
    modeler = PatchCoreModeler(SMALL).eval()
    with torch.inference_mode():
        modeler.collect(images[:2])
        other = modeler.embed(images[2:5]).flatten(0, 2)
        mine = modeler.embed(images[:2]).flatten(0, 2)
        numbers = torch.arange(3.0).repeat_interleave(len(other) // 3)[:, None]
        modeler.merge(TwoProcesses(torch.cat([other, numbers, 0 * other[:, :3]], dim=1)))  # type: ignore[arg-type]
        assert torch.equal(modeler._store.patches(), torch.cat([other, mine]))
        assert modeler._store.origins[:, 0].unique_consecutive().tolist() == [0, 1, 2, 3, 4]


def test_errors(images: Tensor) -> None:
    modeler = PatchCoreModeler(SMALL)
    with pytest.raises(DataError, match="no training image"):
        modeler.build()
    with pytest.raises(RunError, match="empty"):
        modeler.predict_step(images)
    with pytest.raises(ConfigError, match="patch_size=4"):
        PatchCoreModeler(replace(SMALL, patch_size=4))
    with pytest.raises(ConfigError, match="layer2"):
        PatchCoreModeler(replace(SMALL, layers=("layer_2",)))


@pytest.mark.parametrize("preset", ["paper", "edge", "accurate"])
def test_presets_are_valid(preset: str) -> None:
    component = registry.models["patchcore"]
    package, _, folder = component.spec.presets.partition(":")
    sections = yaml.safe_load((files(package) / folder / f"{preset}.yaml").read_text("utf-8"))
    config = validate(component.config_class(), sections["model"], "model")
    assert isinstance(config, PatchCoreConfig)
    if preset == "paper":
        assert config == PatchCoreConfig(resize="keep")
    assert config.resize != "stretch"  # a round part stays round


def test_layers_from_the_command_line() -> None:
    config = validate(PatchCoreConfig, {"layers": ["2", "layer3"], "coreset_ratio": "1e-2"}, "model")
    assert (config.coreset_ratio, len(config.layers)) == (0.01, 2)
    with pytest.raises(ConfigError, match="coreset_ratio"):
        validate(PatchCoreConfig, {"coreset_ratio": "ten"}, "model")
