"""PatchCore's `edge` preset on ELPV, side by side: engines (torch, ONNX Runtime, OpenVINO, exported files) and searches.

    python benchmarks/engines.py                      # coreset 1 %; 5 rounds
    python benchmarks/engines.py --ratio 0.1          # the bank in which search matters

Medians of rounds in which every variant takes its turn, so that a busy machine slows all alike; from file to score on one
process. Decode, network and search are timed apart, each alone. Markdown on standard output.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import elpv_split
import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from anomaly_core import RunConfig, run_experiment
from anomaly_export import ExportedDetector, export_run
from anomaly_predict import load_run, verdicts

SEARCHES = ("exact", "ivf", "hnsw")
ENGINES = ("torch", "onnx", "openvino", "openvino_bf16")
BATCH = 16


def fit(root: Path, search: str, ratio: float, output: Path) -> Path:
    overrides = {
        "data.root": str(root),
        "model.search": search,
        "model.coreset_ratio": ratio,
        "base.output": str(output),
        "base.pictures": 0,
    }
    config = RunConfig.create(model="patchcore", data="folder", preset="edge", overrides=overrides)
    return run_experiment(config).runs[0].folder


def split_of(detector: Any, paths: list[Path]) -> tuple[float, float, float]:
    """Milliseconds an image of decoding, network and search with map, each alone."""
    few = paths[: 4 * BATCH]
    start = time.perf_counter()
    arrays = [detector.decode(path) for path in few]
    decode = time.perf_counter() - start
    modeler = detector.modeler
    network = search = 0.0
    with torch.inference_mode():
        for begin in range(0, len(arrays), BATCH):
            images = (
                torch.from_numpy(np.stack(arrays[begin : begin + BATCH])).permute(0, 3, 1, 2).contiguous().float().div_(255)
            )
            start = time.perf_counter()
            features = modeler.extractor(images)
            middle = time.perf_counter()
            modeler.model(features, images.shape[-2:])
            network, search = network + middle - start, search + time.perf_counter() - middle
    return tuple(1000 * seconds / len(few) for seconds in (decode, network, search))  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratio", type=float, default=0.01, help="coreset ratio")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kind", choices=["mono", "poly"], default="mono")
    parser.add_argument("--images", type=int, default=200, help="test images, evenly spread")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        elpv_split.split(Path(scratch))
        root = Path(scratch) / f"elpv_{options.kind}"
        paths = sorted((root / "test").rglob("*.png"))
        paths = paths[:: max(1, len(paths) // options.images)][: options.images]
        labels = [int(path.parent.name != "good") for path in paths]
        runs = {search: fit(root, search, options.ratio, Path(scratch) / "runs") for search in SEARCHES}
        variants: dict[str, Any] = {
            f"{engine}, {search}": load_run(runs[search], device="cpu", engine=engine)
            for search in SEARCHES
            for engine in ENGINES
        }
        for name, file in (("onnx", "onnx"), ("openvino", "openvino")):
            report = export_run(runs["exact"], file, Path(scratch) / f"model{'.onnx' if file == 'onnx' else '.xml'}")
            print(f"{report}\n", file=sys.stderr)
            variants[f"exported {name}, exact"] = ExportedDetector(report.path)
        print_table(measure(variants, paths, labels, options.rounds), options)


def measure(variants: dict[str, Any], paths: list[Path], labels: list[int], rounds: int) -> list[list[str]]:
    speeds: dict[str, list[float]] = {name: [] for name in variants}
    parts: dict[str, list[tuple[float, float, float]]] = {name: [] for name in variants}
    aurocs: dict[str, float] = {}
    for number in range(rounds + 1):  # the first round compiles and warms up
        for name, detector in variants.items():
            start = time.perf_counter()
            scores = [verdict.score for verdict in verdicts(detector, paths, batch_size=BATCH)]
            seconds = time.perf_counter() - start
            aurocs[name] = roc_auc_score(labels, scores)
            if number:
                speeds[name].append(1000 * seconds / len(paths))
                if hasattr(detector, "modeler"):
                    parts[name].append(split_of(detector, paths))
    rows = []
    baseline = statistics.median(speeds["torch, exact"])
    for name in variants:
        each = statistics.median(speeds[name])
        apart = [f"{statistics.median(column):.2f}" for column in zip(*parts[name], strict=True)] or ["", "", ""]
        rows.append([name, f"{each:.2f}", f"{1000 / each:.0f}", f"{baseline / each:.2f}", *apart, f"{aurocs[name]:.4f}"])
    return rows


INSTRUCTIONS = ("avx2", "avx512_vnni", "avx512_bf16", "amx_int8")


def processor() -> str:
    """Its name, and the instructions on which the rows depend."""
    name, has = platform.processor() or platform.machine(), []
    if (facts := Path("/proc/cpuinfo")).is_file():
        lines = dict(line.split(":", 1) for line in facts.read_text().splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in lines.items()}
        flags = fields.get("flags", "").split()
        name, has = fields.get("model name", name), [flag for flag in INSTRUCTIONS if flag in flags]
    return f"{name}: {', '.join(has) or 'instruction sets unknown'}"


def print_table(rows: list[list[str]], options: argparse.Namespace) -> None:
    header = ["engine, search", "ms an image", "images/s", "x torch", "decode ms", "network ms", "search ms", "image AUROC"]
    print(
        f"{processor()}\n"
        f"ELPV {options.kind}, coreset {options.ratio:g}, {torch.get_num_threads()} threads, {os.cpu_count()} cores, "
        f"{options.images} images, medians of {options.rounds} rounds\n"
    )
    for row in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
