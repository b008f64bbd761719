"""Where the wall clock of a whole run goes, phase by phase, beside what each phase's bare work costs.

    python benchmarks/whole_run.py                                     # engines torch and auto, on 900 images: some minutes
    python benchmarks/whole_run.py --before CHECKOUT --repeats 3       # beside another commit, in turn
    python benchmarks/whole_run.py --peer PYTHON --limit 900           # beside anomalib's whole run on the same files
    python benchmarks/whole_run.py --images 40                         # a small one

`make run`'s images: monocrystalline cells of ELPV, 1 % coreset, `edge` preset, calibrated by cross-fitting. Walls are of whole
processes without clocks, from outside; phases are of one more run each (phases.py). The floor of a phase is the bare work,
measured in the same minutes, each image once: decoding with Pillow alone, the network alone in its engine, distances as one
float32 product, the run's pictures encoded again. No floor stands where there is no bare work to name.
anomalib tests half of the test images and fits no threshold by cross-fitting; with --allocator=kept and --threads all sides are
set alike, and without them each has its own defaults.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bench
import numpy as np
import phases
import torch
import vs_anomalib
from PIL import Image
from torch.nn import functional as F

BATCH, SIDE, GRID = 16, 224, 28
STARTS, ENDS, FILES = "Python starts", "tear-down", "files written"
ORDER = [STARTS, phases.IMPORTS, *phases.PHASES, phases.PICTURES, phases.END, ENDS, phases.REST]


def images(out: Path, count: int | None) -> Path:
    """The files of `make run` as a folder that other programs can read too: train/good, test/good and test/bad."""
    from anomaly_core import RunConfig, registry

    component = registry.datasets["elpv"]
    data = component.build(RunConfig.create(model="patchcore", data="elpv").data, seed=0, spec=component.spec)
    train, test = data.train_samples("mono"), data.test_samples("mono")
    parts = {
        "train/good": train,
        "test/good": [sample for sample in test if sample.label == 0],
        "test/bad": [sample for sample in test if sample.label == 1],
    }
    for part, samples in parts.items():
        (out / part).mkdir(parents=True)
        for sample in samples[:count]:
            (out / part / sample.path.name).write_bytes(sample.path.read_bytes())
    return out


def ours(checkout: Path, engine: str, folder: Path, given: argparse.Namespace, output: Path, clocks: bool) -> dict[str, Any]:
    """One run in a process of its own, with clocks in it or without."""
    command = [
        sys.executable,
        *([str(bench.HERE / "phases.py"), str(output / "clocks.json")] if clocks else ["-m", "anomaly_core"]),
    ]
    command += ["run", "--model", "patchcore", "--data", "folder", "--preset", "edge", "--output", str(output)]
    for setting in (f"data.root={folder}", f"model.engine={engine}", *given.set):
        command += ["--set", setting]
    start = time.time()
    done = bench.measured(command, bench.environment(checkout, given.threads, given.allocator))
    manifest = max(output.rglob("manifest.json"), key=lambda path: path.stat().st_mtime)
    facts, metrics = json.loads(manifest.read_text()), json.loads((manifest.parent / "metrics.json").read_text())
    each = 1 / facts["test_images_per_second"]
    row = {
        "whole": done.wall,
        "fit": facts["fit_seconds"],
        "test": metrics["images"] * each,
        "each": 1000 * each,
        "peak": done.peak_mb,
        "system": done.system,
        "faults": done.faults / 1000,
        "auroc": metrics["metrics"]["image_auroc"]["value"],
        "run": str(manifest.parent),
    }
    if clocks:
        measured = json.loads((output / "clocks.json").read_text())
        row["phases"] = {STARTS: measured["begun"] - start, ENDS: start + done.wall - measured["ended"], **measured["seconds"]}
        if measured["missing"]:
            print(f"not found in {checkout}: {', '.join(measured['missing'])}", file=sys.stderr)
    return row


def peer(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    environment = bench.environment(None, given.threads, given.allocator)
    row = vs_anomalib.peer(given.peer, "patchcore", folder, 0.01, environment=environment, limit=given.limit)
    return {**row, "each": 1000 * row["each"]}


def timed(work: Callable[[], Any], repeats: int = 3) -> float:
    """The least seconds of some repeats: a floor."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def bare_network(engine: str) -> tuple[Callable[[torch.Tensor], list[torch.Tensor]], float]:
    """The backbone of the `edge` preset up to its last layer, by nothing but the engine; and the seconds of compiling it."""
    import timm

    network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(2, 3)).eval()
    if not engine.startswith("openvino"):
        network.to(memory_format=torch.channels_last)
        return lambda batch: network(batch.contiguous(memory_format=torch.channels_last)), 0.0
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "bf16" if engine.endswith("bf16") else "f32", "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.convert_model(network, example_input=torch.zeros(1, 3, SIDE, SIDE))
    took = timed(lambda: openvino.Core().compile_model(model, "CPU", options))
    graph = openvino.Core().compile_model(model, "CPU", options)
    return lambda batch: [torch.from_numpy(value) for value in graph(batch.numpy()).values()], took


@torch.inference_mode()
def floor(engine: str, folder: Path, run: Path) -> dict[str, float]:
    """Seconds of the bare work of each phase."""
    train, every = len(list((folder / "train").rglob("*.png"))), sorted(folder.rglob("*.png"))
    few = every[: 10 * BATCH]

    def decode(path: Path) -> Any:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB").resize((SIDE, SIDE)))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoding = timed(lambda: list(pool.map(decode, every)), 1)
    pixels = torch.from_numpy(np.stack([decode(path) for path in few])).permute(0, 3, 1, 2) / 255
    batches = pixels.contiguous().split(BATCH)
    network, compiling = bare_network(engine)
    network(batches[0])

    def compute(most: int) -> None:
        for batch in batches:
            for part in batch.split(most):
                network(part)

    computing = min(timed(lambda most=most: compute(most), 2) for most in (2, BATCH)) * len(every) / len(few)  # type: ignore[misc]
    features = network(batches[0])
    channels = sum(layer.shape[1] for layer in features)
    patches, count = train * GRID**2, max(1, train * GRID**2 // 100)
    bank = torch.randn(count, channels)

    def score() -> None:
        pooled = [F.avg_pool2d(layer.contiguous(memory_format=torch.channels_last), 3, 1, 1) for layer in features]
        joined = torch.cat([pooled[0], F.interpolate(pooled[1], pooled[0].shape[-2:], mode="bilinear")], 1)
        rows = joined.permute(0, 2, 3, 1).reshape(-1, channels)
        nearest = torch.cat([(part @ bank.T).amax(1) for part in rows.split(2048)])
        F.interpolate(nearest.view(-1, 1, GRID, GRID), (SIDE, SIDE), mode="bilinear")

    score()
    scoring = timed(score) * len(every) / len(batches[0])
    chunk, picks = torch.randn(16384, 64), torch.randn(count, 64)  # the coreset is searched in 64 values
    chunk @ picks.T
    coreset = timed(lambda: chunk @ picks.T) * patches / len(chunk)
    pictures = [Image.open(path) for path in (run / "maps").rglob("*.png")]
    for picture in pictures:
        picture.load()
    drawing = timed(lambda: [picture.save(io.BytesIO(), "PNG") for picture in pictures], 1)
    contents = [path.read_bytes() for path in run.iterdir() if path.is_file()]
    with tempfile.TemporaryDirectory() as scratch:
        writing = timed(lambda: [(Path(scratch) / str(i)).write_bytes(content) for i, content in enumerate(contents)])
    return {
        "screening": 0.0,  # decoding, once more
        "decoding": decoding,
        phases.COMPILED: compiling,
        phases.NETWORK: computing,
        "embed, search, map": scoring,
        "coreset": coreset,
        phases.PICTURES: drawing,
        FILES: writing,
    }


def floor_of(engine: str, folder: Path, run: str, given: argparse.Namespace) -> dict[str, float]:
    """All floors, those of the process itself measured from here."""
    environment = bench.environment(bench.HERE.parent, given.threads, "kept")
    nothing, needed = "pass", "import torch" if engine == "torch" else "import numpy, PIL.Image, openvino"
    start, imports = (
        statistics.median(bench.measured([sys.executable, "-c", code], environment).wall for _ in range(3))
        for code in (nothing, needed)
    )
    command = [sys.executable, __file__, "--floor", engine, str(folder), run]
    values = json.loads(bench.measured(command, environment).text.splitlines()[-1])
    return {STARTS: start, phases.IMPORTS: imports - start, **values}


def walls(rows: dict[str, list[dict[str, Any]]]) -> None:
    """The table of whole processes."""
    titles = "whole s,fit s,test s,ms/image,peak MB,system s,1000 faults,AUROC,x before,x whole,x fit,x image"
    print(
        f"\nwhole processes, medians of {len(next(iter(rows.values())))}; x: how many times faster than before; than anomalib\n"
    )
    print(f"{'':20}" + "".join(f"{title:>{len(title) + 2}}" for title in titles.split(",")))
    keys = "whole fit test each peak system faults auroc".split()
    middle = {name: {key: statistics.median(row.get(key, 0) for row in some) for key in keys} for name, some in rows.items()}
    for name, row in middle.items():
        cells = [f"{row[key]:.{4 if key == 'auroc' else 0 if key in ('peak', 'faults') else 1}f}" for key in keys]
        before, other = middle.get(name.replace("now", "before")), middle.get("anomalib")
        cells.append(f"{before['whole'] / row['whole']:.2f}" if before else "")
        cells += [f"{other[key] / row[key]:.1f}" if other else "" for key in ("whole", "fit", "each")]
        print(f"{name:20}" + "".join(f"{cell:>{len(title) + 2}}" for cell, title in zip(cells, titles.split(","), strict=True)))


def table(columns: dict[str, dict[str, float]]) -> None:
    """Seconds of each phase; a column each, floors among them."""
    width = max(map(len, columns)) + 2
    print("\nseconds of each phase, in one run with clocks; floor: the bare work alone\n")
    print(f"{'':28}" + "".join(f"{name:>{width}}" for name in columns))
    for phase in ORDER:
        cells = [column.get(phase) for column in columns.values()]
        print(f"{phase:28}" + "".join(f"{'' if cell is None else f'{cell:.2f}':>{width}}" for cell in cells))
    print(f"{'together':28}" + "".join(f"{sum(column.values()):>{width}.2f}" for column in columns.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    bench.add_options(parser)
    parser.add_argument("--engine", action="append", help="of ours; torch and auto (before: openvino) by default")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--images", type=int, help="the most images of each part; all by default")
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which anomalib's run is stopped")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one more option of our runs")
    parser.add_argument("--floor", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.floor:
        engine, folder, run = given.floor
        print(json.dumps(floor(engine, Path(folder), Path(run))))
        return
    print(bench.machine())
    print(f"threads {given.threads or 'by default'}, allocator {given.allocator}")
    engines = given.engine or ["torch", "auto"]
    rows: dict[str, list[dict[str, Any]]] = {}
    columns: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = images(Path(scratch) / "images", given.images)
        sides = {
            f"{name}, {engine}": (checkout, "openvino" if name == "before" and engine == "auto" else engine)
            for engine in engines
            for name, checkout in bench.checkouts(given.before).items()
        }
        for turn in range(given.repeats):
            for name, (checkout, engine) in sides.items():
                output = Path(scratch) / f"{len(rows)}-{turn}"
                rows.setdefault(name, []).append(ours(checkout, engine, folder, given, output, clocks=False))
        for name, (checkout, engine) in sides.items():
            output = Path(scratch) / name.replace(", ", "-")
            output.mkdir()
            row = ours(checkout, engine, folder, given, output, clocks=True)
            columns[name] = row["phases"]
            if name.startswith("now"):
                columns[f"floor, {engine}"] = floor_of("openvino" if engine == "auto" else engine, folder, row["run"], given)
        if given.peer:
            try:
                rows["anomalib"] = [peer(folder, given)]
            except TimeoutError as error:
                print(f"anomalib: {error}", file=sys.stderr)
        walls(rows)
        table(columns)


if __name__ == "__main__":
    main()
