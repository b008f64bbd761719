"""The service under load, beside the bare engine: images a second, p50 and p99 at 1, 8 and 64 clients, memory.

    python benchmarks/service_load.py                          # fits SubspaceAD on `sample`, fabric, and exports it
    python benchmarks/service_load.py model.onnx --seconds 20
    python benchmarks/service_load.py --memory 100000 --detector spots

Four processes, of which one works at a time, in turns: the bare engine (the exported file on decoded images, in batches of the
best size), decoding and engine (the same from JPEG files, decoded in threads ahead of it), both again in lanes (a thread for
each core, which decodes an image and scores it alone, as the service does), and the service with its client. The client's own
processor time, which it takes from the service's cores, is a column: elsewhere it has cores of its own. The milliseconds of
processor time an image hold on a busy machine, too. Images: 640 x 480, JPEG. Every verdict is committed to SQLite and every
image kept before it is answered.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

HERE = Path(__file__).resolve().parent
CLIENTS = (1, 8, 64)
BATCHES = (1, 2, 4, 8)
COUNT, DEFECTS = 64, 3  # different images that are sent
QUOTA = 256  # MiB of kept images: few, so that old ones are removed while it is measured


def camera_images(folder: Path) -> None:
    """``sample``, fabric, as JPEG files of 640 x 480 pixels: normal ones to fit on, and others to send, of which a few are
    defects."""
    from anomaly_core import RunConfig, build_data

    overrides = {"data.root": str(folder / "data"), "data.category": "fabric", "data.good_count": COUNT - DEFECTS}
    data = build_data(RunConfig.create(model="subspace", data="sample", preset="edge", overrides=overrides))
    tested = data.test_samples("fabric")
    normal = [one.path for one in tested if not one.label]
    defects = [one.path for one in tested if one.label][:DEFECTS]
    groups = {"normal": [one.path for one in data.train_samples("fabric")], "camera": normal + defects}
    for group, paths in groups.items():
        (folder / group).mkdir()
        for number, path in enumerate(paths):
            with Image.open(path) as image:
                image.convert("RGB").resize((640, 480)).save(folder / group / f"{number:03}.jpg", quality=90)


def fitted(folder: Path, model: str) -> Path:
    """An exported detector of the normal images, fitted with a method's preset ``edge``."""
    from anomaly_core import RunConfig, run_experiment
    from anomaly_export import export_run

    overrides = {"data.normal": str(folder / "normal"), "base.output": str(folder / "runs"), "base.pictures": 0}
    run = run_experiment(RunConfig.create(model=model, data="folder", preset="edge", overrides=overrides)).runs[0].folder
    return export_run(run, "onnx", images=4).path


# ---- the bare engine


def engine_main(given: argparse.Namespace) -> None:
    """Answers ``KIND BATCH SECONDS``, a kind of :data:`KINDS`, with images a second and processor seconds an image."""
    from anomaly_core import thread_count
    from anomaly_predict import open_detector

    whole: Any = open_detector(given.source)
    divided = whole.for_callers(thread_count())
    files = [path.read_bytes() for path in sorted(Path(given.images).glob("*.jpg"))]
    images = [whole.decode(BytesIO(data)) for data in files]
    for line in sys.stdin:
        asked = json.loads(line)
        work, in_lanes = KINDS[asked["kind"]]
        detector, batch = (divided, thread_count()) if in_lanes else (whole, asked["batch"])
        work(detector, images, files, batch, 0.5)
        before, start = time.process_time(), time.perf_counter()
        count = work(detector, images, files, batch, asked["seconds"])
        row = {"rate": count / (time.perf_counter() - start), "cost": (time.process_time() - before) / count}
        print(json.dumps(row), flush=True)


def engine(detector: Any, images: list[Any], files: list[bytes], batch: int, seconds: float) -> int:
    count, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        detector.score([images[(count + i) % len(images)] for i in range(batch)])
        count += batch
    return count


def decoded_engine(detector: Any, images: list[Any], files: list[bytes], batch: int, seconds: float) -> int:
    """Files are decoded by as many threads as there are cores, two batches ahead of the engine."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = [pool.submit(detector.decode, BytesIO(files[i % len(files)])) for i in range(3 * batch)]
        count, start = 0, time.perf_counter()
        while time.perf_counter() < start + seconds:
            detector.score([waiting.pop(0).result() for _ in range(batch)])
            count += batch
            waiting += [pool.submit(detector.decode, BytesIO(files[(count + i) % len(files)])) for i in range(batch)]
    return count


def lanes(detector: Any, images: list[Any], files: list[bytes], callers: int, seconds: float, decoding: bool = False) -> int:
    """So many threads, each with images of its own, one after another."""

    def lane(first: int) -> int:
        number, end = first, time.perf_counter() + seconds
        while time.perf_counter() < end:
            at = number % len(images)
            detector.score([detector.decode(BytesIO(files[at])) if decoding else images[at]])
            number += callers
        return (number - first) // callers

    with ThreadPoolExecutor(callers) as pool:
        return sum(pool.map(lane, range(callers)))


KINDS: dict[str, tuple[Callable[..., int], bool]] = {
    "engine": (engine, False),
    "engine in lanes": (lanes, True),
    "decoding + engine": (decoded_engine, False),
    "decoding + engine in lanes": (partial(lanes, decoding=True), True),
}


# ---- the service


def spots_main(given: argparse.Namespace) -> None:
    """Serves a detector that costs nothing, until its input ends."""
    from anomaly_serve import running_service

    with running_service(Path(given.source), quota=QUOTA << 20) as running:
        running.service.add_version("part", "spots", who="benchmark", activate=True)
        print(f"page: {running.url}/", file=sys.stderr, flush=True)
        sys.stdin.read()


class Child:
    """A process, mostly of this script, that answers a line with a line."""

    def __init__(self, *command: object, stream: str = "stdout") -> None:
        pipe = subprocess.PIPE
        streams: dict[str, Any] = {"stdin": pipe, stream: pipe}
        self.process = subprocess.Popen([*map(str, command)], text=True, **streams)
        self._answers: Any = getattr(self.process, stream)
        self.memory = psutil.Process(self.process.pid)

    @classmethod
    def of_role(cls, role: str, *arguments: object, stream: str = "stdout") -> Child:
        return cls(sys.executable, __file__, "--role", role, *arguments, stream=stream)

    def cpu(self) -> float:
        """Seconds of processor time that it took."""
        times = self.memory.cpu_times()
        return times.user + times.system

    def line(self) -> str:
        text = str(self._answers.readline())
        if not text:
            sys.exit("a process of the benchmark ended")
        return text

    def forget(self) -> None:
        """Read what it says, so that it need not wait."""
        for _ in self._answers:
            pass

    def ask(self, **values: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(values) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.line())
        return answer

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def served(source: str, scratch: str) -> tuple[Child, int]:
    """The service, as a user starts it, and its port."""
    if source == "spots":
        service = Child.of_role("spots", scratch, stream="stderr")
    else:
        options = ["--port", 0, "--store", scratch, "--quota", f"{QUOTA}MiB"]
        service = Child(sys.executable, "-m", "anomaly_core", "serve", f"part={source}", *options, stream="stderr")
    while not (line := service.line()).startswith("page: "):
        print(line, end="")
    threading.Thread(target=service.forget, daemon=True).start()
    return service, int(line.rpartition(":")[2].strip("/ \n"))


def speed(source: Path, images: Path, given: argparse.Namespace) -> None:
    """The table."""
    with tempfile.TemporaryDirectory() as scratch:
        bare, client = (
            Child.of_role("engine", source, images),
            Child(sys.executable, HERE / "load_client.py", images, given.door),
        )
        service, port = served(str(source), scratch)
        best = max(BATCHES, key=lambda batch: bare.ask(kind="engine", batch=batch, seconds=1.5)["rate"])
        print(f"the engine's best batch: {best}")
        client.ask(port=port, clients=8, seconds=2, most=1 << 40)
        rows: dict[str, list[dict[str, Any]]] = {}
        for _ in range(given.repeats):
            for kind in KINDS:
                rows.setdefault(kind, []).append(bare.ask(kind=kind, batch=best, seconds=given.seconds))
            for clients in CLIENTS:
                before = service.cpu()
                row = client.ask(port=port, clients=clients, seconds=given.seconds, most=1 << 40)
                row["cost"] = (service.cpu() - before) / row["count"]
                rows.setdefault(f"{clients} clients", []).append(row)
        medians = {name: {key: median([row[key] for row in all_]) for key in all_[0]} for name, all_ in rows.items()}
        references = [medians[kind]["rate"] for kind in KINDS]
        print(
            "| | images/s | of the engine | in lanes | of decoding + engine | in lanes | CPU ms an image | p50 ms | p99 ms "
            "| client's cores | statuses |"
        )
        print("|---" * 11 + "|")
        for name, row in medians.items():
            parts = [
                f"{row['rate']:.1f}",
                *(f"{row['rate'] / reference:.0%}" for reference in references),
                f"{1000 * row['cost']:.1f}",
            ]
            if "p50" in row:
                parts += [f"{row['p50']:.1f}", f"{row['p99']:.1f}", f"{row['cpu']:.2f}", str(row["statuses"])]
            print("|", " | ".join([name, *parts, *[""] * (10 - len(parts))]), "|")
        for child in (bare, service, client):
            child.close()


def median(values: list[Any]) -> Any:
    return values[-1] if isinstance(values[0], dict) else statistics.median(values)


def memory(source: str, images: Path, given: argparse.Namespace) -> None:
    """Resident memory over many requests at 8 clients."""
    with tempfile.TemporaryDirectory() as scratch:
        client, done = Child(sys.executable, HERE / "load_client.py", images, given.door), 0
        service, port = served(source, scratch)
        print("| requests | resident MB | requests/s | statuses |\n|---|---|---|---|")
        part = max(1, given.memory // 10)
        while done < given.memory:
            row = client.ask(port=port, clients=8, seconds=1e6, most=part)
            done += row["count"]
            print(
                f"| {done:,} | {service.memory.memory_info().rss / 2**20:.1f} | {row['rate']:.0f} | {row['statuses']} |",
                flush=True,
            )
        for child in (service, client):
            child.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", help="an exported file or a run's folder; left out: one is fitted")
    parser.add_argument("images", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--model", default="subspace", help="the method that is fitted")
    parser.add_argument("--keep", metavar="FILE", help="where to leave the exported file, for another time")
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3, help="turns; the table has their medians")
    parser.add_argument("--memory", type=int, metavar="REQUESTS", help="resident memory over so many requests instead")
    parser.add_argument("--detector", choices=["real", "spots"], default="real", help="spots: one that costs nothing")
    parser.add_argument("--door", choices=["v1", "v2"], default="v1", help="v2: the Open Inference Protocol")
    parser.add_argument("--role", choices=["engine", "spots"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        {"engine": engine_main, "spots": spots_main}[given.role](given)
        return
    import bench

    print(bench.machine())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        camera_images(folder)
        if given.source is None and given.detector == "real":
            given.source = str(fitted(folder, given.model))
        if given.keep and given.source:
            shutil.copy(given.source, given.keep)
        if given.memory:
            memory("spots" if given.detector == "spots" else given.source, folder / "camera", given)
        else:
            speed(Path(given.source), folder / "camera", given)


if __name__ == "__main__":
    main()
