"""A plugin with a component of each kind that does what a test says; installed as a distribution would be."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import registry
from harness import Distributions

ROGUE = """
    import click
    import tiny.plugin
    from dataclasses import replace
    from anomaly_core import BaseMetric, CommandSpec, HookSpec, MetricSpec, hookimpl
    from tiny.data import Weave
    from tiny.trainers import OnePass

    WORK = {}
    MODEL = replace(tiny.plugin.PALETTE, target="rogue_model:Model", trainer="rogue")
    DATA = replace(tiny.plugin.WEAVE, target="rogue:Data")
    TRAINER = replace(tiny.plugin.ONE_PASS, target="rogue:Trainer")
    METRIC = MetricSpec(target="rogue:Metric", default=True)
    HOOK = HookSpec(target="rogue:OBSERVERS")
    COMMAND = CommandSpec(target="rogue:command")

    def work(name, value=None):
        return WORK[name](value) if name in WORK else value

    class Data(Weave):
        def categories(self):
            return work("categories", super().categories())
        def test_samples(self, category):
            return work("test_samples", super().test_samples(category))

    class Trainer(OnePass):
        def fit(self, *arguments, **named):
            return work("fit", super().fit(*arguments, **named))

    class Metric(BaseMetric):
        def __init__(self, calibration):
            work("metric")
        def update(self, batch, prediction):
            work("update")
        def compute(self):
            return work("compute", 0.5)
        def curves(self):
            return work("curves", {})

    class OBSERVERS:
        @hookimpl
        def anomaly_scored(run):
            work("scored")

    @click.command()
    def command():
        work("command")
"""
MODEL = """
    from rogue import work
    from tiny.methods import Palette

    class Model(Palette):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            work("init")
        def collect(self, images):
            super().collect(images)
            work("collect")
        def predict_step(self, images):
            return work("predict_step", super().predict_step(images))
"""  # in a package that no entry point names
POINTS = {
    "models": {"rogue": "rogue:MODEL"},
    "datasets": {"rogue": "rogue:DATA"},
    "trainers": {"rogue": "rogue:TRAINER"},
    "metrics": {"rogue": "rogue:METRIC"},
    "hooks": {"rogue": "rogue:HOOK"},
    "commands": {"rogue": "rogue:COMMAND"},
}


@pytest.fixture
def rogue(distributions: Distributions) -> Iterator[dict[str, Callable[[Any], Any]]]:
    """What the plugin does, by the place where it does it."""
    distributions.install("anomaly-rogue", "0.3", points=POINTS, files={"rogue.py": ROGUE, "rogue_model.py": MODEL})
    registry.refresh()
    registry.models["rogue"].load()
    yield sys.modules["rogue"].WORK
    registry.refresh()


def manifest(folder: Path) -> dict[str, Any]:
    (path,) = folder.rglob("manifest.json")
    facts: dict[str, Any] = json.loads(path.read_text())
    return facts
