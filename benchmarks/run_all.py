"""`make bench`: runs every benchmark, each beside its alternative, and writes what they print into RESULTS.md.

python benchmarks/run_all.py                      # all of them, two hours on two cores
python benchmarks/run_all.py search padim_fit     # these alone; the other sections stay
PEER=/path/to/venv/bin/python python benchmarks/run_all.py vs_anomalib
BEFORE=/path/to/checkout python benchmarks/run_all.py whole_run latency growth     # beside another commit; PEER may be set too
"""

from __future__ import annotations

import ast
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS, PARTS = HERE / "RESULTS.md", HERE / "results"
SCRIPTS: dict[str, list[str]] = {
    "startup": [],
    "coreset": [],
    "search": [],
    "padim_fit": [],
    "cached_epochs": [],
    "engines": [],
    "precision": [],
    "streaming_metrics": [],
    "scaling": [],
    "whole_run": ["--repeats", "3"],
    "latency": [],
    "growth": ["--sizes", "100", "400", "1600"],
}
PEER, BEFORE = os.environ.get("PEER"), os.environ.get("BEFORE")
for name in ("whole_run", "latency", "growth"):
    SCRIPTS[name] += [*(["--before", BEFORE] if BEFORE else []), *(["--peer", PEER] if PEER else [])]
if PEER:
    SCRIPTS["startup"] = ["--peer", str(Path(PEER).with_name("anomalib"))]
    SCRIPTS["vs_anomalib"] = ["--peer", PEER]


def run(name: str, arguments: list[str]) -> None:
    """Run a script, show what it prints, and keep that."""
    lines = []
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
    print(f"== {name}", flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        sys.exit(f"{name} failed with exit code {process.returncode}; its old section stays.")
    PARTS.mkdir(exist_ok=True)
    (PARTS / f"{name}.txt").write_text(f"{date.today()}\n" + "".join(lines), encoding="utf-8")


def write() -> None:
    """Join the parts, each under the first sentence of its script."""
    page = [
        "# Results",
        "Every figure is measured side by side with its alternative in one run; medians, and ratios to compare. "
        "`make bench` repeats them all, `python benchmarks/run_all.py NAME` one of them.",
        f"Last machine: {platform.machine()}, {os.cpu_count()} cores, {platform.system()}.",
    ]
    for path in sorted(PARTS.glob("*.txt"), key=lambda path: [*SCRIPTS, "vs_anomalib"].index(path.stem)):
        about = ast.get_docstring(ast.parse((HERE / f"{path.stem}.py").read_text(encoding="utf-8"))) or ""
        day, _, text = path.read_text(encoding="utf-8").partition("\n")
        page += [f"## {path.stem}", f"{about.partition(chr(10) * 2)[0]} ({day})", f"```\n{text.strip()}\n```"]
        if (HERE / f"{path.stem}.png").is_file():
            page.append(f"![{path.stem}]({path.stem}.png)")
    RESULTS.write_text("\n\n".join(page) + "\n", encoding="utf-8")


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in SCRIPTS]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are: {', '.join(SCRIPTS)} (vs_anomalib with PEER=PYTHON).")
    for name in names or SCRIPTS:
        run(name, SCRIPTS[name])
        write()


if __name__ == "__main__":
    main(sys.argv[1:])
