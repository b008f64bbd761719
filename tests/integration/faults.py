"""Runs of a small autoencoder that are to be disturbed, and what they must leave behind."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from safetensors import safe_open

from anomaly_core import RunConfig
from anomaly_predict import load_run

SETTINGS = {
    "data.size": 64, "data.train_count": 8, "data.good_count": 3, "data.bad_count": 5, "data.holdout": 0.25,
    "model.image_size": 64, "train.epochs": 3, "base.pictures": 2,
}  # fmt: skip

KEPT = ("predictions.csv", "model.safetensors", "calibration.json")


def sets(root: Path, **more: Any) -> list[str]:
    values = {**SETTINGS, "data.root": root, **more}
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def fit(root: Path, output: Path, **more: Any) -> list[str]:
    start = ["run", "--model", "vanilla_ae", "--data", "sample", "--preset", "edge", "--category", "fabric"]
    return [*start, "--output", str(output), "--no-plugin", "anomaly-report", *sets(root, **more)]


def config(root: Path, output: Path, *, model: str = "vanilla_ae", **more: Any) -> RunConfig:
    options = {**SETTINGS, "data.root": str(root), "data.category": ["fabric"], "base.output": str(output), **more}
    if model == "patchcore":
        del options["train.epochs"]
    return RunConfig.create(model=model, data="sample", preset="edge", overrides=options)


def statuses(output: Path) -> list[str]:
    return [json.loads(path.read_text())["status"] for path in sorted(output.rglob("manifest.json"))]


def newest(output: Path) -> Path:
    """The newest complete run or evaluation below a folder."""
    complete = [p.parent for p in output.rglob("manifest.json") if json.loads(p.read_text())["status"] == "complete"]
    return max(complete, key=lambda folder: (len(folder.parts), folder.name))


def contents(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def assert_whole(output: Path) -> None:
    """Every file that has its name parses, and a folder that says complete holds all that a complete one does."""
    readers: dict[str, Callable[[Path], Any]] = {
        ".json": lambda path: json.loads(path.read_text()),
        ".yaml": lambda path: yaml.safe_load(path.read_text()),
        ".safetensors": lambda path: [safe_open(path, "pt").keys()],
        ".pt": lambda path: torch.load(path, weights_only=True),
        ".png": lambda path: Image.open(path).load(),
        ".csv": lambda path: list(csv.DictReader(path.open(newline=""), strict=True)),
        ".html": lambda path: path.read_text().rindex("</html>"),
    }
    for path in output.rglob("*"):
        if path.is_file() and not path.name.endswith(".part"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # the readers above leave closing to the interpreter
                readers.get(path.suffix, Path.read_bytes)(path)
    for path in output.rglob("manifest.json"):
        folder = path.parent
        if json.loads(path.read_text())["status"] == "complete":
            images = json.loads((folder / "metrics.json").read_text())["images"]
            rows = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
            assert len(rows) == images
            assert all((folder / row["picture"]).is_file() for row in rows if row["picture"])
            if "evaluations" not in folder.parts:
                load_run(folder)
