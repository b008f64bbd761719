"""What the benchmarks share: the same images for all, sides measured in turn, and the machine that it was."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
import elpv_split
import torch

from anomaly_core import BaseDataModule, BaseModeler, ModelContext, RunConfig, registry

HERE = Path(__file__).resolve().parent
INSTRUCTIONS = "avx2 avx512_f avx_vnni avx512_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_int8".split()
LIMITS = "ONEDNN_MAX_CPU_ISA MKL_ENABLE_INSTRUCTIONS ATEN_CPU_CAPABILITY".split()  # make a processor like a lesser one


def machine() -> str:
    """Two lines: the processor and its instruction sets; cores, threads, Python and libraries."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "timm", "numpy"))
    return (
        f"{processor()}\n{os.cpu_count()} cores ({platform.machine()}), {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, {versions}"
    )


def processor() -> str:
    """The processor's name and those instruction sets on which figures depend: rows hold for machines that have the same."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    sets = [one for one in INSTRUCTIONS if has.get(one)] or [torch.backends.cpu.get_cpu_capability().lower()]
    limits = [f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ]
    return f"{name}: {' '.join(sets)}" + (f" (limited by {', '.join(limits)})" if limits else "")


class Measured(NamedTuple):
    """A process that ended: what it printed, and its seconds on the clock, in the kernel, its peak and its page faults."""

    text: str
    wall: float
    system: float
    peak_mb: float
    faults: int


def measured(command: Sequence[str], environment: Mapping[str, str] | None = None, limit: float | None = None) -> Measured:
    """Run a process to its end; what it leaves in its working folder is thrown away.

    Raises:
        TimeoutError: it took longer than ``limit`` seconds, and was stopped.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}, cwd=folder
        )
        timer = threading.Timer(limit or 0, process.kill)
        if limit:
            timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if limit and wall >= limit:
        raise TimeoutError(f"stopped after {limit:g} s")
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{text[-2000:]}")
    return Measured(text, wall, usage.ru_stime, _mb(usage.ru_maxrss), usage.ru_minflt)


def _mb(maxrss: int) -> float:
    return maxrss / 1024 ** (2 if sys.platform == "darwin" else 1)


def environment(checkout: Path | None = None, threads: int | None = None, allocator: str = "default") -> dict[str, str]:
    """What makes a process use another checkout's code, so many threads, and an allocator that keeps its memory.

    ``allocator=kept`` sets what glibc reads at a process's start; other allocators ignore it.
    """
    variables = {}
    if checkout is not None:
        folders = [checkout, *sorted((checkout / "plugins").glob("*/src"))]
        variables["PYTHONPATH"] = os.pathsep.join(str(folder.resolve()) for folder in folders)
    if threads is not None:
        variables |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    if allocator == "kept":
        variables |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**26)}
    return variables


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the benchmarks that start whole processes."""
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout, measured in turn with this one")
    parser.add_argument("--peer", metavar="PYTHON", help="the Python of a virtual environment with anomalib (vs_anomalib.py)")
    parser.add_argument("--threads", type=int, help="of every side; its own default where this is left out")
    parser.add_argument("--allocator", choices=["default", "kept"], default="default", help="of every side; see bench.py")


def checkouts(before: Path | None) -> dict[str, Path]:
    """The sides of ours."""
    return {"now": HERE.parent} | ({"before": before} if before else {})


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
    return _mb(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


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
