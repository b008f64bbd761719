"""What a handful of known defects brings: image AUROC of SuperSimpleNet that was given 0, 1, 5 or 20 of them.

    ANOMALY_BLOCK=anomaly-report OMP_NUM_THREADS=1 python benchmarks/known_defects.py elpv
    ANOMALY_BLOCK=anomaly-report OMP_NUM_THREADS=1 python benchmarks/known_defects.py magnetic_tile --root DIR --seeds 5

The `edge` preset on ELPV mono (which has no masks) and on magnetic tiles, divided by tile (`data.by_tile`). A seed draws the
defects and all else that is random; of fewer defects, each is among those of more. All rows of a seed are judged on the same
images: those that the run with most defects tests, which are neither given in any row nor, of magnetic tiles, show a tile that
was given. Runs are ordinary ones, and complete ones are not repeated: stop it and start it again as you like.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import bench
import numpy as np
import torch

from anomaly_core import ANOMALOUS, RunConfig, RunResult, parse_assignment, run_experiment
from anomaly_metrics import auroc

OUTPUT = "experiments/known_defects"
SETS: dict[str, dict[str, Any]] = {"elpv": {"data.category": ["mono"]}, "magnetic_tile": {"data.by_tile": True}}


def run(name: str, root: str | None, seed: int, options: dict[str, Any]) -> RunResult:
    """A finished run, or the same of an earlier call."""
    common = {"base.output": OUTPUT, "base.pictures": 0, "base.metrics": ["image_auroc"], "base.device": "cpu"}
    cache = {"model.feature_cache": "disk", "model.cache_folder": f"{OUTPUT}/cache", "model.cache_budget": "4GiB"}
    given = {"data.root": root} if root else {}
    overrides = {**common, "base.seed": seed, **cache, **SETS[name], **given, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = RunConfig.create(model="supersimplenet", data=name, preset="edge", overrides=overrides)
        (result,) = run_experiment(config, resume=True).runs
    return result


def judged(result: RunResult, paths: set[str]) -> float:
    """The AUROC of a run on some of its test images."""
    rows = [row for row in result.predictions if row.path in paths]
    scores, labels = torch.tensor([row.score for row in rows]), torch.tensor([row.label == ANOMALOUS for row in rows])
    return float(auroc(scores, labels))


def main() -> None:
    parser = argparse.ArgumentParser(description="Image AUROC by the number of known defects.")
    parser.add_argument("name", choices=SETS, help="the data set")
    parser.add_argument("--root", metavar="DIR", help="where it lies")
    parser.add_argument("--counts", type=int, nargs="+", default=[0, 1, 5, 20], metavar="N", help="defects (%(default)s)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="draws of the defects (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an option of every SuperSimpleNet")
    given = parser.parse_args()
    more = dict(parse_assignment(text) for text in given.set)
    print(bench.machine())
    found: dict[str, list[float]] = {}
    for seed in range(given.seeds):
        runs = {
            f"{count} defects": run(given.name, given.root, seed, {"data.abnormal_train": count, **more})
            for count in sorted(given.counts, reverse=True)
        }
        paths = {row.path for row in next(iter(runs.values())).predictions}
        for kind, result in runs.items():
            found.setdefault(kind, []).append(judged(result, paths))
        said = ", ".join(f"{kind} {each[-1]:.3f}" for kind, each in found.items())
        print(f"seed {seed}, {len(paths)} images: {said}", flush=True)
    print(f"\n| {given.name} | image AUROC, mean of {given.seeds} draws | least to most |\n|---|---|---|")
    for kind, each in found.items():
        print(f"| {kind} | {np.mean(each):.3f} | {min(each):.3f} to {max(each):.3f} |")


if __name__ == "__main__":
    main()
