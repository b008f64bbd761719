"""Each check of a method can fail: one plugin a check, right but for one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anomaly_core import ConfigError, ModelSpec, PluginError, TrainerSpec, registry
from anomaly_testing import ConformanceError, check_component, checks_of

CONFIG = """
from dataclasses import dataclass
from typing import Annotated
from pydantic import Field
from anomaly_core import ModelConfig

@dataclass(kw_only=True)
class Config(ModelConfig):
    power: Annotated[float, Field(gt=0, description="of the deviation")] = 2.0
"""
MODELER = """
import torch
from anomaly_core import InputSpec, MemoryModeler, Prediction

SECRET = {"scale": 1.0}

class Modeler(MemoryModeler):
    def __init__(self, config, context=None):
        super().__init__(config, context)
        self.input_spec = InputSpec.from_config(config)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("count", torch.zeros(()))
        self.seen, self.colours = [], []

    def collect(self, images):
        self.seen.append(images.mean(dim=(2, 3)))

    def build(self):
        self.colours = list(torch.cat(self.seen))
        self.mean = torch.cat(self.seen).mean(dim=0)
        self.count = torch.tensor(float(len(self.seen)))
        self.seen.clear()

    def predict_step(self, images):
        return self.prediction(images, self.mean.expand(len(images), 3))

    def prediction(self, images, means):
        maps = (images - means.view(-1, 3, 1, 1)).abs().pow(self.config.power).mean(dim=1, keepdim=True)
        return Prediction(maps.mean(dim=(1, 2, 3)), maps)

    @property
    def leaves_out(self):
        return min(1, len(self.colours) - 1)

    def predict_without(self, images, numbers):
        others = [[c for i, c in enumerate(self.colours) if i not in lacking.tolist()] for lacking in numbers]
        return self.prediction(images, torch.stack([torch.stack(colours).mean(dim=0) for colours in others]))
"""
GRADIENT = """
import torch
from torch import nn
from anomaly_core import GradientModeler, InputSpec, Prediction

class Modeler(GradientModeler):
    def __init__(self, config, context=None):
        super().__init__(config, context)
        self.input_spec = InputSpec.from_config(config)
        self.head = nn.Linear(3, 2)

    def training_step(self, batch):
        return {"loss": nn.functional.cross_entropy(self.head(batch.images.mean(dim=(2, 3))), batch.labels)}

    def configure_optimizer(self, epochs):
        return torch.optim.SGD(self.parameters(), lr=0.1), None

    def predict_step(self, images):
        return Prediction(self.head(images.mean(dim=(2, 3)))[:, 1])
"""
MAPS = "        return Prediction("
# check -> (line that is replaced, what stands there instead, a word of the reason)
MODELERS = {
    "importable": ("import torch\n", "import torch\nimport no_such_module\n", "no_such_module"),
    "builds_with_defaults": ("from_config(config)", "from_config(type(config)(image_size=8))", "input_spec is for (8, 8)"),
    "fits_and_scores": (MAPS, "        maps = maps.double()\n" + MAPS, "float64"),
    "higher_is_more_anomalous": (MAPS, "        maps = -maps\n" + MAPS, "higher must mean more anomalous"),
    "scores_each_image_alone": (MAPS, "        maps = maps - maps.mean()\n" + MAPS, "batch mates"),
    "takes_other_sizes": (MAPS, "        maps = maps.view(-1, 1, 64, 64)\n" + MAPS, "have the shape"),
    "same_seed_same_scores": (
        "self.seen.clear()",
        "self.seen.clear(); "
        "self.mean += torch.rand(3, generator=torch.Generator().manual_seed(__import__('os').urandom(1)[0] * 97))",
        "global generator",
    ),
    "state_survives_saving": (
        'self.register_buffer("mean", torch.zeros(3))',
        "self.mean = torch.zeros(3)",
        "registered buffer",
    ),
    "scoring_changes_nothing": (MAPS, "        self.count += 1\n" + MAPS, "'count' is another"),
    "scores_in_a_worker": ("self.seen.clear()", "SECRET['scale'] = 3.0", "worker process"),
    "fits_its_fewest_images": (
        "self.seen.clear()",
        "assert len(torch.cat(self.seen)) > 1; self.seen.clear()",
        "AssertionError",
    ),
    "scores_without_an_image": ("if i not in lacking.tolist()", "", "as if it had left none of them out"),
    "exports": (MAPS, "        maps = torch.from_numpy(maps.detach().numpy() * 1)\n" + MAPS, "exports"),
}
CONFIGS = {
    "torch_free": ("from typing", "import torch\nfrom typing", "imports torch"),
    "described": ('Field(gt=0, description="of the deviation")', "Field(gt=0)", "has no description"),
    "run_config_survives_yaml": (
        "= 2.0",
        "= 2.0\n    def __post_init__(self):\n        self.power = self.power + 1",
        "written to YAML",
    ),
}
ELSEWHERE = {"named_well", "takes_unlabelled_images", "learns_from_known_defects", "scores_on_a_gpu"}  # the tests below


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[object]:
    """Write a plugin of two modules, some of whose lines are replaced; its spec."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    stem = "checked_" + "".join(letter if letter.isalnum() else "_" for letter in request.node.name)

    def write(modeler: tuple[str, str] = ("", ""), config: tuple[str, str] = ("", ""), **fields: str) -> ModelSpec:
        for part, source, (old, new) in (("modeler", MODELER, modeler), ("config", CONFIG, config)):
            assert old in source
            (tmp_path / f"{stem}_{part}.py").write_text(source.replace(old, new) if old else source)
        values = {"trainer": "memory", "summary": "the distance to a mean colour", **fields}
        return ModelSpec(target=f"{stem}_modeler:Modeler", config=f"{stem}_config:Config", **values)

    yield write
    for name in set(sys.modules) - before:
        if name.startswith(stem):
            del sys.modules[name]


def test_a_sound_method_passes_every_check(plugin) -> None:
    results = check_component(plugin(), "model")
    assert [outcome.check for outcome in results] == list(checks_of("model"))
    elsewhere = ("scores_on_a_gpu", "learns_from_known_defects")
    statuses = {outcome.check: outcome.status for outcome in results if outcome.check not in elsewhere}
    assert set(statuses.values()) == {"passed"}


@pytest.mark.parametrize("check", MODELERS)
def test_a_broken_modeler_fails(plugin, check: str) -> None:
    old, new, word = MODELERS[check]
    if check == "scores_in_a_worker":
        spec = plugin(modeler=(MAPS, "        maps = maps * SECRET['scale']\n" + MAPS))
        path = Path(sys.path[0]) / f"{spec.target.partition(':')[0]}.py"
        path.write_text(path.read_text().replace(old, new))
    else:
        spec = plugin(modeler=(old, new))
    with pytest.raises(ConformanceError, match=check) as failure:
        check_component(spec, "model", only=[check])
    assert word in str(failure.value)


@pytest.mark.parametrize("check", CONFIGS)
def test_a_broken_config_fails(plugin, check: str) -> None:
    old, new, word = CONFIGS[check]
    with pytest.raises(ConformanceError, match=check) as failure:
        check_component(plugin(config=(old, new)), "model", only=[check])
    assert word in str(failure.value)


def test_a_summary_is_asked_for(plugin) -> None:
    with pytest.raises(ConformanceError, match="write one line"):
        check_component(plugin(summary=""), "model", only=["described"])


def test_a_name_that_cannot_be_typed_fails(plugin) -> None:
    registry.add("My Method", plugin())
    try:
        with pytest.raises(ConformanceError, match="other characters"):
            check_component("My Method", "model", only=["named_well"])
    finally:
        registry.remove("My Method", "model")


def test_a_method_that_wants_labels_fails(plugin) -> None:
    """Its training step takes -1, which is an unknown label, for a class."""
    spec = plugin(modeler=(MODELER, GRADIENT), trainer="gradient")
    check_component(spec, "model", only=["fits_and_scores"])
    with pytest.raises(ConformanceError, match="takes_unlabelled_images"):
        check_component(spec, "model", only=["takes_unlabelled_images"])


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        ("(batch.labels == 1).long()", ""),
        ("batch.masks.flatten(1).any(dim=1).long()", "NoneType"),
        ("(batch.labels * 0)", "the labels of masked defects change no score"),
    ],
)
def test_a_method_that_learns_from_defects_needs_no_masks_and_uses_labels(labels: str, word: str, plugin) -> None:
    learner = GRADIENT.replace("batch.labels)", f"{labels})").replace(
        "(GradientModeler):", "(GradientModeler):\n    uses_anomalous = True"
    )
    spec = plugin(modeler=(MODELER, learner), trainer="gradient")
    if not word:
        check_component(spec, "model", only=["learns_from_known_defects"])
        return
    with pytest.raises(ConformanceError, match="learns_from_known_defects") as failure:
        check_component(spec, "model", only=["learns_from_known_defects"])
    assert word in str(failure.value)


def test_every_check_is_proved_to_fail_or_named_here() -> None:
    assert set(checks_of("model")) == MODELERS.keys() | CONFIGS.keys() | ELSEWHERE


def test_without_a_gpu_its_check_is_skipped_and_says_so(plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (outcome,) = check_component(plugin(), "model", only=["scores_on_a_gpu"])
    assert (outcome.status, outcome.reason) == ("skipped", "no GPU here")


def test_an_expected_failure_does_not_count_and_one_that_passes_does(plugin) -> None:
    spec = plugin(modeler=(MAPS, "        maps = -maps\n" + MAPS))
    (outcome,) = check_component(
        spec,
        "model",
        expected_failures={"higher_is_more_anomalous": "it counts good pixels"},
        only=["higher_is_more_anomalous"],
    )
    assert outcome.status == "expected"
    assert outcome.reason.startswith("it counts good pixels")
    with pytest.raises(ConformanceError, match="Take the expectation away"):
        check_component(spec, "model", expected_failures={"importable": "no reason"}, only=["importable"])
    with pytest.raises(ConfigError, match="no check is called 'imported'"):
        check_component(spec, "model", expected_failures={"imported": "misspelt"})


def test_a_spec_of_another_kind_is_refused(plugin) -> None:
    trainer = TrainerSpec(target="nowhere:Trainer", config="nowhere:Config")
    with pytest.raises(PluginError, match="TrainerSpec is not the spec of a model"):
        check_component(trainer, "model")
