"""The papers' tables in one command: every method's `paper` preset on MVTec AD, VisA and BTAD, for whoever has the data sets.

    python benchmarks/protocols.py --root mvtec=/data/MVTec --root visa=/data/VisA --root btad=/data/BTAD
    python benchmarks/protocols.py --model patchcore --model padim --jobs 2

Without --root a data set is looked for in $ANOMALY_DATA/<name>, then data/<name>; one that is not there is said and left out.
A preset sets input size, crop, the resolution of evaluation and what is held out for calibration. The runs are ordinary ones,
in experiments/protocols/. There are the tables as well, protocols.md and protocols.csv, written again after each method: the
same command after a stop goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from anomaly_benchmark import Cell, Summary, grid, run_grid, to_csv
from anomaly_core import AnomalyError, ConfigError, DataError, parse_assignment, progress_bar, registry, write_whole

DATASETS = {"mvtec": "MVTec AD", "visa": "VisA", "btad": "BTAD"}
# What a table shows, and with how many digits.
COLUMNS = {
    "image_auroc": ("image AUROC", 4),
    "pixel_auroc": ("pixel AUROC", 4),
    "aupro": ("AUPRO", 4),
    "fit_seconds": ("seconds to fit", 1),
    "images_per_second": ("images a second", 1),
    "peak_memory_mb": ("peak memory, MB", 0),
}


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Methods x MVTec AD, VisA, BTAD: a row a category, and the mean.")
    parser.add_argument("--root", action="append", default=[], metavar="NAME=DIR", help="where a data set lies; repeatable")
    parser.add_argument("--model", action="append", metavar="NAME", help="a method; repeatable; all by default")
    parser.add_argument("--data", action="append", choices=list(DATASETS), help="a data set; repeatable; all by default")
    parser.add_argument("--category", action="append", metavar="NAME", help="a category; repeatable; all by default")
    parser.add_argument("--seed", action="append", type=int, metavar="N", help="a seed; repeatable; 0 by default")
    parser.add_argument("--preset", default="paper", help="of every method (paper)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="an option of every run")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (1)")
    parser.add_argument("--output", default="experiments/protocols", metavar="DIR", help="runs and tables (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run what is not there yet, and write the tables; 0 where every run is complete."""
    given = parsed(arguments)
    roots = dict(root.partition("=")[::2] for root in given.root)
    if unknown := [name for name, folder in roots.items() if name not in DATASETS or not folder]:
        raise ConfigError(f"--root {unknown[0]}: expected NAME=DIR with a name of {', '.join(DATASETS)}.")
    models = given.model or list(registry.models)
    groups, missing = planned(given, models, roots)
    for text in missing:
        print(f"left out: {text}", file=sys.stderr)
    if not groups:
        raise DataError(
            "none of the data sets is there. Name a folder with --root mvtec=DIR, --root visa=DIR, --root btad=DIR."
        )
    done: list[Cell] = []
    for group in groups:
        done += run_grid(group, jobs=given.jobs, resume=True, progress=progress_bar)
        write(Path(given.output), done)
    print(to_text(done))
    print(f"tables in {given.output}")
    return int(any(cell.error for cell in done))


def planned(given: argparse.Namespace, models: list[str], roots: dict[str, str]) -> tuple[list[list[Cell]], list[str]]:
    """The cells of each data set and method, and why a data set has none."""
    groups, missing = [], []
    for dataset in given.data or DATASETS:
        overrides: dict[str, Any] = {**dict(map(parse_assignment, given.set)), "base.output": given.output}
        if dataset in roots:
            overrides["data.root"] = roots[dataset]
        options = {"categories": given.category, "seeds": given.seed or [0], "preset": given.preset, "overrides": overrides}
        try:
            cells = grid(models, [dataset], **options)
        except DataError as error:
            missing.append(f"{DATASETS[dataset]}: {error}")
            continue
        groups += [[cell for cell in cells if cell.model == model] for model in models]
    return groups, missing


def write(folder: Path, cells: list[Cell]) -> None:
    write_whole(folder / "protocols.md", to_text(cells).encode())
    write_whole(folder / "protocols.csv", to_csv(Summary(cells)).encode())


def to_text(cells: list[Cell]) -> str:
    """Markdown: each data set's tables, one a figure: a row a category and the mean, a column a method."""
    parts = []
    for dataset in dict.fromkeys(cell.data for cell in cells):
        summary = Summary([cell for cell in cells if cell.data == dataset])
        parts.append(f"# {DATASETS[dataset]}")
        if summary.resolutions:
            parts.append(f"Pixels judged at: {'; '.join(summary.resolutions)}.")
        parts += [f"## {title}\n\n{_table(summary, name, digits)}" for name, (title, digits) in COLUMNS.items()]
    if failed := [cell for cell in cells if cell.error]:
        parts.append("# Failed\n\n" + "\n".join(f"- {cell.name}: {cell.error}" for cell in failed))
    return "\n\n".join(parts) + "\n"


def _table(summary: Summary, name: str, digits: int) -> str:
    """A method that lacks a category has no mean: one over fewer categories would not be the paper's."""

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    lines = [["category", *summary.models], ["---"] * (len(summary.models) + 1)]
    table = {model: [summary.over_seeds(model, block, name) for block in summary.blocks] for model in summary.models}
    for number, (_, category) in enumerate(summary.blocks):
        lines.append([category, *(shown(table[model][number]) for model in summary.models)])
    means = []
    for values in table.values():
        numbers = [value for value in values if value is not None]
        means.append(shown(sum(numbers) / len(numbers) if len(numbers) == len(values) else None))
    lines.append(["mean", *means])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AnomalyError as problem:
        sys.exit(f"error: {problem}")
