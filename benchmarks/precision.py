"""What bfloat16 and INT8 cost and gain: a detector fitted in each engine, beside the first, on the same images.

    python benchmarks/precision.py                                     # PatchCore `edge` on ELPV mono
    python benchmarks/precision.py --category poly
    python benchmarks/precision.py --model padim
    python benchmarks/precision.py --data sample --category fabric
    python benchmarks/precision.py --engine torch --engine onnx --engine openvino     # do they agree?

Each engine fits, sets its threshold and tests by itself. Scores and maps of the test images are compared with those of the
first engine: Pearson's r, and the greatest difference by the greatest value. The network's milliseconds an image are medians
of rounds in which the engines take turns, in batches of 16.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
import numpy as np
import torch
from bench import machine
from sklearn.metrics import f1_score, roc_auc_score

from anomaly_core import RunConfig, run_experiment
from anomaly_predict import RunDetector, load_run

ENGINES = ("openvino", "openvino_bf16", "openvino_int8")
BATCH, MAPS = 16, 64  # images that the network computes at once, and that maps are compared on


class Fitted(NamedTuple):
    detector: RunDetector
    labels: np.ndarray
    scores: np.ndarray
    maps: np.ndarray
    threshold: float
    paths: list[Path]


def fitted(options: argparse.Namespace, engine: str, output: Path) -> Fitted:
    overrides: dict[str, Any] = {
        "model.engine": engine,
        "data.category": [options.category],
        "base.output": str(output),
        "base.pictures": 0,
        **dict(text.split("=", 1) for text in options.set),
    }
    config = RunConfig.create(model=options.model, data=options.data, preset=options.preset, overrides=overrides)
    result = run_experiment(config).runs[0]
    detector = load_run(result.folder, device="cpu")
    paths = [Path(row.path) for row in result.predictions]
    labels = np.array([row.label for row in result.predictions])
    scores = np.array([row.score for row in result.predictions])
    few = paths[:: max(1, len(paths) // MAPS)]
    maps = detector.predict(few).maps
    return Fitted(detector, labels, scores, np.asarray(maps), float(result.calibration.threshold or 0), paths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="patchcore")
    parser.add_argument("--preset", default="edge")
    parser.add_argument("--data", default="elpv")
    parser.add_argument("--category", default="mono")
    parser.add_argument("--engine", action="append", help=f"{', '.join(ENGINES)} by default; the others are beside the first")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = {engine: fitted(options, engine, Path(folder) / engine) for engine in options.engine or ENGINES}
        print(f"{machine()}\n{options.model} {options.preset}, {options.data} {options.category}\n")
        print_table(runs, network_ms({engine: run.detector for engine, run in runs.items()}, options.rounds, runs))


def network_ms(detectors: dict[str, RunDetector], rounds: int, runs: dict[str, Fitted]) -> dict[str, float]:
    first = next(iter(runs.values()))
    pixels = np.stack([first.detector.decode(path) for path in first.paths[:BATCH]])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float().div_(255)
    times: dict[str, list[float]] = {engine: [] for engine in detectors}
    with torch.inference_mode():
        for _ in range(rounds + 1):  # the first compiles
            for engine, detector in detectors.items():
                start = time.perf_counter()
                detector.modeler.extractor(images)
                times[engine].append(1000 * (time.perf_counter() - start) / len(images))
    return {engine: statistics.median(each[1:]) for engine, each in times.items()}


def print_table(runs: dict[str, Fitted], network: dict[str, float]) -> None:
    first = next(iter(runs.values()))
    names = (
        "engine",
        "network ms",
        "AUROC",
        "F1",
        "threshold",
        "found",
        "false alarms",
        "scores r",
        "differ",
        "maps r",
        "differ",
    )
    rows = [names, ("---",) * len(names)]
    for engine, run in runs.items():
        above, defective = run.scores > run.threshold, run.labels == 1
        rows.append(
            (
                engine,
                f"{network[engine]:.2f}",
                f"{roc_auc_score(run.labels, run.scores):.4f}",
                f"{f1_score(run.labels, above):.4f}",
                f"{run.threshold:.5g}",
                f"{(above & defective).sum()} / {defective.sum()}",
                f"{(above & ~defective).sum()} / {(~defective).sum()}",
                *agreement(run.scores, first.scores),
                *agreement(run.maps, first.maps),
            )
        )
    for row in rows:
        print("| " + " | ".join(row) + " |")


def agreement(values: np.ndarray, expected: np.ndarray) -> tuple[str, str]:
    """Pearson's r, and the greatest difference by the greatest value."""
    one, other = values.ravel().astype(float), expected.ravel().astype(float)
    return f"{np.corrcoef(one, other)[0, 1]:.5f}", f"{np.abs(one - other).max() / np.abs(other).max():.1e}"


if __name__ == "__main__":
    main()
