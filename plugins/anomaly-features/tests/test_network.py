"""A frozen network wires itself: its cache while a modeler is fitted, its engine, and its share of a modeler's state."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anomaly_core import ConfigError, EngineSpec, MemoryModeler, MissingLibrary, ModelConfig, ModelContext, Prediction, registry
from anomaly_features import ExtractorModeler, ExtractorOptions, FrozenNetwork


class Counting(FrozenNetwork):
    """One feature map, and how many images it was computed for."""

    def __init__(self, options: ExtractorOptions | None = None) -> None:
        super().__init__(options)
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.train(False).requires_grad_(False)
        self._tally = torch.tensor(0)  # no number, which would be part of the network's identity

    @property
    def computed(self) -> int:
        return int(self._tally)

    def features(self, images: Tensor) -> list[Tensor]:
        self._tally += len(images)
        return [self.network(images)]


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def twice(network: FrozenNetwork, images: Tensor) -> None:
    for _ in range(2):
        network(images)


@pytest.mark.parametrize(
    ("feature_cache", "repeated", "computed"),
    [("auto", True, 4), ("ram", True, 4), ("auto", False, 8), ("ram", False, 8), ("off", True, 8)],
)
def test_in_memory_as_long_as_images_come_again(images: Tensor, feature_cache: Any, repeated: bool, computed: int) -> None:
    network = Counting(ExtractorOptions(feature_cache=feature_cache))
    with network.caching(repeated):
        twice(network, images)
    assert network.computed == computed
    assert network.cache is None
    network(images)
    assert network.computed == computed + 4, "nothing is kept afterwards"


@pytest.mark.parametrize("repeated", [True, False])
def test_on_disk_for_good(images: Tensor, tmp_path: Path, repeated: bool) -> None:
    options = ExtractorOptions(feature_cache="disk", cache_folder=str(tmp_path))
    first, second = Counting(options), Counting(options)
    for network in (first, second):
        with network.caching(repeated):
            network(images)
        twice(network, images)  # the run goes on with the same cache
    assert (first.computed, second.computed) == (4, 0)
    assert [folder.name for folder in tmp_path.iterdir()] == [first.identity()]


def test_auto_keeps_nothing_on_another_device(images: Tensor) -> None:
    network = Counting(ExtractorOptions(feature_cache="auto")).to("meta")
    with network.caching(repeated=True):
        twice(network, images.to("meta"))
    assert network.computed == 8


def test_the_budget_bounds_the_cache(images: Tensor) -> None:
    network = Counting(ExtractorOptions(feature_cache="ram", cache_budget=2 * 4 * 8 * 8 * 4))  # type: ignore[arg-type]  # bytes
    with network.caching(repeated=True):
        twice(network, images)
    assert network.computed == 4 + 2


def test_a_fit_that_fails_leaves_no_cache() -> None:
    network = Counting()
    with pytest.raises(KeyboardInterrupt), network.caching(repeated=True):
        assert network.cache is not None
        raise KeyboardInterrupt
    assert network.cache is None


def test_the_cache_itself_is_no_part_of_the_identity(tmp_path: Path) -> None:
    network = Counting(ExtractorOptions(feature_cache="disk", cache_folder=str(tmp_path)))
    before = network.identity()
    for _ in range(2):
        with network.caching(repeated=True):
            assert network.identity() == before


@pytest.fixture
def halving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An engine that gives half of every feature, and notes each network and size that it compiles."""
    (tmp_path / "halving.py").write_text(
        "compiled = []\n\n"
        "def halving(network, size):\n"
        "    compiled.append(size)\n"
        "    return lambda images: [part / 2 for part in network.features(images)]\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.add("halving", EngineSpec(target="halving:halving"))
    import halving

    yield halving
    registry.remove("halving", "engine")
    del sys.modules["halving"]


@pytest.fixture
def automatic(halving: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Make engines of rank 1, 2, ... the only ones that ``auto`` may take, beside torch."""
    monkeypatch.delenv("ANOMALY_ENGINE", raising=False)
    (tmp_path / "ranked.py").write_text(
        "def same(network, size):\n"
        "    return lambda images: [part * 1.000001 for part in network.features(images)]\n"
        "def failing(network, size):\n"
        "    raise RuntimeError('no such operator')\n",
        "utf-8",
    )
    added: list[str] = []

    def use(**targets: str) -> None:
        for rank, (name, target) in enumerate(targets.items(), -len(targets)):
            registry.add(name, EngineSpec(target=target, auto=rank, module="absent" if name == "absent" else ""))
            added.append(name)

    yield use
    for name in added:
        registry.remove(name, "engine")
    sys.modules.pop("ranked", None)


def test_auto_is_the_first_engine_that_is_installed_and_the_cpu_s(automatic: Any, images: Tensor) -> None:
    automatic(absent="ranked:same", near="ranked:same", late="ranked:failing")
    network = Counting(ExtractorOptions())
    assert network.engine == "near"
    assert network.computing(torch.device("cpu")) == {"engine": "near", "precision": "float32"}
    assert network.computing(torch.device("meta"))["engine"] == "torch"
    assert torch.equal(network(images)[0], Counting(ExtractorOptions(engine="torch"))(images)[0] * 1.000001)
    assert network.identity() != Counting(ExtractorOptions(engine="torch")).identity()
    network.to("meta")(images.to("meta"))
    assert network.engine == "torch"


def test_auto_says_which_engines_fail_and_goes_on(automatic: Any, images: Tensor, tmp_path: Path) -> None:
    automatic(failing="ranked:failing", broken="nowhere:engine", half="halving:halving", near="ranked:same")
    options = ExtractorOptions(feature_cache="disk", cache_folder=str(tmp_path / "cache"))
    network = Counting(options)
    with network.caching(repeated=True), pytest.warns(UserWarning) as caught:
        network(images)
        assert network.cache is not None
        assert network.cache.folder is not None
        assert network.cache.folder.name == network.identity(), "the features of one engine are not kept as another's"
    texts = [str(warning.message) for warning in caught]
    assert [re.findall(r"takes (\w+) and not (\w+)", text) for text in texts] == [
        [("broken", "failing")],
        [("half", "broken")],
        [("near", "half")],
    ]
    for text, reason in zip(texts, ("no such operator", "nowhere", "its features differ from PyTorch's by 0.5"), strict=True):
        assert reason in text
    assert network.engine == "near"
    network(images)  # and says no more


def test_the_environment_names_what_auto_is(halving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALY_ENGINE", "halving")
    assert Counting().engine == "halving"
    assert Counting(ExtractorOptions(engine="torch")).engine == "torch"


def test_a_named_engine_that_cannot_compute_is_an_error(automatic: Any, images: Tensor) -> None:
    automatic(failing="ranked:failing")
    with pytest.raises(ConfigError, match=r"model.engine=failing: .* no such operator. Choose model.engine=torch"):
        Counting(ExtractorOptions(engine="failing"))(images)


def test_bfloat16_that_the_processor_lacks_is_told_before_anything_is_computed(
    halving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomaly_features.engines.has_bfloat16", lambda: False)
    registry.add("brief", EngineSpec(target="halving:halving", precision="bfloat16"))
    try:
        with pytest.warns(UserWarning, match="model.engine=brief: this CPU has no bfloat16"):
            network = Counting(ExtractorOptions(engine="brief"))
        assert network.computing(torch.device("cpu")) == {"engine": "brief", "precision": "float32"}
    finally:
        registry.remove("brief", "engine")


def test_gradients_and_graphs_are_torch_s(halving: Any, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, network = Counting(), Counting(ExtractorOptions(engine="halving"))
    wanted = images.clone().requires_grad_()
    network(wanted)[0].sum().backward()
    assert wanted.grad is not None
    monkeypatch.setattr(torch.jit, "is_tracing", lambda: True)
    assert torch.equal(network(images)[0], plain(images)[0])
    assert halving.compiled == []


def test_weights_that_are_loaded_later_are_compiled_anew(halving: Any, images: Tensor) -> None:
    network = Counting(ExtractorOptions(engine="halving"))
    network(images)
    network.load_state_dict({name: value + 1 for name, value in network.state_dict().items()})
    assert torch.equal(network(images)[0], network.features(images)[0] / 2)
    assert halving.compiled == [(8, 8), (8, 8)]


def test_an_engine_computes_and_is_asked_once_for_each_size(halving: Any, images: Tensor) -> None:
    plain, network = Counting(), Counting(ExtractorOptions(engine="halving"))
    assert halving.compiled == [], "weights may still be loaded"
    network.warm_up((8, 8), torch.device("cpu"))
    assert halving.compiled == [(8, 8)], "before there are images"
    twice(network, images)
    assert torch.equal(network(images)[0], plain(images)[0] / 2)
    network(images[..., :4, :6])
    assert halving.compiled == [(8, 8), (4, 6)]
    assert network.engine == "halving"
    assert network.identity() != plain.identity(), "features of other engines are others"
    network.frozen = False
    assert torch.equal(network(images)[0], plain(images)[0]), "what is trained, torch computes"


def test_an_engine_computes_what_the_cache_lacks(halving: Any, images: Tensor) -> None:
    network = Counting(ExtractorOptions(engine="halving"))
    with network.caching(repeated=True):
        twice(network, images)
    assert network.computed == 4


def test_engines_compute_on_the_cpu(halving: Any, images: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"model.engine=halving computes on the CPU, and the run is on meta"):
        Counting(ExtractorOptions(engine="halving")).to("meta")(images.to("meta"))
    with pytest.raises(ConfigError, match=r"the run is on meta"):
        Counting(ExtractorOptions(engine="halving")).warm_up((8, 8), torch.device("meta"))


def test_an_engine_whose_library_is_missing() -> None:
    registry.add("absent", EngineSpec(target="absent:engine", module="no_such_library", install="pip install no-such-library"))
    try:
        with pytest.raises(MissingLibrary, match="pip install no-such-library"):
            Counting(ExtractorOptions(engine="absent"))
    finally:
        registry.remove("absent", "engine")


@dataclass(kw_only=True)
class TinyConfig(ExtractorOptions, ModelConfig):
    """The options of the method below."""


class Tiny(ExtractorModeler, MemoryModeler):
    """A frozen network, a trained one around it, and a second copy that is trained."""

    def __init__(self, config: TinyConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.extractor = Counting(config)
        self.inner = nn.ModuleDict({"student": Counting(), "norm": nn.BatchNorm2d(4).requires_grad_(False)})
        self.inner["student"].frozen = False  # type: ignore[assignment]

    def collect(self, images: Tensor) -> None:
        self.extractor(images)

    def build(self) -> None: ...

    def predict_step(self, images: Tensor) -> Prediction:
        return Prediction(self.extractor(images)[0].amax(dim=(1, 2, 3)))


def test_frozen_networks_are_no_part_of_what_fitting_changes() -> None:
    modeler = Tiny(TinyConfig())
    state, trained = modeler.state_dict(), modeler.trained_state()
    assert set(trained) == {name for name in state if name.startswith("inner.")}
    assert {"inner.norm.running_mean", "inner.student.network.0.weight"} <= set(trained)
    modeler.inner["student"].frozen = True  # type: ignore[assignment]
    assert set(modeler.trained_state()) == {name for name in state if name.startswith("inner.norm.")}


def test_a_modeler_without_frozen_networks_keeps_all_of_its_state() -> None:
    modeler = Tiny(TinyConfig())
    del modeler.extractor, modeler.inner
    modeler.layer = nn.Linear(2, 2)  # type: ignore[assignment]
    assert set(modeler.trained_state()) == {"layer.weight", "layer.bias"}


def test_a_modeler_caches_while_it_is_fitted(images: Tensor, tmp_path: Path) -> None:
    modeler = Tiny(TinyConfig())
    with modeler.fitting(repeated=True):
        modeler.collect(images)
        modeler.collect(images)
    assert modeler.extractor.computed == 4
    modeler.predict_step(images)
    assert modeler.extractor.computed == 8
    kept = Tiny(replace(TinyConfig(), feature_cache="disk", cache_folder=str(tmp_path)))
    with kept.fitting(repeated=False):
        kept.collect(images)
    kept.predict_step(images)
    assert kept.extractor.computed == 4


def test_the_larger_images_are_the_fewer_are_computed_at_once() -> None:
    computed: list[int] = []

    def extractor(images: Tensor) -> list[Tensor]:
        computed.append(len(images))
        return [images[:, :1]]

    modeler: Any = SimpleNamespace(extractor=extractor)
    for side, parts in ((64, [16, 4]), (512, [4, 2]), (1100, [1, 1])):
        images = torch.rand(sum(parts), 1, 1, 1).expand(-1, 3, side, side)
        assert torch.equal(ExtractorModeler.feature_maps(modeler, images)[0], images[:, :1])
        assert computed == parts
        computed.clear()
