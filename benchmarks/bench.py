"""What the benchmarks share: the same images for all, sides measured in turn, and the machine that it was."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import elpv_split
import torch

from anomaly_core import BaseDataModule, BaseModeler, ModelContext, RunConfig, registry


def machine() -> str:
    """One line: cores, threads, Python and libraries."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "timm", "numpy"))
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, {versions}"
    )


def in_turn(sides: Mapping[str, Callable[[], Any]], repeats: int = 5) -> dict[str, float]:
    """Median seconds of each side; they take turns, so that other work on the machine slows all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_mb() -> float:
    """The most memory that this process ever held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 ** (2 if sys.platform == "darwin" else 1)


def split_folders() -> dict[str, Path]:
    """The side-by-side split of ELPV (`elpv_split.py`), written once: its folders by kind of cell."""
    mono, poly = elpv_split.split(Path(tempfile.gettempdir()) / "elpv_split")
    return {"mono": mono, "poly": poly}


def prepared(
    model: str, kind: str = "mono", *, weights: bool = True, **overrides: Any
) -> tuple[RunConfig, BaseDataModule, BaseModeler]:
    """A method's `edge` preset on the split, all 200 training images to fit on; ``weights=False``: a random backbone."""
    options = {"data.root": str(split_folders()[kind]), "data.holdout": 0.0, **overrides}
    config = RunConfig.create(model=model, data="folder", preset="edge", overrides=options)
    component = registry.datasets["folder"]
    data: BaseDataModule = component.build(config.data, seed=0, spec=component.spec)
    torch.manual_seed(0)
    modeler: BaseModeler = registry.models[model].build(config.model, ModelContext(pretrained=weights))
    return config, data, modeler
