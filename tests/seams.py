"""What the tests of the seams share: components that are registered for a while, and small runs that nobody observes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from anomaly_core import ComponentSpec, Hooks, Registry, RunConfig, RunFolder, RunResults, registry, run_experiment
from tiny.plugin import WEAVE

NOBODY = cast(Registry, SimpleNamespace(components=list))


@contextmanager
def added(**specs: ComponentSpec) -> Iterator[None]:
    """The components can be named in a config; and ``weave``, the drawn data set, always can."""
    specs = {"weave": WEAVE, **specs}
    for name, spec in specs.items():
        registry.add(name, spec)
    try:
        yield
    finally:
        for name, spec in specs.items():
            registry.remove(name, spec.kind)


def config(output: Path, model: str, data: str = "weave", **options: Any) -> RunConfig:
    """Of a run below ``output`` on one category of small drawn pictures; ``options`` are set last."""
    common: dict[str, Any] = {
        "base.output": str(output / "runs"),
        "base.metrics": ["image_auroc"],
        "base.device": "cpu",
        "data.root": str(output / data),
        "data.batch_size": 4,
        "data.holdout": 0.25,
        "model.image_size": 32,
    }
    if data == "weave":
        common["data.category"] = ["linen"]
    return RunConfig.create(model=model, data=data, overrides={**common, **options})


def run(config: RunConfig, **more: Any) -> RunResults:
    """The run, which no observer watches."""
    return run_experiment(config, **{"hooks": Hooks(NOBODY), **more})


class Interrupting(Hooks):
    """Presses Ctrl-C after an epoch: only that is no failure of an observer."""

    def __init__(self, epoch: int) -> None:
        super().__init__(NOBODY)
        self._epoch = epoch

    def call(self, name: str, **arguments: Any) -> None:
        if name == "anomaly_log" and arguments["step"] == self._epoch:
            raise KeyboardInterrupt


def interrupted(config: RunConfig, after: int) -> RunFolder:
    """The run's folder after Ctrl-C at the end of an epoch."""
    with pytest.raises(KeyboardInterrupt):
        run(config, hooks=Interrupting(after))
    (manifest,) = Path(config.base.output).rglob("manifest.json")
    return RunFolder(manifest.parent)


def scores(results: RunResults) -> list[float]:
    """Of the test images, in their order."""
    return [row.score for row in results.predictions]


def log_of(results: RunResults) -> str:
    """The run's log."""
    return (results.folder / "log.txt").read_text(encoding="utf-8")
