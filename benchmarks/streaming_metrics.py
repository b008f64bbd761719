"""Judges half a billion pixels in constant memory, beside scikit-learn's exact AUROC on a tenth of them.

    python benchmarks/streaming_metrics.py            # 2,000 maps of 512 x 512, about a minute on two cores
    python benchmarks/streaming_metrics.py --maps 400 # a smaller one

The figures are written to benchmarks/results/streaming_metrics.json, or where --output says.

Each side runs in a process of its own, one after the other, so that their peak memory can be told apart. The maps are made on
the fly, batch by batch, and the time that takes counts for neither side. On a machine that does other things as well, look at
the processor's seconds, not at the clock's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

RESULTS = Path(__file__).parent / "results" / "streaming_metrics.json"
BATCH = 8
METRICS = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "aupro_005")


def batches(count: int, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(maps float32, masks bool), both (B, 1, size, size): heavy-tailed scores, defects of 0.2 to 6 % in every third image."""
    for start in range(0, count, BATCH):
        images = range(start, min(start + BATCH, count))
        generator = torch.Generator().manual_seed(start)
        maps = torch.randn(len(images), 1, size, size, generator=generator)
        masks = torch.zeros_like(maps, dtype=torch.bool)
        for index in images:
            if index % 3 == 0:
                for _ in range(2):
                    height, width = (torch.rand(2, generator=generator) * 0.14 * size + 0.03 * size).int().tolist()
                    top, left = (torch.rand(2, generator=generator) * 0.8 * size).int().tolist()
                    masks[index - start, 0, top : top + height, left : left + width] = True
        yield torch.exp(maps + 1.5 * masks), masks


def streaming(count: int, size: int) -> dict[str, float]:
    """All pixel metrics over all maps: what they say, seconds and peak memory in GiB."""
    from anomaly_core import BaseMetric, Batch, Prediction, Sample, registry

    metrics: list[BaseMetric] = []
    for name in METRICS:
        metric: BaseMetric = registry.metrics[name].build()
        metric.share(metrics)
        metrics.append(metric)
    seconds, processor, pixels = 0.0, 0.0, 0
    for maps, masks in batches(count, size):
        images = len(maps)
        samples = [Sample(Path("map.png"))] * images
        batch = Batch(torch.zeros(images, 3, 1, 1), masks.flatten(1).any(1).long(), masks, torch.ones(images).bool(), samples)
        prediction = Prediction(torch.zeros(images), maps)
        start, own = time.perf_counter(), time.process_time()
        for metric in metrics:
            metric.update(batch, prediction)
        seconds, processor = seconds + time.perf_counter() - start, processor + time.process_time() - own
        pixels += maps.numel()
    start, own = time.perf_counter(), time.process_time()
    values = {name: metric.compute() for name, metric in zip(METRICS, metrics, strict=True)}
    seconds, processor = seconds + time.perf_counter() - start, processor + time.process_time() - own
    return {**values, "pixels": pixels, "seconds": seconds, "processor_seconds": processor, "peak_gib": peak_gib()}


def exact(count: int, size: int) -> dict[str, float]:
    """scikit-learn's AUROC over the first maps: its value, seconds and peak memory in GiB."""
    from sklearn.metrics import roc_auc_score

    scores, labels = np.empty((count, 1, size, size), dtype=np.float32), np.empty((count, 1, size, size), dtype=bool)
    filled = 0
    for maps, masks in batches(count, size):
        scores[filled : filled + len(maps)], labels[filled : filled + len(maps)] = maps.numpy(), masks.numpy()
        filled += len(maps)
    start, own = time.perf_counter(), time.process_time()
    value = float(roc_auc_score(labels.ravel(), scores.ravel()))
    return {
        "pixel_auroc": value,
        "pixels": scores.size,
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - own,
        "peak_gib": peak_gib(),
    }


def peak_gib() -> float:
    """The most memory this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 ** (3 if sys.platform == "darwin" else 2)


def in_own_process(side: str, count: int, size: int) -> dict[str, float]:
    """What one side returns."""
    command = [sys.executable, __file__, "--side", side, "--maps", str(count), "--size", str(size)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: dict[str, float] = json.loads(output)
    return figures


def main() -> None:
    """Run both sides and print the figures."""
    parser = argparse.ArgumentParser(description="Pixel metrics of half a billion pixels, beside scikit-learn's on a tenth.")
    parser.add_argument("--maps", type=int, default=2000, help="how many maps (2000)")
    parser.add_argument("--size", type=int, default=512, help="their height and width in pixels (512)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="file of the figures (%(default)s)")
    parser.add_argument("--side", choices=["streaming", "exact"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps((streaming if given.side == "streaming" else exact)(given.maps, given.size)))
        return
    tenth = max(1, given.maps // 10)
    theirs = in_own_process("exact", tenth, given.size)
    same = in_own_process("streaming", tenth, given.size)
    ours = in_own_process("streaming", given.maps, given.size)
    print(f"{'':34}{'pixels':>13}{'seconds':>10}{'peak GiB':>10}   AUROC")
    rows = [("scikit-learn, AUROC", theirs), ("ours, five metrics, same maps", same), ("ours, five metrics, all maps", ours)]
    for title, row in rows:
        print(f"{title:34}{row['pixels']:>13,}{row['seconds']:>10.2f}{row['peak_gib']:>10.2f}   {row['pixel_auroc']:.8f}")
    print("all maps: " + ", ".join(f"{name} {ours[name]:.6f}" for name in METRICS))
    print(f"difference in AUROC on the same maps: {abs(same['pixel_auroc'] - theirs['pixel_auroc']):.1e}")
    ratio = ours["processor_seconds"] / theirs["processor_seconds"]
    clock = ours["seconds"] / theirs["seconds"]
    print(f"ratio of seconds, ours on all maps : scikit-learn on a tenth = {ratio:.2f} (processor), {clock:.2f} (clock)")
    figures = {
        "maps": given.maps,
        "size": given.size,
        "scikit_learn_auroc_of_a_tenth": theirs,
        "streaming_of_the_same_tenth": same,
        "streaming_of_all": ours,
        "ratio_of_processor_seconds_all_to_scikit_learns_tenth": ratio,
        "ratio_of_seconds_all_to_scikit_learns_tenth": clock,
        "difference_in_auroc_on_the_same_maps": abs(same["pixel_auroc"] - theirs["pixel_auroc"]),
        "under_2_gib": ours["peak_gib"] < 2,
        "faster_than_scikit_learn_on_a_tenth": ratio < 1 and clock < 1,
        "cpu_cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {name: metadata.version(name) for name in ("numpy", "scikit-learn", "torch")},
    }
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
