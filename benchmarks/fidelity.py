"""The ledger of faithfulness, docs/fidelity.md: each method beside its paper, its original code, and itself on real images.

    python benchmarks/fidelity.py                                   # what is missing; run it again after a stop
    python benchmarks/fidelity.py subspace musc --data elpv_mono    # these methods, on this data set
    python benchmarks/fidelity.py --golden                          # compare with the originals' answers again
    python benchmarks/fidelity.py --root magnetic_tile=DIR --root deep_pcb=DIR --root mvtec=DIR --root visa=DIR
    python benchmarks/fidelity.py --page                            # write the page from what was measured

Facts of papers and codes are in benchmarks/fidelity.yaml; what was measured, in benchmarks/results/fidelity.json, with the
processor. Data sets that can be had are scored with the `edge` preset, one run at a time; MVTec AD and VisA, which must be
yours, with the `paper` preset (benchmarks/protocols.py). The runs are ordinary ones, in experiments/fidelity/.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from anomaly_benchmark import Cell, grid, run_grid
from anomaly_core import (
    AnomalyError,
    ConfigError,
    DataError,
    RunFolder,
    choose_device,
    progress_bar,
    registry,
    write_whole,
)

ROOT = Path(__file__).resolve().parent.parent
FACTS = ROOT / "benchmarks" / "fidelity.yaml"
MEASURED = ROOT / "benchmarks" / "results" / "fidelity.json"
PAGE = ROOT / "docs" / "fidelity.md"
RECORDER = Path(__file__).parent / "agreement.py"
BEGIN, END = "<!-- begin: made by benchmarks/fidelity.py -->", "<!-- end -->"


@dataclass(frozen=True)
class Column:
    """A data set of the ledger: the mean over its categories.

    Attributes:
        metrics: what is shown, with ``pixel_auroc`` where there are masks.
        yours: it must be the user's own, and is run with the paper's preset.
    """

    title: str
    data: str
    categories: tuple[str, ...] | None = None
    metrics: tuple[str, ...] = ("image_auroc",)
    yours: bool = False


BOTH = ("image_auroc", "pixel_auroc")
COLUMNS = {
    "elpv_mono": Column("ELPV mono", "elpv", ("mono",)),
    "elpv_poly": Column("ELPV poly", "elpv", ("poly",)),
    "magnetic_tile": Column("magnetic tile", "magnetic_tile", metrics=BOTH),
    "deep_pcb": Column("DeepPCB", "deep_pcb", metrics=BOTH),
    "sample": Column("`sample`", "sample", ("fabric", "wood", "nut", "circuit"), BOTH),
    "kit": Column("`sample` kit", "sample", ("kit",)),
    "mvtec": Column("MVTec AD", "mvtec", metrics=BOTH, yours=True),
    "visa": Column("VisA", "visa", metrics=BOTH, yours=True),
}
COSTS = {"fit_seconds": "fit s", "ms": "ms an image", "peak_memory_mb": "peak MB", "state_mb": "state MB"}
COST_OF = "elpv_mono"  # the data set that costs are shown of
MARK = "ᵍ"  # of what was fitted on a GPU


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing, and write the page; 0 where every run is complete."""
    parser = argparse.ArgumentParser(description="The ledger of faithfulness, docs/fidelity.md.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="methods; all by default")
    parser.add_argument("--data", action="append", choices=list(COLUMNS), help="a data set; repeatable; all by default")
    parser.add_argument("--root", action="append", default=[], metavar="NAME=DIR", help="where a data set lies; repeatable")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no run after so many minutes")
    parser.add_argument("--again", action="store_true", help="measure again what has been measured")
    parser.add_argument("--golden", action="store_true", help="only compare with the originals' answers")
    parser.add_argument("--page", action="store_true", help="only write the page")
    given = parser.parse_args(arguments)
    os.chdir(ROOT)
    facts: dict[str, Any] = yaml.safe_load(FACTS.read_text(encoding="utf-8"))
    if unknown := [name for name in given.models if name not in registry.models]:
        raise ConfigError(f"no method is called {unknown[0]!r}. Installed: {', '.join(registry.models)}.")
    models, failed = given.models or list(registry.models), False
    if given.golden:
        agreement(models, facts)
    elif not given.page:
        failed = not measure(models, given)
    write_whole(PAGE, page(facts, load()).encode())
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return int(failed)


def load() -> dict[str, Any]:
    measured: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.is_file() else {}
    return {"figures": {}, "agreement": {}, **measured}


def save(measured: dict[str, Any]) -> None:
    write_whole(MEASURED, (json.dumps(measured, indent=1, sort_keys=True) + "\n").encode())


def agreement(models: list[str], facts: dict[str, Any]) -> None:
    """Run the tests on the originals' answers, and note the greatest difference that each of them let pass."""
    for model in models:
        if not (test := facts.get(model, {}).get("golden")):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = Path(folder) / "agreement.json"
            environment = {**os.environ, "ANOMALY_AGREEMENT": str(found), "PYTHONPATH": str(RECORDER.parent)}
            command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", RECORDER.stem, *test.split()]
            subprocess.run(command, cwd=ROOT, env=environment, check=True)
            measured = load()
            measured["agreement"][model] = json.loads(found.read_text())
            save(measured)


def measure(models: list[str], given: argparse.Namespace) -> bool:
    """Run what has no figure; whether all of it could be run."""
    roots = dict(root.partition("=")[::2] for root in given.root)
    start, complete = time.monotonic(), True
    for name in given.data or COLUMNS:
        for model in models:
            if not given.again and name in load()["figures"].get(model, {}):
                continue
            if time.monotonic() - start > 60 * given.minutes:
                print("the time is over: the same command goes on", file=sys.stderr)
                return False
            try:
                cells = run_grid(planned(model, COLUMNS[name], roots), resume=not given.again, progress=progress_bar)
            except DataError as error:
                print(f"left out: {COLUMNS[name].title}: {str(error).partition('. ')[0]}", file=sys.stderr)
                break
            if errors := [cell for cell in cells if cell.error]:
                print(f"{errors[0].name}: {errors[0].error}", file=sys.stderr)
                complete = False
                continue
            measured = load()
            measured["figures"].setdefault(model, {})[name] = figures(cells)
            save(measured)
            print(model, name, {k: v for k, v in figures(cells).items() if isinstance(v, float)}, flush=True)
    return complete


def planned(model: str, column: Column, roots: dict[str, str]) -> list[Cell]:
    overrides: dict[str, Any] = {"base.output": str(ROOT / "experiments" / "fidelity"), "base.pictures": 4}
    if column.data in roots:
        overrides["data.root"] = roots[column.data]
    preset = "paper" if column.yours else "edge"
    if not column.yours:  # on the images themselves, where the border of padded ones does not count
        overrides["data.evaluate_at"] = "native"
    return grid([model], [column.data], categories=column.categories, preset=preset, overrides=overrides)


def figures(cells: list[Cell]) -> dict[str, Any]:
    """The means over categories, and where they were measured."""
    row: dict[str, Any] = {name: _mean([cell.values.get(name) for cell in cells]) for name in (*BOTH, "fit_seconds")}
    row["peak_memory_mb"] = max((cell.values.get("peak_memory_mb") or 0 for cell in cells), default=0) or None
    speed = _mean([cell.values.get("images_per_second") for cell in cells])
    row["ms"] = 1000 / speed if speed else None
    run = RunFolder.open(cells[0].folder)
    state = run.modeler(run.config()).trained_state()
    row["state_mb"] = sum(tensor.numel() * tensor.element_size() for tensor in state.values()) / 1e6
    row["processor"], row["gpu"] = _processor(), _gpu()
    row["day"] = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    row["preset"] = cells[0].config["base"]["preset"]
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}


def _mean(values: list[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def _processor() -> str:
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    sets = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile") if flag in flags]
    return f"{name or platform.machine()}, {os.cpu_count()} cores ({', '.join(sets) or 'no AVX2'})"


def _gpu() -> str | None:
    """The name of the graphics processor that runs take here (``base.device`` is ``auto``), if any."""
    device = choose_device("auto")
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def page(facts: dict[str, Any], measured: dict[str, Any]) -> str:
    """The page: what stands before the marker is kept."""
    before = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0] if PAGE.is_file() else "# Faithfulness\n\n"
    return before + "\n".join([BEGIN, *_originals(facts, measured), *_table(facts, measured), *_costs(measured), END]) + "\n"


def _originals(facts: dict[str, Any], measured: dict[str, Any]) -> list[str]:
    lines = ["## Beside the originals", ""]
    lines += ["| method | paper's figures | official code | agreement | deviations |", "|---|---|---|---|---|"]
    for model in registry.models:
        fact = facts.get(model, {})
        agreed = measured["agreement"].get(model)
        agreement = "no original: own method" if not fact.get("golden") else "not compared here"
        if agreed:
            agreement = (
                f"{agreed['arrays']} arrays, greatest difference {agreed['greatest']:.0e} (allowed {agreed['allowed']:.0e})"
            )
        cells = [f"`{model}`", fact.get("figures", "-"), fact.get("code", "-"), agreement, fact.get("deviations", "-")]
        lines.append(f"| {' | '.join(' '.join(str(cell).split()) for cell in cells)} |")
    return [*lines, ""]


def _table(facts: dict[str, Any], measured: dict[str, Any]) -> list[str]:
    lines = ["## On images that one can have", ""]
    lines += [f"| method | {' | '.join(column.title for column in COLUMNS.values())} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for model in registry.models:
        cells = []
        for name, column in COLUMNS.items():
            row = measured["figures"].get(model, {}).get(name)
            if row is None:
                cells.append("-")
                continue
            values = [row.get(metric) for metric in column.metrics]
            on_gpu = f" {MARK}" if row.get("gpu") else ""
            cells.append(" / ".join("-" if value is None else f"{value:.3f}" for value in values) + on_gpu)
        lines.append(f"| `{model}` | {' | '.join(cells)} |")
    gpus = sorted({row["gpu"] for rows in measured["figures"].values() for row in rows.values() if row.get("gpu")})
    return [*lines, *(["", f"{MARK} fitted and scored on a GPU ({', '.join(gpus)}), all others on CPUs."] if gpus else []), ""]


def _costs(measured: dict[str, Any]) -> list[str]:
    lines = ["## What it costs", "", f"On {COLUMNS[COST_OF].title}, with the `edge` preset.", ""]
    lines += [f"| method | {' | '.join(COSTS.values())} | measured |", "|---" * (len(COSTS) + 2) + "|"]
    processors: dict[str, str] = {}
    for model in registry.models:
        row = measured["figures"].get(model, {}).get(COST_OF)
        if row is None:
            lines.append(f"| `{model}` | {' | '.join('-' * len(COSTS))} | not yet |")
            continue
        letter = processors.setdefault(row["processor"], chr(ord("A") + len(processors)))
        values = ["-" if row.get(name) is None else _short(row[name]) for name in COSTS]
        lines.append(f"| `{model}` | {' | '.join(values)} | {row['day']}, {letter} |")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "timm"))
    machines = "; ".join(f"{letter}: {name}" for name, letter in processors.items())
    return [*lines, "", f"{machines or 'Nothing was measured yet'}. Written with {versions}.", ""]


def _short(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AnomalyError as problem:
        sys.exit(f"error: {problem}")
