"""An observer of every hook, which notes what it is told; installed as a distribution would be."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from anomaly_core import registry

DIARY = """
    from anomaly_core import HOOKS, HookSpec, hookimpl

    PAGES, WORK = [], {}
    SPEC = HookSpec(target="fake_diary:OBSERVERS", summary="notes everything")


    class Observers:
        pass


    def observer(name, arguments):
        source = f"def {name}(self, {', '.join(arguments)}): note({name!r}, dict({', '.join(f'{a}={a}' for a in arguments)}))"
        scope = {"note": note}
        exec(source, scope)
        return hookimpl(scope[name])


    def note(name, arguments):
        PAGES.append((name, arguments))
        if name in WORK:
            WORK[name](**arguments)


    for name, arguments in {
        "anomaly_configure": ["config"], "anomaly_run_start": ["run"], "anomaly_log": ["run", "metrics", "step"],
        "anomaly_normals_scored": ["run", "batch", "prediction", "input_spec"],
        "anomaly_calibrated": ["run", "normals", "calibration"],
        "anomaly_scored": ["run", "batch", "prediction", "rows", "calibration", "input_spec"],
        "anomaly_tested": ["run", "rows", "calibration"], "anomaly_run_end": ["run", "results"],
        "anomaly_run_error": ["run", "error"],
        "anomaly_predicted": ["verdict", "image", "prediction", "detector", "picture"], "anomaly_doctor": ["report"],
    }.items():
        setattr(Observers, name, observer(name, arguments))
    OBSERVERS = Observers()
"""


@pytest.fixture
def diary(distributions) -> Any:
    """The observer's module: ``PAGES`` is what it was told, ``WORK`` what it does besides, by the name of the hook."""
    distributions.install("anomaly-diary", points={"hooks": {"diary": "fake_diary:SPEC"}}, files={"fake_diary.py": DIARY})
    registry.refresh()
    for component in registry.hooks.values():
        component.load()
    yield sys.modules["fake_diary"]
    registry.refresh()


def told(diary: Any) -> list[str]:
    """The hooks in the order in which they were called, without repeats."""
    names = [name.removeprefix("anomaly_") for name, _ in diary.PAGES]
    return [name for index, name in enumerate(names) if names[index - 1 : index] != [name]]


def pages(diary: Any, name: str) -> list[dict[str, Any]]:
    return [arguments for other, arguments in diary.PAGES if other == f"anomaly_{name}"]
