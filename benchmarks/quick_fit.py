"""From 16 images to an exported file: seconds and bytes, with the real commands and in one process.

    python benchmarks/quick_fit.py                      # subspace on EfficientNet-Lite0, ONNX
    python benchmarks/quick_fit.py --model anomalydino --threads 2

The images are of the data set `sample`, in a folder as a user has it; two more normal ones and two defective ones test. Whole
processes are timed, starting Python and importing torch included; what that takes alone is the first line. What lies beside the
backbone is the part of the run's state that fitting made.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from shutil import copy

from safetensors import safe_open

from anomaly_core import RunConfig, registry


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="From 16 images to an exported file.")
    parser.add_argument("--model", default="subspace", help="a method (subspace)")
    parser.add_argument("--images", type=int, default=16, help="normal images to fit on (16)")
    parser.add_argument("--threads", type=int, default=2, help="of each process (2)")
    given = parser.parse_args(arguments)
    environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads)}
    with tempfile.TemporaryDirectory() as place:
        options = _images(Path(place), given.images)
        timed("import torch", [sys.executable, "-c", "import torch"], environment)
        sets = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "anomaly_core"]
        arguments = ["run", "--model", given.model, "--data", "folder", "--preset", "edge", *sets]
        seconds = timed("anomaly run", [*command, *arguments], environment)
        (run,) = [path.parent for path in Path(options["base.output"]).rglob("model.safetensors")]
        seconds += timed("anomaly export", [*command, "export", str(run), "--format", "onnx"], environment)
        print(f"both: {seconds:.1f} s")
        with safe_open(run / "model.safetensors", "pt") as state:
            names = [name for name in state.keys() if not name.startswith("extractor.")]  # noqa: SIM118  # it is no dict
            learnt = [state.get_tensor(name) for name in names]
        print(f"beside the backbone: {sum(t.numel() * t.element_size() for t in learnt) / 1e6:.3f} MB")
        print(f"model.onnx, backbone included: {(run / 'model.onnx').stat().st_size / 1e6:.1f} MB")
        options["base.output"] += "-one"
        sets = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
        for engine in ("auto", "torch"):
            once = ["run", "--model", given.model, "--data", "folder", "--preset", "edge", *sets, "--export", "onnx"]
            timed(f"anomaly run --export onnx, {engine}", [*command, *once, "--set", f"model.engine={engine}"], environment)
    return 0


def _images(place: Path, count: int) -> dict[str, str]:
    """Folders of normal and defective images of `sample`, and the options that name them."""
    config = RunConfig.create(model="subspace", data="sample", overrides={"data.root": str(place / "sample")})
    data = registry.datasets["sample"].build(config.data, seed=0)
    fit, held_out = data.split("wood", 1)
    test = data.test_samples("wood")
    parts = {
        "normal": [*fit, *held_out][:count],
        "normal_test": [sample for sample in test if not sample.label][:2],
        "abnormal": [sample for sample in test if sample.label][:2],
    }
    for name, samples in parts.items():
        (place / name).mkdir()
        for number, sample in enumerate(samples):
            copy(sample.path, place / name / f"{number:03}.png")
    return {**{f"data.{name}": str(place / name) for name in parts}, "base.output": str(place / "runs"), "base.pictures": "0"}


def timed(what: str, command: list[str], environment: dict[str, str]) -> float:
    """Run it and say how long it took; its output appears if it fails."""
    begun = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stdout}{done.stderr}")
    print(f"{what}: {seconds:.1f} s", flush=True)
    return seconds


if __name__ == "__main__":
    raise SystemExit(main())
