"""Greedy k-center of 156,800 x 152 patches: ours beside two loops over all points, in one run, with the same picks.

    python benchmarks/coreset.py                   # features of 200 solar cells (ELPV, the `edge` backbone)
    python benchmarks/coreset.py --data synthetic  # low rank and noise instead; needs no data set
    python benchmarks/coreset.py --quick           # the loops are measured on 100 picks only; no picks are compared
    python benchmarks/coreset.py --growth --other CHECKOUT/plugins/anomaly-patchcore/src/anomaly_patchcore/coreset.py
                                                   # 1 % of 400 and 1,600 images' patches, projected to 64 values; exponents
    python benchmarks/coreset.py --growth --sizes 400,1600,6400   # the last needs 3 GB and minutes

- `plain`: a pick costs one `torch.linalg.norm(points - points[pick], dim=1)`. Run in full at 1 %; at 10 % its time is
  extrapolated from there, since each of its picks costs the same.
- `products`: a pick costs one matrix-vector product, |x|^2 - 2xc + |c|^2 in float32. Run in full at both shares.

Each side's picks are interleaved in stretches, so that other work on the machine slows all of them alike; times are wall
clock, beside them the processor's time. Threads as $OMP_NUM_THREADS says.

`--growth` takes the images under the eight symmetries of the square, in turn, as there are only 412 training cells; at more
than 3,296 images the same for the test cells. `--other` is the file of an older commit, run in turn with ours.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from anomaly_core import ModelContext, RunConfig, Sample, registry
from anomaly_patchcore import k_center_greedy_with_radius

Search = Callable[[Tensor, int], tuple[Tensor, float]]

IMAGES, GRID, DIM, PROJECTED = 200, 784, 152, 64


def elpv() -> Tensor:
    """The patches of 200 normal monocrystalline cells: (156800, 152)."""
    config = RunConfig.create(model="patchcore", data="elpv", preset="edge")
    component = registry.datasets["elpv"]
    data = component.build(config.data, seed=0, spec=component.spec)
    modeler = registry.models["patchcore"].build(config.model, ModelContext()).eval()
    loader = data.loader(data.train_samples("mono")[:IMAGES], modeler.input_spec)
    with torch.inference_mode():
        return torch.cat([modeler.embed(batch.images).flatten(0, 2) for batch in loader])


def augmented(images: int) -> Tensor:
    """Patches of so many solar cells, turned and mirrored, projected as by the `edge` preset: (images * 784, 64)."""
    config = RunConfig.create(model="patchcore", data="elpv", preset="edge")
    component = registry.datasets["elpv"]
    data = component.build(config.data, seed=0, spec=component.spec)
    modeler = registry.models["patchcore"].build(config.model, ModelContext()).eval()
    projection = torch.randn(DIM, PROJECTED, generator=torch.Generator().manual_seed(0)) / PROJECTED**0.5
    points, done = torch.empty(images * GRID, PROJECTED), 0

    def turned(samples: list[Sample]) -> Iterator[Tensor]:
        cells = [batch.images for batch in data.loader(samples, modeler.input_spec)]
        for symmetry in range(8):
            for batch in cells:
                batch = batch.transpose(-1, -2) if symmetry & 4 else batch
                yield batch.flip([axis for axis, bit in ((-1, 1), (-2, 2)) if symmetry & bit])

    with torch.inference_mode():
        for samples in (data.train_samples("mono"), data.test_samples("mono")):
            for batch in turned(samples):
                patches = modeler.embed(batch[: images - done].contiguous()).flatten(0, 2) @ projection
                points[done * GRID : done * GRID + len(patches)] = patches
                done += len(patches) // GRID
                if done == images:
                    return points.clone()
    raise SystemExit(f"only {done} images: choose smaller --sizes.")


def synthetic(images: int = IMAGES, dim: int = DIM) -> Tensor:
    """Thirty directions and noise: (images * 784, dim)."""
    generator = torch.Generator().manual_seed(0)
    rows = images * GRID
    scores = torch.randn(rows, 30, generator=generator) * torch.linspace(4, 0.5, 30)
    return scores @ torch.randn(30, dim, generator=generator) / 5 + 0.3 * torch.randn(rows, dim, generator=generator)


def loop(points: Tensor, distances: Callable[[int], Tensor]) -> Iterator[int]:
    """The definition: one pass over all points a pick."""
    nearest, pick = torch.full_like(points[:, 0], torch.inf), 0
    while True:
        yield pick
        nearest = torch.minimum(nearest, distances(pick))
        nearest[pick] = -1
        pick = int(nearest.argmax())


def plain(points: Tensor) -> Iterator[int]:
    return loop(points, lambda pick: torch.linalg.norm(points - points[pick], dim=1))


def products(points: Tensor) -> Iterator[int]:
    norms = (points * points).sum(dim=1)
    return loop(points, lambda pick: torch.addmv(norms + norms[pick], points, points[pick], alpha=-2).clamp_(min=0))


class Timed:
    """A loop that is run in stretches; seconds a pick are the median over the stretches."""

    def __init__(self, picks: Iterator[int]) -> None:
        self.iterator = picks
        self.picks: list[int] = []
        self.wall: list[float] = []
        self.processor: list[float] = []

    def run(self, picks: int) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        self.picks += [next(self.iterator) for _ in range(picks)]
        self.wall.append((time.perf_counter() - wall) / picks)
        self.processor.append((time.process_time() - processor) / picks)

    def seconds(self, count: int) -> tuple[float, float]:
        return count * statistics.median(self.wall), count * statistics.median(self.processor)


def ours(points: Tensor, count: int, repeats: int) -> tuple[Tensor, float, tuple[float, float]]:
    wall, processor = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        picked, radius = k_center_greedy_with_radius(points, count)
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return picked, radius, (statistics.median(wall), statistics.median(processor))


def other_search(path: str) -> Search:
    spec = importlib.util.spec_from_file_location("other_coreset", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"--other: {path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    search: Search = module.k_center_greedy_with_radius
    return search


def growth(sizes: list[int], make: Callable[[int], Tensor], other: str | None, repeats: int) -> None:
    """Seconds of 1 % of the patches of so many images, ours beside another commit's, and exponents from size to size."""
    sides: dict[str, Search] = {"ours": k_center_greedy_with_radius} | ({"other": other_search(other)} if other else {})
    points, seconds = make(max(sizes)), {name: list[float]() for name in sides}
    for size in sizes:
        some, picks = points[: size * GRID], {}
        walls: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(repeats):
            for name, search in sides.items():
                start = time.perf_counter()
                picks[name], radius = search(some, len(some) // 100)
                walls[name].append(time.perf_counter() - start)
        for name in sides:
            seconds[name].append(statistics.median(walls[name]))
        text = "  ".join(f"{name} {seconds[name][-1]:8.2f} s" for name in sides)
        if other:
            same = int((picks["ours"] == picks["other"]).sum())
            ratio = seconds["other"][-1] / seconds["ours"][-1]
            text += f" = {ratio:.1f} x; {same} of {len(picks['ours'])} picks the same, in order"
        print(f"{size:5d} images  {len(some):8d} patches  radius {radius:.4f}  {text}", flush=True)
    for name, times in seconds.items():
        for (small, before), (large, after) in zip(
            list(zip(sizes, times, strict=True))[:-1], list(zip(sizes, times, strict=True))[1:], strict=True
        ):
            print(f"{name}: exponent {math.log(after / before) / math.log(large / small):.2f} from {small} to {large} images")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["elpv", "synthetic"], default="elpv")
    parser.add_argument("--quick", action="store_true", help="measure the loops on 100 picks; compare no picks")
    parser.add_argument("--repeats", type=int, default=3, help="runs of ours, of which the median counts")
    parser.add_argument("--growth", action="store_true", help="measure how the time grows with the number of images")
    parser.add_argument("--sizes", default="400,1600", help="images of --growth, ascending")
    parser.add_argument("--other", help="another commit's coreset.py, measured beside ours by --growth")
    options = parser.parse_args()
    if options.growth:
        print(f"{options.data}, {torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}")
        make = augmented if options.data == "elpv" else lambda images: synthetic(images, PROJECTED)
        return growth([int(size) for size in options.sizes.split(",")], make, options.other, options.repeats)
    points = elpv() if options.data == "elpv" else synthetic()
    count = len(points) // 100
    print(
        f"{options.data}, {tuple(points.shape)}, {torch.get_num_threads()} threads, {platform.machine()}, "
        f"torch {torch.__version__}"
    )

    sides = {"plain": Timed(plain(points)), "products": Timed(products(points))}
    stretches, length = (10, 10) if options.quick else (count // 98, 98)
    for _ in range(stretches):
        for side in sides.values():
            side.run(length)
    for share, picks in ((1, count), (10, 10 * count)):
        if share == 10 and not options.quick:
            while len(sides["products"].picks) < picks:
                sides["products"].run(980)
        picked, radius, (wall, processor) = ours(points, picks, options.repeats)
        print(
            f"{share:2d} %  ours      {picks} picks  {wall:8.2f} s  {processor:8.2f} s of processor   radius {radius:.4f}",
            flush=True,
        )
        for name, side in sides.items():
            loop_wall, loop_processor = side.seconds(picks)
            measured = min(len(side.picks), picks)
            text = "in full" if measured == picks else f"extrapolated from {measured} picks"
            same = len(set(side.picks[:picks]) & set(picked.tolist())) if measured == picks else None
            print(
                f"      {name:8s}  {loop_wall:8.1f} s = {loop_wall / wall:.0f} x   {loop_processor:8.1f} s of processor = "
                f"{loop_processor / processor:.0f} x   {text}"
                + ("" if same is None else f"; {same} of {picks} picks the same"),
                flush=True,
            )


if __name__ == "__main__":
    main()
