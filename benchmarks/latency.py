"""A single image: cold, a whole process from command to verdict; steady, camera in and verdict out, image after image.

    python benchmarks/latency.py                                      # every method: a quarter of an hour
    python benchmarks/latency.py patchcore padim --before CHECKOUT    # some, beside another commit
    python benchmarks/latency.py patchcore --peer PYTHON              # beside anomalib's inferencers
    python benchmarks/latency.py --cold 0 --count 400                 # steady alone, 400 images

Methods are fitted with their `edge` preset on few images of ELPV's side-by-side split, one epoch. Cold: `anomaly predict RUN
one.png` and of exported files; "first" is the first call on a new run, which may leave behind what later ones use. Steady:
`open_detector(PATH).predict(array)`; the bare engine computes the same graph on the same, already resized image, and takes its
turn image by image (a run in torch: the method's `predict_step`). Milliseconds; x: p50 over that of the bare engine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench
import numpy as np
from PIL import Image

ENGINES = ("torch", "onnx", "openvino")
PEERS = ("patchcore", "padim", "stfpm")
WARM = 20


def few_images(out: Path, train: int, test: int) -> Path:
    """A part of the side-by-side split."""
    for part, count in {"train/good": train, "test/good": test, "test/bad": test}.items():
        (out / part).mkdir(parents=True)
        for path in sorted((bench.split_folders()["mono"] / part).iterdir())[:count]:
            shutil.copy(path, out / part)
    return out


def methods() -> list[str]:
    """Those that have an `edge` preset."""
    from anomaly_core import registry
    from anomaly_core.config.resolve import preset_names

    return [name for name, component in registry.models.items() if "edge" in preset_names(component)]


def fitted(method: str, folder: Path, checkout: Path, output: Path, given: argparse.Namespace) -> dict[str, Path]:
    """A run, and what is exported of it."""
    from anomaly_core import RunConfig

    environment = bench.environment(checkout, given.threads, given.allocator)
    config = RunConfig.create(model=method, data="folder", preset="edge")
    settings = [f"data.root={folder}", *(["train.epochs=1"] if hasattr(config.train, "epochs") else []), *given.set]
    anomaly = [sys.executable, "-m", "anomaly_core"]
    command = [*anomaly, "run", "--model", method, "--data", "folder", "--preset", "edge", "--output", str(output)]
    bench.measured([*command, *(part for setting in settings for part in ("--set", setting))], environment)
    (manifest,) = output.rglob("manifest.json")
    paths = {"run": manifest.parent}
    for name, suffix in {"onnx": ".onnx", "openvino": ".xml"}.items():
        target = output / f"exported{suffix}"
        bench.measured([*anomaly, "export", str(manifest.parent), "--format", name, "--output", str(target)], environment)
        paths[suffix] = target
    return paths


def steady(path: str, engine: str, graph: str, folder: str, count: int) -> dict[str, list[float]]:
    """Milliseconds of single images, of ours and of the bare engine, which take turns."""
    from anomaly_predict import open_detector

    detector: Any = open_detector(path, engine=None if engine == "own" else engine)
    arrays = []
    for file in sorted((Path(folder) / "test").rglob("*.png")):
        with Image.open(file) as image:
            arrays.append(np.asarray(image.convert("RGB")))
    placed = [detector.place(array)[None] for array in arrays]  # as the graph needs it: uint8 (1, h, w, 3)
    raw = bare(engine, detector, graph)
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(WARM + count):
        index = number % len(arrays)
        for times, call in ((ours, lambda i=index: detector.predict(arrays[i])), (theirs, lambda i=index: raw(placed[i]))):
            start = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - start))
    return {"ours": ours[WARM:], "bare": theirs[WARM:]}


def bare(engine: str, detector: Any, graph: str) -> Callable[[Any], Any]:
    """The engine alone: a function of uint8 (1, h, w, 3)."""
    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1
    if engine == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"images": images})
    if engine == "openvino":
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        compiled = openvino.Core().compile_model(graph, "CPU", settings)
        request = compiled.create_infer_request()
        return lambda images: request.infer({0: images})
    import torch

    @torch.inference_mode()
    def step(images: Any) -> Any:
        return detector.modeler.predict_step(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)

    return step


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def row_of(name: str, values: dict[str, list[float]]) -> str:
    ours, raw = values["ours"], values.get("bare")
    cells = [quantile(ours, 0.5), quantile(ours, 0.99)]
    line = f"{name:44}" + "".join(f"{cell:9.2f}" for cell in cells)
    if raw:
        line += f"{quantile(raw, 0.5):10.2f}{quantile(raw, 0.99):10.2f}{cells[0] / quantile(raw, 0.5):7.2f}"
    return line


def cold(commands: dict[str, tuple[list[str], dict[str, str]]], repeats: int) -> None:
    """Whole processes in turn; the first call of each is shown apart."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(1 + repeats):
        for name, (command, environment) in commands.items():
            seconds[name].append(bench.measured(command, environment).wall)
    for name, (first, *later) in seconds.items():
        print(f"{name:44}{statistics.median(later):9.2f}{max(later):9.2f}{first:9.2f}", flush=True)


def peer(method: str, folder: Path, out: Path, given: argparse.Namespace) -> dict[str, Path]:
    script = str(bench.HERE / "peer_anomalib.py")
    environment = bench.environment(None, given.threads, given.allocator)
    bench.measured([given.peer, script, method, str(folder), "1", "--export", str(out)], environment)
    return {suffix: next(out.rglob(f"*{suffix}")) for suffix in (".pt", ".xml")}


def measure(method: str, folder: Path, scratch: Path, given: argparse.Namespace) -> None:
    """The rows of one method."""
    sides = bench.checkouts(given.before)
    paths = {name: fitted(method, folder, checkout, scratch / f"{method}-{name}", given) for name, checkout in sides.items()}
    theirs = peer(method, folder, scratch / f"{method}-peer", given) if given.peer and method in PEERS else {}
    image = str(next((folder / "test" / "bad").iterdir()))
    commands = {}
    for name, checkout in sides.items():
        for kind, path in paths[name].items():
            label = f"{method}, {name}: predict {'RUN' if kind == 'run' else kind}"
            command = [sys.executable, "-m", "anomaly_core", "predict", str(path), image]
            commands[label] = (command, bench.environment(checkout, given.threads, given.allocator))
    script = str(bench.HERE / "peer_anomalib.py")
    for suffix, path in theirs.items():
        commands[f"{method}, anomalib: {suffix}"] = (
            [given.peer, script, "--steady", str(path), image],
            bench.environment(None, given.threads, given.allocator),
        )
    if given.cold:
        print(f"\n{'cold, seconds':44}{'p50':>9}{'most':>9}{'first':>9}")
        cold(commands, given.cold)
    if not given.count:
        return
    print(f"\n{'steady, milliseconds':44}{'p50':>9}{'p99':>9}{'bare p50':>10}{'bare p99':>10}{'x':>7}")
    engines = ENGINES if has_engine(method) else (None,)
    asked: list[tuple[str, str | None]]
    asked = [("run", engine) for engine in engines] + [(".onnx", "onnx"), (".xml", "openvino")]
    for kind, engine in asked:
        for name, checkout in sides.items():
            graph = paths[name][".xml" if engine == "openvino" else ".onnx"]
            command = [sys.executable, __file__, "--steady", str(paths[name][kind]), engine or "own", str(graph), str(folder)]
            command += ["--count", str(given.count)]
            text = bench.measured(command, bench.environment(checkout, given.threads, given.allocator)).text
            label = f"{method}, {name}: {'run' if kind == 'run' else kind} in {engine or 'torch'}"
            print(row_of(label, json.loads(text.splitlines()[-1])), flush=True)
    for suffix, path in theirs.items():
        command = [given.peer, script, "--steady", str(path), image, str(WARM + given.count)]
        text = bench.measured(command, bench.environment(None, given.threads, given.allocator)).text
        values = json.loads(re.findall(r"^RESULT (.*)$", text, re.M)[-1])[WARM:]
        print(row_of(f"{method}, anomalib: {suffix}", {"ours": values}), flush=True)


def has_engine(method: str) -> bool:
    from anomaly_core import RunConfig

    return hasattr(RunConfig.create(model=method, data="folder", preset="edge").model, "engine")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*")
    bench.add_options(parser)
    parser.add_argument("--cold", type=int, default=5, help="how often each process is started, after a first time; 0: not")
    parser.add_argument("--count", type=int, default=200, help="single images; 0: none")
    parser.add_argument("--train", type=int, default=40, help="images to fit on")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one more option of our runs")
    parser.add_argument("--steady", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.steady:
        print("\n" + json.dumps(steady(*given.steady, given.count)))
        return
    print(bench.machine())
    print(f"threads {given.threads or 'by default'}, allocator {given.allocator}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = few_images(Path(scratch) / "images", given.train, 10)
        for method in given.methods or methods():
            measure(method, folder, Path(scratch), given)


if __name__ == "__main__":
    main()
