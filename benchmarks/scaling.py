"""PatchCore's fit time and peak memory against the number of training images, without and within a memory budget.

    python benchmarks/scaling.py                       # 100, 400, 1,600 and 6,400 images; draws scaling.png
    python benchmarks/scaling.py --sizes 100 400       # a smaller one

Each cell is a process of its own. Images are the ELPV split's, turned and with their brightness jittered, made on the way;
`edge` preset, 1 % coreset. Without a budget all patches are held, at most up to --largest-unbounded images.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import bench
import torch

BUDGET = "256MiB"
BATCH = 32


def fit(count: int, budget: str | None, engine: str) -> dict[str, float]:
    options = {"model.memory_budget": budget, "model.engine": engine}
    _, data, modeler = bench.prepared("patchcore", **{k: v for k, v in options.items() if v is not None})
    modeler.eval()
    samples = data.train_samples(data.categories()[0])
    images = torch.cat([batch.images for batch in data.loader(samples, modeler.input_spec)])
    before, start = bench.peak_mb(), time.perf_counter()
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for done in range(0, count, BATCH):
            chosen = torch.randint(len(images), (min(BATCH, count - done),), generator=generator)
            turns = int(torch.randint(4, (1,), generator=generator))
            light = 0.9 + 0.2 * torch.rand(len(chosen), 1, 1, 1, generator=generator)
            modeler.collect((images[chosen].rot90(turns, (2, 3)) * light).clamp(0, 1))
        collected = time.perf_counter() - start
        modeler.build()
    seconds = time.perf_counter() - start
    facts = modeler.describe()
    return {
        "seconds": seconds,
        "collect": collected,
        "peak_mb": bench.peak_mb(),
        "before_mb": before,
        "bank": facts["memory_bank_size"],
        "radius": facts["coreset_radius"],
    }


def draw(rows: dict[str, dict[int, dict[str, float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, (key, label) in zip(axes, [("seconds", "fit, seconds"), ("peak_mb", "peak memory, MB")], strict=True):
        for name, cells in rows.items():
            axis.plot(list(cells), [cell[key] for cell in cells.values()], marker="o", label=name)
        axis.set(xscale="log", yscale="log", xlabel="training images", ylabel=label)
        axis.set_xticks(sorted({n for cells in rows.values() for n in cells}), labels=None)
        axis.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
        axis.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 400, 1600, 6400])
    parser.add_argument("--largest-unbounded", type=int, default=1600)
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        count, budget = given.one
        print(json.dumps(fit(int(count), None if budget == "none" else budget, given.engine)))
        return
    print(bench.machine())
    print(
        f"\n{'budget':10}{'images':>8}{'collect s':>11}{'fit s':>9}{'ms/image':>10}{'peak MB':>9}{'bank':>8}{'radius <=':>11}"
    )
    rows: dict[str, dict[int, dict[str, float]]] = {}
    for budget in ("none", BUDGET):
        for count in given.sizes:
            if budget == "none" and count > given.largest_unbounded:
                continue
            command = [sys.executable, __file__, "--engine", given.engine, "--one", str(count), budget]
            cell = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
            rows.setdefault(f"budget {budget}" if budget != "none" else "no budget", {})[count] = cell
            print(
                f"{budget:10}{count:8}{cell['collect']:11.1f}{cell['seconds']:9.1f}{1000 * cell['seconds'] / count:10.1f}"
                f"{cell['peak_mb']:9.0f}{cell['bank']:8.0f}{cell['radius']:11.3f}",
                flush=True,
            )
    draw(rows, Path(__file__).with_name("scaling.png"))


if __name__ == "__main__":
    main()
