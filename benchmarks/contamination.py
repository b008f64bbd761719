"""Defects among the images that a detector learns from: what they cost, and what leaving out the suspects gives back.

    ANOMALY_BLOCK=anomaly-report OMP_NUM_THREADS=1 python benchmarks/contamination.py
    ANOMALY_BLOCK=anomaly-report OMP_NUM_THREADS=1 python benchmarks/contamination.py "ELPV mono" --seeds 3

PatchCore's `edge` preset on the ELPV split (`elpv_split.py`: 200 normal training images; 100 normal and 100 defective others)
and on two categories of `sample` (60; 20 and 40). A seed draws defective images; 1, 5 or 10 % as many as there are normal ones
are planted among these, labelled normal, and no image that is planted in any run of the seed tests any. Each row is the mean
over the seeds (0, 1, 2): AUROC, recall and false alarms at the threshold for 1 % of false alarms, without planted images
(clean), with them, and fitted again with `data.drop_suspects=true`. Features are cached on disk; the runs are ordinary ones.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import bench
import numpy as np

from anomaly_core import ANOMALOUS, NORMAL, RunConfig, RunFolder, Sample, build_data, run_experiment

SHARES = (0.01, 0.05, 0.1)
OUTPUT = Path("experiments/contamination")


class Outcome(NamedTuple):
    """Of one run: AUROC, recall and rate of false alarms; normal images that stand out, and planted ones among them."""

    auroc: float
    recall: float
    false_alarms: float
    clean_suspects: int
    planted_suspects: int


def sets() -> dict[str, RunConfig]:
    """Configs that name the images of each set."""
    roots = {f"ELPV {kind}": folder for kind, folder in bench.split_folders().items()}
    configs = {
        name: RunConfig.create(model="patchcore", data="folder", overrides={"data.root": str(root)})
        for name, root in roots.items()
    }
    for category in ("fabric", "circuit"):
        overrides = {"data.category": [category]}
        configs[f"sample {category}"] = RunConfig.create(model="patchcore", data="sample", overrides=overrides)
    return configs


def run(name: str, train: list[Sample], planted: list[Sample], test: list[Sample], seed: int, drop: bool) -> Outcome:
    """Fit on normal and planted images alike, and test."""
    listed = OUTPUT / f"{name.replace(' ', '-')}-{len(planted)}-{seed}.csv"
    listed.parent.mkdir(parents=True, exist_ok=True)
    with listed.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split", "category"))
        for sample in (*train, *planted):
            writer.writerow((sample.path.absolute(), "normal", "train", name))
        for sample in test:
            writer.writerow((sample.path.absolute(), "abnormal" if sample.label == ANOMALOUS else "normal", "test", name))
    overrides: dict[str, Any] = {"data.list": str(listed), "data.drop_suspects": drop, "base.seed": seed, "base.pictures": 0}
    overrides |= {"base.output": str(OUTPUT), "base.metrics": ["image_auroc", "image_recall"], "base.device": "cpu"}
    overrides |= {"model.feature_cache": "disk", "model.cache_folder": str(OUTPUT / "cache"), "model.cache_budget": "8GiB"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (result,) = run_experiment(RunConfig.create(model="patchcore", data="folder", preset="edge", overrides=overrides)).runs
    normal = [row.is_anomalous for row in result.predictions if row.label == NORMAL]
    defects = {str(sample.path.absolute()) for sample in planted}
    odd = {row.path for row in RunFolder.open(result.folder).normals() if (row.dropped if drop else row.suspect)}
    auroc, recall = (float(result.metrics[metric] or 0) for metric in ("image_auroc", "image_recall"))
    return Outcome(auroc, recall, float(np.mean(normal)), len(odd - defects), len(odd & defects))


def rows_of(name: str, config: RunConfig, seeds: int) -> list[str]:
    """The rows of a set's table, of which the first plants nothing."""
    data = build_data(config)
    (category,) = data.chosen_categories()
    train, tested = data.train_samples(category), data.test_samples(category)
    bad = [sample for sample in tested if sample.label == ANOMALOUS]
    counts = [0, *(max(1, round(share * len(train))) for share in SHARES)]
    found: dict[int, list[tuple[Outcome, Outcome]]] = {count: [] for count in counts}
    for seed in range(seeds):
        pool = [bad[i] for i in np.random.default_rng(seed).permutation(len(bad))[: counts[-1]]]
        test = [sample for sample in tested if sample not in pool]
        for count in counts:
            with_them = run(name, train, pool[:count], test, seed, drop=False)
            without = run(name, train, pool[:count], test, seed, drop=True) if sum(with_them[3:]) else with_them
            found[count].append((with_them, without))
            print(f"{name}, seed {seed}, {count} planted: {with_them} -> {without}", flush=True)
    lines = []
    clean = np.mean([before for before, _ in found[0]], axis=0)
    for count, pairs in found.items():
        before, after = (np.mean(part, axis=0) for part in zip(*pairs, strict=True))
        cells = [f"{clean[i]:.3f} / {before[i]:.3f} / {after[i]:.3f}" for i in range(3)]
        planted = f"{before[4]:.1f} of {count}" if count else "-"
        lines.append(
            f"| {name} | {count} in {len(train) + count} | {' | '.join(cells)} | {planted} | {before[3]:.1f} of {len(train)} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Clean, contaminated, and contaminated without the suspects.")
    known = sets()
    parser.add_argument("names", nargs="*", metavar="SET", help=f"of {', '.join(known)}; all by default")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="draws of the planted images (%(default)s)")
    given = parser.parse_args()
    print(bench.machine())
    lines = [line for name in given.names or known for line in rows_of(name, known[name], given.seeds)]
    titles = ["set", "planted", "AUROC", "recall", "false alarms", "planted found", "good ones marked"]
    print("", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|", *lines, sep="\n")


if __name__ == "__main__":
    main()
