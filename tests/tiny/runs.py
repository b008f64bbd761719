"""Configs of tiny runs, and what tests ask of their results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anomaly_core import RunConfig, RunResult, RunResults


def config(
    output: Path, *, model: str = "palette", data: str = "weave", preset: str | None = None, **options: Any
) -> RunConfig:
    """Of a run below ``output``, on the woven textures (one category) or another data set; ``options`` are set last.

    >>> config(folder, **{"model.share": 0.5})
    """
    common: dict[str, Any] = {"base.output": str(output / "runs"), "data.holdout": 0.25, "data.batch_size": 4}
    if data == "weave":
        common |= {"data.root": str(output / "weave"), "data.category": ["linen"]}
    return RunConfig.create(model=model, data=data, preset=preset, overrides={**common, **options})


def arguments(config: RunConfig) -> list[str]:
    """The command line of such a run."""
    sections = config.to_dict()
    names = ["run", "--model", sections["model"].pop("name"), "--data", sections["data"].pop("name")]
    pairs = ((f"{section}.{key}", value) for section, values in sections.items() for key, value in values.items())
    return names + [part for key, value in pairs if value is not None for part in ("--set", f"{key}={_text(value)}")]


def _text(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def scores(result: RunResult | RunResults) -> np.ndarray:
    """Of the test images, in their order."""
    return np.array([row.score for row in result.predictions])


def log_of(result: RunResults) -> str:
    """The run's log."""
    return (result.runs[0].folder / "log.txt").read_text()
