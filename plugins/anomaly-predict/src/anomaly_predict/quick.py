"""A finished run opened without torch, by the graph that it keeps for another engine, where that computes the same."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from anomaly_core import Component, Detector, PluginError, RunConfig, RunFolder, registry

ANY = "auto"  # as an engine: the run leaves open which


def open_quickly(folder: Path, device: str = "auto", engine: str | None = None, threads: int | None = None) -> Detector | None:
    """The detector of a finished run from the graph that it keeps; None if it keeps none, or torch is needed.

    Raises:
        RunError: the folder is not a complete run, or one of its files is damaged.
    """
    run = RunFolder.open(folder)
    config = run.config()
    component = quick_engine(config, device, engine)
    return None if component is None else component.load("opener")(run, config, component.name, threads)


def keep(folder: Path, device: str, engine: str | None, images: int | Sequence[Any]) -> str:
    """Have a finished run keep a graph for :func:`open_quickly`; returns what there is to say of it, or nothing.

    Raises:
        RunError: the run is damaged, or its folder cannot be written.
        DataError: one of the images, which are compared, cannot be read.
    """
    component = quick_engine(RunFolder.open(folder).config(), device, engine)
    return "" if component is None else component.load("keeper")(folder, component.name, images)


def quick_engine(config: RunConfig, device: str = "auto", engine: str | None = None) -> Component | None:
    """The engine that opens a run without torch; None if torch is needed or none is installed.

    Torch is needed on a GPU, for an engine that is named and opens no runs (``torch`` and those of lower precision), for
    ``data.tile``, whose graph would see one input of fixed size, and for an approximate search, since graphs search exactly.
    """
    own = getattr(config.model, "engine", None)  # methods without a frozen network have none, and none may be named for them
    name = engine or own or ANY
    if name == ANY:
        name = os.environ.get("ANOMALY_ENGINE") or ANY  # what `auto` is, where somebody has set it
    gpu = device not in ("auto", "cpu") or (device == "auto" and has_gpu())
    if gpu or (engine and not own) or config.data.tile is not None or getattr(config.model, "search", "exact") != "exact":
        return None
    # of several, the first by name: ONNX Runtime opens a graph in a third of the time that OpenVINO takes
    for known in sorted(registry.engines) if name == ANY else [name]:
        with suppress(PluginError):  # one that is broken, or whose library is not installed
            component = registry.engines[known]
            if component.spec.opener and (name != ANY or component.spec.auto is not None):
                component.require_library()
                return component
    return None


def has_gpu() -> bool:
    """Whether torch, which is not imported, may find a GPU: it is installed, and so is the driver of one."""
    if find_spec("torch") is None or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    if platform.system() == "Windows":
        return Path(os.environ.get("SYSTEMROOT", "C:/Windows"), "System32", "nvcuda.dll").exists()
    return any(Path("/dev", name).exists() for name in ("nvidiactl", "kfd", "dxg"))  # NVIDIA, AMD, either below Windows
