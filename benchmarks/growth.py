"""How time and memory grow with the number of training images: whole runs of 100, 400, 1,600 and 6,400, and the exponents.

    python benchmarks/growth.py --sizes 100 400 1600                       # PatchCore, `edge` preset
    python benchmarks/growth.py --before CHECKOUT --peer PYTHON --limit 600
    python benchmarks/growth.py --set model.memory_budget=2GiB             # likewise model.bank_size, model.coreset=streamed
    python benchmarks/growth.py --set model.memory_budget=2GiB --set data.holdout=null   # with cross-fitting: all it bounds
    python benchmarks/growth.py --size 384 --engine openvino

Images: ELPV's normal cells of both kinds, and seeded mirrorings and shifts of them; 100 are tested. Each cell of the table is a
process of its own, with clocks in it (phases.py): fit is the trainer's, coreset within it, ms/image those of the test, `above`
the peak above what the process held before its first image and what compiling and the network's first batch added, `peak` that
of the whole process. Exponents are the slopes of least squares in log-log: 1 is linear. An option that another checkout does
not know ends that side's rows with its message, and a run that takes longer than --limit seconds is stopped and ends its
side's rows too.
anomalib fits without a threshold by cross-fitting, and so do ours here (data.holdout=0), unless --set says otherwise.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import bench
import elpv_dataset
import vs_anomalib
from PIL import Image, ImageChops, ImageOps

TESTED = 50  # of each kind
COLUMNS = {"whole": 1, "fit": 1, "coreset": 2, "each": 1, "above": 0, "peak": 0}
TITLES = {
    "whole": "whole s",
    "fit": "fit s",
    "coreset": "coreset s",
    "each": "ms/image",
    "above": "above MB",
    "peak": "peak MB",
}


def images(out: Path, sizes: list[int]) -> dict[int, Path]:
    """A folder of each size, written once; a smaller one is the beginning of a larger one."""
    root = Path(elpv_dataset.__file__).parent / "data"
    rows = [line.split() for line in (root / "labels.csv").read_text().splitlines()]
    normal = [root / name for name, probability, _ in rows if float(probability) == 0]
    defective = [root / name for name, probability, _ in rows if float(probability) == 1]
    random.Random(0).shuffle(normal)
    tests = {"test/good": normal[:TESTED], "test/bad": defective[:TESTED]}
    every = normal[TESTED:]
    store = out / "all"
    store.mkdir(parents=True, exist_ok=True)
    folders = {}
    for size in sizes:
        folders[size] = folder = out / str(size)
        for part, chosen in tests.items():
            (folder / part).mkdir(parents=True, exist_ok=True)
            for path in chosen:
                _link(path, folder / part / path.name)
        (folder / "train" / "good").mkdir(parents=True, exist_ok=True)
        for number in range(size):
            made = store / f"{number:05}.png"
            if not made.exists():
                _changed(every[number % len(every)], number, number // len(every)).save(made)
            _link(made, folder / "train" / "good" / made.name)
    return folders


def _changed(path: Path, number: int, turn: int) -> Image.Image:
    """The image itself in the first turn; then mirrored and shifted by some pixels, with the seed of its number."""
    with Image.open(path) as opened:
        image = opened.convert("L")
    if not turn:
        return image
    draw = random.Random(number)
    for mirrored in (ImageOps.mirror, ImageOps.flip):
        if draw.random() < 0.5:
            image = mirrored(image)
    return ImageChops.offset(image, draw.randint(-9, 9), draw.randint(-9, 9))


def _link(source: Path, target: Path) -> None:
    if not target.exists():
        try:
            os.link(source, target)
        except OSError:  # another disk, or none that links
            target.write_bytes(source.read_bytes())


def ours(checkout: Path, given: argparse.Namespace, folder: Path) -> dict[str, float]:
    settings = [f"data.root={folder}", "data.holdout=0", f"model.engine={given.engine}", f"model.image_size={given.size}"]
    settings += ["base.pictures=0", *given.set]
    with tempfile.TemporaryDirectory() as scratch:
        clocks = Path(scratch) / "clocks.json"
        command = [
            sys.executable,
            str(bench.HERE / "phases.py"),
            str(clocks),
            "run",
            "--model",
            given.model,
            "--data",
            "folder",
        ]
        command += ["--preset", "edge", "--output", scratch, *(part for one in settings for part in ("--set", one))]
        done = bench.measured(command, bench.environment(checkout, given.threads, given.allocator), given.limit)
        (manifest,) = Path(scratch).rglob("manifest.json")
        facts, measured = json.loads(manifest.read_text()), json.loads(clocks.read_text())
    return {
        "whole": done.wall,
        "fit": facts["fit_seconds"],
        "coreset": measured["seconds"].get("coreset", math.nan),
        "each": 1000 / facts["test_images_per_second"],
        "above": done.peak_mb - measured["idle_mb"] - measured["network_mb"],
        "peak": done.peak_mb,
    }


def peer(given: argparse.Namespace, folder: Path) -> dict[str, float]:
    environment = {**bench.environment(None, given.threads, given.allocator), "SIZE": str(given.size)}
    row = vs_anomalib.peer(given.peer, given.model, folder, 0.01, environment=environment, limit=given.limit)
    return {**row, "each": 1000 * row["each"], "coreset": math.nan, "above": math.nan}


def exponent(points: dict[int, float]) -> float:
    """The slope of least squares through log(size), log(value)."""
    pairs = [(math.log(size), math.log(value)) for size, value in points.items() if value > 0]
    if len(pairs) < 2:
        return math.nan
    x, y = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    return sum((a - x) * (b - y) for a, b in pairs) / sum((a - x) ** 2 for a, _ in pairs)


def line(name: str, size: str, row: dict[str, float], digits: dict[str, int]) -> str:
    cells = "".join(f"{row[key]:>{len(TITLES[key]) + 3}.{digits[key]}f}" for key in TITLES)
    return f"{name:12}{size:>9}" + cells.replace("nan", "  -")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    bench.add_options(parser)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 400, 1600, 6400])
    parser.add_argument("--model", default="patchcore", choices=["patchcore", "padim"])
    parser.add_argument("--engine", default="openvino", help="of ours")
    parser.add_argument("--size", type=int, default=224, help="side of the model's input, in pixels")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one more option of our runs")
    parser.add_argument("--limit", type=float, default=900, help="seconds after which a run is stopped")
    given = parser.parse_args()
    print(bench.machine())
    print(f"threads {given.threads or 'by default'}, allocator {given.allocator}, {given.model} at {given.size} px", end="")
    print(f", engine {given.engine}, {' '.join(given.set)}\n")
    folders = images(Path(tempfile.gettempdir()) / "elpv_growth", sorted(given.sizes))
    sides: dict[str, Callable[[Path], dict[str, float]]] = {
        name: partial(ours, checkout, given) for name, checkout in bench.checkouts(given.before).items()
    }
    if given.peer:
        sides["anomalib"] = partial(peer, given)
    print(f"{'':12}{'images':>9}" + "".join(f"{title:>{len(title) + 3}}" for title in TITLES.values()))
    rows: dict[str, dict[int, dict[str, float]]] = {name: {} for name in sides}
    for size, folder in folders.items():  # sides take turns within a size
        for name, side in list(sides.items()):
            try:
                rows[name][size] = side(folder)
            except (TimeoutError, SystemExit) as error:
                print(f"{name:12}{size:9}   {str(error).strip().splitlines()[-1]}", flush=True)
                del sides[name]
                continue
            print(line(name, str(size), rows[name][size], COLUMNS), flush=True)
    print()
    for name, cells in rows.items():
        slopes = {key: exponent({size: row[key] for size, row in cells.items()}) for key in TITLES}
        print(line(name, "exponent", slopes, dict.fromkeys(TITLES, 2)))


if __name__ == "__main__":
    main()
