"""Each check of data sets, metrics, trainers, backbones, commands, hooks and engines can fail: right but for one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anomaly_core.specs import KINDS as SPECS
from anomaly_core.specs import (
    BackboneSpec,
    CommandSpec,
    ComponentSpec,
    DatasetSpec,
    EngineSpec,
    HookSpec,
    MetricSpec,
    TrainerSpec,
)
from anomaly_core.testing import ConformanceError, check_component, checks_of

DATASET = """
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from pydantic import Field
from anomaly_core.options import DataConfig

@dataclass(kw_only=True)
class Config(DataConfig):
    suffix: Annotated[str, Field(description="of the files")] = ".png"
# ---
from PIL import Image
from anomaly_core import BaseDataModule, DataError, Sample

class Data(BaseDataModule):
    def __init__(self, config, seed=0, spec=None):
        super().__init__(config, seed, spec)

    def categories(self):
        self.root.mkdir(exist_ok=True)
        for name, colour in {"a": 10, "b": 20, "c": 30, "d": 40}.items():
            Image.new("RGB", (20, 20), (colour, 0, 0)).save(self.root / (name + self.config.suffix))
        Image.new("L", (20, 20), 255).save(self.root / "mask.png")
        return ["only"]

    def train_samples(self, category):
        return [Sample(self.root / (name + ".png"), 0, None, category) for name in "ab"]

    def test_samples(self, category):
        return [Sample(self.root / "c.png", 0, None, category), Sample(self.root / "d.png", 1, self.root / "mask.png", category)]
"""
METRIC = """
import torch
from anomaly_core import BaseMetric, UndefinedMetric

class Metric(BaseMetric):
    def __init__(self, calibration=None, backbones=None):
        super().__init__(calibration, backbones)
        self.good, self.bad = [], []

    def update(self, batch, prediction):
        self.good += prediction.scores[batch.labels == 0].tolist()
        self.bad += prediction.scores[batch.labels == 1].tolist()

    def compute(self):
        if not self.good or not self.bad:
            raise UndefinedMetric("one class has no image")
        return sum(sorted(self.bad)) / len(self.bad) - sum(sorted(self.good)) / len(self.good)
"""
TRAINER = """
from dataclasses import dataclass
from typing import Annotated
from pydantic import Field
from anomaly_core.options import TrainConfig

@dataclass(kw_only=True)
class Config(TrainConfig):
    passes: Annotated[int, Field(ge=1, description="over the images")] = 1
# ---
import torch
from anomaly_core import BaseTrainer, GradientModeler, MemoryModeler, PluginError
from anomaly_core.base.trainer import History

class Trainer(BaseTrainer):
    def fit(self, modeler, train, validation, run=None):
        if not isinstance(modeler, MemoryModeler):
            raise PluginError(f"cannot fit a {type(modeler).__name__}")
        modeler.eval()
        with torch.inference_mode():
            for batch in train:
                modeler.collect(batch.images)
            modeler.build()
        run.log({"images": 1.0}, 1)
        return History([{"images": 1.0}], {"images": 1.0})
"""
BACKBONE = """
from pathlib import Path

def weights():
    from anomaly_core.registry import registry
    return registry.backbones["tf_efficientnet_lite0"].load()()
"""
COMMAND = """
import click

@click.command("wave")
@click.option("--times", default=1, help="How often.")
def command(times):
    \"\"\"Wave.\"\"\"
"""
HOOKS = """
from anomaly_core import hookimpl

class Observer:
    @hookimpl
    def anomaly_run_start(self, run):
        (run.folder / "started.txt").write_text("now")

    @hookimpl
    def anomaly_run_end(self, run, results):
        (run.folder / "ended.txt").write_text(str(results.metrics["image_auroc"]))

    @hookimpl
    def anomaly_run_error(self, run, error):
        (run.folder / "failed.txt").write_text(str(error))

OBSERVER = Observer()
"""
ENGINE = """
import torch

def compiled(network, size):
    graph = torch.jit.trace(lambda images: tuple(network.features(images)), torch.rand(2, 3, *size), check_trace=False)

    def compute(images):
        with torch.no_grad():
            return list(graph(images))

    return compute
"""
KINDS: dict[str, tuple[str, Callable[[str], ComponentSpec]]] = {
    "dataset": (DATASET, lambda m: DatasetSpec(target=f"{m}:Data", config=f"{m}_config:Config", summary="four pictures")),
    "metric": (METRIC, lambda m: MetricSpec(target=f"{m}:Metric", summary="the distance of two means")),
    "trainer": (TRAINER, lambda m: TrainerSpec(target=f"{m}:Trainer", config=f"{m}_config:Config", summary="one pass")),
    "backbone": (BACKBONE, lambda m: BackboneSpec(target=f"{m}:weights", summary="weights", license="Apache-2.0")),
    "command": (COMMAND, lambda m: CommandSpec(target=f"{m}:command", summary="Wave.")),
    "hook": (HOOKS, lambda m: HookSpec(target=f"{m}:OBSERVER", summary="leaves notes")),
    "engine": (ENGINE, lambda m: EngineSpec(target=f"{m}:compiled", summary="a traced graph")),
}
# kind, check, the line that is replaced, what stands there instead, a word of the reason
BROKEN = [
    ("dataset", "torch_free", "from pathlib", "import torch\nfrom pathlib", "imports torch"),
    ("dataset", "defaults_are_valid", '= ".png"', "= 7", "suffix=7"),
    (
        "dataset",
        "config_survives_yaml",
        '= ".png"',
        '= ".png"\n    def __post_init__(self): self.suffix += "x"',
        "written to YAML",
    ),
    ("dataset", "builds_with_defaults", "super().__init__(config, seed, spec)", "open('/no/such/file')", "No such file"),
    (
        "dataset",
        "says_what_is_missing",
        "self.root.mkdir(exist_ok=True)",
        'raise DataError("no files")',
        "does not name the folder",
    ),
    ("dataset", "says_what_is_missing", 'return ["only"]', "return []", "finds no category|has no category"),
    ("dataset", "has_categories", 'return ["only"]', 'return ["only", "only"]', "listed twice"),
    ("dataset", "has_sound_samples", "None, category) for", "self.root / 'mask.png', category) for", "has a mask"),
    ("dataset", "has_sound_samples", "0, None, category) for", "1, None, category) for", "trains on anomalous"),
    ("dataset", "keeps_the_test_apart", '"c.png"', '"a.png"', "trains and tests"),
    ("dataset", "keeps_the_test_apart", '"c.png"', '("c.png" if self.seed else "mask.png")', "another seed"),
    (
        "dataset",
        "works_in_a_worker",
        "super().__init__(config, seed, spec)",
        "super().__init__(config, seed, spec); self.f = lambda: 0",
        "pickle",
    ),
    ("metric", "tells_good_from_bad", "- sum(sorted(self.good))", "* 0 + sum(sorted(self.good))", "higher_is_better"),
    ("metric", "any_batching", "+= prediction.scores[batch.labels == 1]", "= prediction.scores[batch.labels == 1]", "in four"),
    ("metric", "asked_again", "return sum", "self.good.append(0.5); return sum", "asked twice"),
    (
        "metric",
        "undefined_with_a_reason",
        'raise UndefinedMetric("one class has no image")',
        'return float("nan")',
        "UndefinedMetric",
    ),
    ("trainer", "fits_a_modeler", "modeler.build()", "pass", "as it was before"),
    ("trainer", "tells_its_history", 'run.log({"images": 1.0}, 1)', "pass", "logged 0"),
    ("trainer", "leaves_it_ready", "return History", "modeler.train(); return History", "train mode"),
    (
        "trainer",
        "same_seed_same_state",
        "modeler.build()",
        "modeler.build(); modeler.mean += hash(object()) % 997",
        "another 'mean'",
    ),
    ("trainer", "refuses_with_reason", '(f"cannot fit a {type(modeler).__name__}")', '("no")', "without naming it"),
    ("backbone", "states_its_licence", 'license="Apache-2.0"', "", "has no license"),
    (
        "backbone",
        "file_is_safe",
        'return registry.backbones["tf_efficientnet_lite0"].load()()',
        'return Path("w.pickle")',
        "no file",
    ),
    ("backbone", "timm_knows_it", "", "", "no pretrained model"),
    ("backbone", "weights_fit", "", "", "no pretrained model"),
    (
        "command",
        "is_a_command",
        '@click.command("wave")\n@click.option("--times", default=1, help="How often.")\n',
        "",
        "not a click.Command",
    ),
    ("command", "helps", ', help="How often."', "", "has no help text"),
    ("command", "helps", '    """Wave."""', "    pass", "no docstring"),
    (
        "command",
        "refuses_nonsense",
        '("wave")',
        '("wave", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})',
        "exit code 0",
    ),
    ("command", "torch_free", "import click", "import click, torch", "imports torch"),
    ("hook", "observes_something", "anomaly_run_start", "anomaly_run_begin", "anomaly_run_begin"),
    ("hook", "survives_a_run", 'results.metrics["image_auroc"]', "results.metric", "no attribute"),
    ("hook", "survives_an_error", "str(error)", "error.code", "no attribute"),
    ("hook", "leaves_the_run_alone", '"ended.txt"', '"model.safetensors"', "cannot read the weights"),
    ("engine", "computes_the_features", "return list(graph(images))", "return list(graph(images))[:1]", "1 feature maps"),
    ("engine", "computes_the_features", "list(graph(images))", "[x.half() for x in graph(images)]", "float16"),
    ("engine", "computes_the_features", "list(graph(images))", "[x * 2 for x in graph(images)]", "differ from PyTorch's"),
    ("engine", "computes_the_features", "list(graph(images))", "[x[..., 1:] for x in graph(images)]", "not (3, 8"),
    ("engine", "any_batch", "list(graph(images))", "[x + len(x) for x in graph(images)]", "alone and in a batch"),
    (
        "engine",
        "keeps_its_answers",
        "def compute(images):",
        "def compute(images, held={}):\n        for x, y in zip(held.setdefault(len(images), []), graph(images)): x.copy_(y)\n"
        "        held[len(images)] = held[len(images)] or list(graph(images))\n        return held[len(images)]\n"
        "    def unused(images):",
        "wrote over",
    ),
    (
        "engine",
        "leaves_the_network_alone",
        "with torch.no_grad():",
        "with torch.no_grad():\n            network.first[0].weight += 1",
        "it changed first.0.weight",
    ),
    (
        "engine",
        "leaves_the_network_alone",
        "with torch.no_grad():",
        "with torch.no_grad():\n            network.first.train(); network.training = True",
        "in train mode",
    ),
]
COMMON = {"importable", "described", "named_well"}  # proved by the tests of models


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[object]:
    """Write a plugin, one of whose lines is replaced; its spec."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    stem = "checked_" + "".join(letter if letter.isalnum() else "_" for letter in request.node.name)

    def write(kind: str, old: str = "", new: str = "") -> ComponentSpec:
        source, make = KINDS[kind]
        assert old in source or kind == "backbone"
        config, line, code = source.replace(old, new, 1).partition("# ---") if old else source.partition("# ---")
        if line:
            (tmp_path / f"{stem}_config.py").write_text(config)
        (tmp_path / f"{stem}.py").write_text(code if line else config)
        return make(stem)

    yield write
    for name in set(sys.modules) - before:
        if name.startswith(stem):
            del sys.modules[name]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "backbone"])
def test_a_sound_plugin_passes_every_check(plugin, kind: str) -> None:
    found = check_component(plugin(kind), kind)
    assert [outcome.check for outcome in found] == list(checks_of(kind))
    assert {outcome.status for outcome in found} == {"passed"}


@pytest.mark.parametrize(("kind", "check", "old", "new", "word"), BROKEN, ids=lambda value: value if " " not in value else "")
def test_a_broken_plugin_fails(plugin, kind: str, check: str, old: str, new: str, word: str) -> None:
    spec = plugin(kind, old, new)
    if old.startswith("license"):
        spec = BackboneSpec(target=spec.target, summary=spec.summary)
    with pytest.raises(ConformanceError, match=check) as failure:
        check_component(spec, kind, only=[check])
    assert any(part in str(failure.value) for part in word.split("|")), str(failure.value)


def test_batches_that_leave_the_range_fail(plugin) -> None:
    loader = "    def loader(self, *args, **more):\n        for batch in super().loader(*args, **more):\n            batch.images *= 300\n            yield batch\n\n    def categories"
    with pytest.raises(ConformanceError, match="reach from"):
        check_component(plugin("dataset", "    def categories", loader), "dataset", only=["loads_batches"])


def test_every_kind_has_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(len(checks_of(kind)) > 4 for kind in SPECS)
    assert set(SPECS) == {*KINDS, "model"}
    monkeypatch.setattr("anomaly_core.engines.find_spec", lambda _: None)
    missing = EngineSpec(target="nowhere:at_all", summary="x", module="fast", install="pip install fast")
    found = check_component(missing, "engine", only=["any_batch"])
    assert found[0].status == "skipped" and "pip install fast" in found[0].reason


@pytest.mark.parametrize("kind", KINDS)
def test_every_check_is_proved_to_fail(kind: str) -> None:
    proved = {check for found, check, *_ in BROKEN if found == kind} | COMMON | {"torch_free"}
    proved |= {"loads_batches"} if kind == "dataset" else set()
    if kind == "trainer":
        proved |= {"defaults_are_valid", "config_survives_yaml"}  # the same functions as a data set's
    assert set(checks_of(kind)) == proved
