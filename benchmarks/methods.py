"""Every method's `edge` preset on ELPV and on the generated data set: the table in docs/methods.md.

    python benchmarks/methods.py            # all methods, resumable: run it again after a stop
    python benchmarks/methods.py stfpm      # these methods alone; the other rows stay

Two CPU cores, one run at a time, no internet. The runs are ordinary ones, in experiments/methods/.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import elpv_split

from anomaly_benchmark import Cell, grid, run_grid
from anomaly_core import registry

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "methods.md"
OUTPUT = ROOT / "experiments" / "methods"
FIGURES = OUTPUT / "figures.json"
BEGIN, END = "<!-- begin: made by benchmarks/methods.py -->", "<!-- end -->"
COMMON = {"base.output": str(OUTPUT), "base.pictures": 8}
SIDE_BY_SIDE = ("patchcore", "padim", "stfpm")  # what other libraries were measured on
COLUMNS = (
    ("ELPV mono", "elpv_mono", "image_auroc"),
    ("ELPV poly", "elpv_poly", "image_auroc"),
    ("split mono", "split_mono", "image_auroc"),
    ("split poly", "split_poly", "image_auroc"),
    ("sample image", "sample", "image_auroc"),
    ("sample pixel", "sample", "pixel_auroc"),
    ("sample AUPRO", "sample", "aupro"),
    ("fit s", "elpv_mono", "fit_seconds"),
    ("images/s", "elpv_mono", "images_per_second"),
    ("peak MB", "elpv_mono", "peak_memory_mb"),
)


def mean(cells: list[Cell], name: str) -> float | None:
    values = [cell.values.get(name) for cell in cells]
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def timed(models: list[str]) -> None:
    """The cells that the columns of cost are read from: first and in a row, for whoever keeps the machine idle that long."""
    run_grid(grid(models, ["elpv"], categories=["mono"], preset="edge", overrides=COMMON), resume=True)
    print("the timed part is done", flush=True)


def cells(model: str, split: Path) -> dict[str, list[Cell]]:
    """The model's cells by data set, run or read."""
    parts: dict[str, list[Cell]] = {}
    for kind in ("mono", "poly"):
        parts[f"elpv_{kind}"] = grid([model], ["elpv"], categories=[kind], preset="edge", overrides=COMMON)
        if model not in SIDE_BY_SIDE:
            continue
        root = {**COMMON, "data.root": str(split / f"elpv_{kind}"), "base.output": str(OUTPUT / "split")}
        parts[f"split_{kind}"] = grid([model], ["folder"], preset="edge", overrides=root)
    parts["sample"] = grid([model], ["sample"], preset="edge", overrides=COMMON)
    return {name: run_grid(part, resume=True) for name, part in parts.items()}


def main(models: list[str]) -> None:
    os.chdir(ROOT)
    figures = json.loads(FIGURES.read_text()) if FIGURES.is_file() else {}
    split = Path(tempfile.gettempdir()) / "elpv_split"
    elpv_split.split(split)
    models = models or list(registry.models)
    timed(models)
    for model in models:
        done = cells(model, split)
        for part in done.values():
            for cell in part:
                if cell.error:
                    sys.exit(f"{cell.name}: {cell.error}")
        row = {label: mean(done.get(name, []), metric) for label, name, metric in COLUMNS}
        row |= {f"sample {cell.category}": cell.values["pixel_auroc"] for cell in done["sample"]}
        figures[model] = row
        print(model, {key: value if value is None else round(value, 4) for key, value in row.items()}, flush=True)
        FIGURES.parent.mkdir(parents=True, exist_ok=True)
        FIGURES.write_text(json.dumps(figures, indent=2))
    write(figures)


def write(figures: dict[str, dict[str, float | None]]) -> None:
    """Put the table between the page's markers."""
    header = ["method", *(label for label, _, _ in COLUMNS)]
    lines = [header, ["---"] * len(header)]
    for model in [name for name in registry.models if name in figures]:
        cost = {"fit s", "images/s", "peak MB"}
        values = [(label, figures[model][label]) for label, _, _ in COLUMNS]
        lines.append([f"`{model}`", *("-" if v is None else f"{v:.0f}" if k in cost else f"{v:.3f}" for k, v in values)])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "timm"))
    about = f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}, {versions}; seed 0."
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n\n{about}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
