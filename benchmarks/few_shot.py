"""What a few normal images teach: methods x shots x draws, the mean over the draws and its spread.

    python benchmarks/few_shot.py --data elpv --category mono --method subspace --method anomalydino --shots 1 --shots 4
    python benchmarks/few_shot.py --data magnetic_tile --root DIR --method subspace,model.layers=[blocks.8] --draws 3

A method is a name, or a name and options of its own, separated by commas. Each draw takes so many of the data set's normal
training images, by its seed, or with --sorted those that AnomalyDINO's protocol takes: the names in order, from seed * shots
on. The others are excluded (data.exclude), the test images are always all of them. Features of frozen networks are kept on disk
(model.feature_cache=disk), so that each image is computed once. The runs are ordinary ones, below experiments/few_shot/.
"""

from __future__ import annotations

import argparse
import re
import statistics
import warnings
from pathlib import Path
from typing import Any

import torch

from anomaly_core import DataError, RunConfig, parse_assignment, registry, run_experiment, write_whole

FIGURES = ("image_auroc", "pixel_auroc")


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Methods x shots x draws: the mean and the spread.")
    parser.add_argument("--data", required=True, help="a data set")
    parser.add_argument("--root", help="its folder")
    parser.add_argument("--category", help="its category; the first by default")
    parser.add_argument("--method", action="append", required=True, metavar="NAME[,KEY=VALUE...]", help="repeatable")
    parser.add_argument("--preset", default="edge", help="of every method (edge)")
    parser.add_argument("--shots", action="append", type=int, help="normal images; repeatable; 1 by default")
    parser.add_argument("--draws", type=int, default=5, help="draws of each number (5)")
    parser.add_argument("--sorted", action="store_true", help="consecutive images in the order of their names")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="an option of every run")
    parser.add_argument("--output", default="experiments/few_shot", metavar="DIR", help="runs and table (%(default)s)")
    return parser.parse_args(arguments)


def options_of(method: str) -> tuple[str, dict[str, Any]]:
    """``subspace,model.layers=[blocks.5,blocks.8]`` -> the name and its options; commas in brackets do not separate."""
    name, *given = re.split(r",(?![^\[]*\])", method)
    return name, dict(map(parse_assignment, given))


def drawn(names: list[str], shots: int, draw: int, in_order: bool) -> list[str]:
    """The images of a draw; DataError if there are too few."""
    if in_order:
        chosen = names[draw * shots : (draw + 1) * shots]
    else:
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(draw)).tolist()
        chosen = [names[i] for i in order[:shots]]
    if len(chosen) < shots:
        raise DataError(f"{len(names)} normal training images do not suffice for draw {draw} of {shots}.")
    return chosen


def measured(given: argparse.Namespace, method: str, shots: int, draw: int) -> dict[str, float]:
    """The figures of one run."""
    name, own = options_of(method)
    options: dict[str, Any] = {
        "base.output": given.output,
        "base.pictures": 0,
        "model.feature_cache": "disk",
        "model.cache_folder": str(Path(given.output) / "features"),
        **({"data.root": given.root} if given.root else {}),
        **({"data.category": [given.category]} if given.category else {}),
        **dict(map(parse_assignment, given.set)),
        **own,
    }
    config = RunConfig.create(model=name, data=given.data, preset=given.preset, overrides=options)
    data = registry.datasets[given.data].build(config.data, seed=config.base.seed)
    category = data.chosen_categories()[0]
    names = sorted(str(sample.path) for part in data.split(category, 1) for sample in part)
    kept = set(drawn(names, shots, draw, given.sorted))
    path = Path(given.output) / f"{given.data}-{shots}-{draw}.txt"
    write_whole(path, "\n".join(n for n in names if n not in kept).encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few images have no threshold: it says so each time
        result = run_experiment(config.replace(**{"data.category": [category], "data.exclude": str(path)}))
    return {figure: value for figure in FIGURES if (value := result.metrics.get(figure)) is not None}


def main(arguments: list[str] | None = None) -> int:
    given = parsed(arguments)
    rows = ["| method | shots | image AUROC | spread | draws | pixel AUROC |", "|---|---:|---:|---:|---|---:|"]
    for method in given.method:
        for shots in given.shots or [1]:
            runs = [measured(given, method, shots, draw) for draw in range(given.draws)]
            image = [run["image_auroc"] for run in runs]
            spread = statistics.stdev(image) if len(image) > 1 else 0.0
            pixel = [run["pixel_auroc"] for run in runs if "pixel_auroc" in run]
            draws = " ".join(f"{value:.3f}" for value in image)
            shown = f"{statistics.mean(pixel):.3f}" if pixel else ""
            rows.append(f"| {method} | {shots} | {statistics.mean(image):.3f} | {spread:.3f} | {draws} | {shown} |")
            print(rows[-1], flush=True)
    table = "\n".join(rows) + "\n"
    write_whole(Path(given.output) / "few_shot.md", table.encode())
    print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
