"""Each check of engines can fail: an engine that is right but for one line."""

from __future__ import annotations

import pytest

from anomaly_core import EngineSpec
from anomaly_testing import check_component, checks_of

SOURCE = """
import torch

def compiled(network, size):
    graph = torch.jit.trace(lambda images: tuple(network.features(images)), torch.rand(2, 3, *size), check_trace=False)

    def compute(images):
        with torch.no_grad():
            return list(graph(images))

    return compute
"""
# check, the line that is replaced, what stands there instead, words of the reason
BROKEN = [
    ("computes_the_features", "return list(graph(images))", "return list(graph(images))[:1]", "1 feature maps"),
    ("computes_the_features", "list(graph(images))", "[x.half() for x in graph(images)]", "float16"),
    ("computes_the_features", "list(graph(images))", "[x * 2 for x in graph(images)]", "differ from PyTorch's"),
    ("computes_the_features", "list(graph(images))", "[x[..., 1:] for x in graph(images)]", "not (3, 8"),
    ("any_batch", "list(graph(images))", "[x + len(x) for x in graph(images)]", "alone and in a batch"),
    (
        "keeps_its_answers",
        "def compute(images):",
        "def compute(images, held={}):\n        for x, y in zip(held.setdefault(len(images), []), graph(images)): x.copy_(y)\n"
        "        held[len(images)] = held[len(images)] or list(graph(images))\n        return held[len(images)]\n"
        "    def unused(images):",
        "wrote over",
    ),
    (
        "leaves_the_network_alone",
        "with torch.no_grad():",
        "with torch.no_grad():\n            network.first[0].weight += 1",
        "it changed first.0.weight",
    ),
    (
        "leaves_the_network_alone",
        "with torch.no_grad():",
        "with torch.no_grad():\n            network.first.train(); network.training = True",
        "in train mode",
    ),
]


def spec(modules, old: str = "", new: str = "") -> EngineSpec:
    return EngineSpec(target=f"{modules(SOURCE, old, new)}:compiled", summary="a traced graph")


def test_a_sound_engine_passes_every_check(modules) -> None:
    results = check_component(spec(modules), "engine")
    assert [outcome.check for outcome in results] == list(checks_of("engine"))
    assert {outcome.status for outcome in results} == {"passed"}


@pytest.mark.parametrize(("check", "old", "new", "words"), BROKEN, ids=[f"{i}-{row[0]}" for i, row in enumerate(BROKEN)])
def test_a_broken_engine_fails(modules, fails, check: str, old: str, new: str, words: str) -> None:
    fails(spec(modules, old, new), check, words)


def test_every_check_is_proved_to_fail(common: set[str]) -> None:
    assert set(checks_of("engine")) == {check for check, *_ in BROKEN} | common


@pytest.mark.parametrize("check", ["importable", "any_batch"])
def test_a_library_that_is_missing_is_a_reason_to_skip(check: str) -> None:
    missing = EngineSpec(target="nowhere:at_all", summary="x", module="no_such_library", install="pip install fast")
    (outcome,) = check_component(missing, "engine", only=[check])
    assert outcome.status == "skipped" and "pip install fast" in outcome.reason
