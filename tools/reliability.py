"""Writes docs/reliability.md from the rows that tests recorded: python tools/reliability.py ROWS.jsonl docs/reliability.md"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TITLES = {
    "fault": "Faults injected",
    "input": "Inputs tried",
    "security": "Attacks tried",
    "determinism": "The same again",
    "load": "Load",
}
NOTES = {
    "determinism": "Byte for byte means on one machine with one number of threads: `manifest.json` has it as `threads`, "
    "and OMP_NUM_THREADS sets it. How far another number leads is in `docs/guides/research.md`.",
}
HEAD = """\
# Reliability

Written by `make soak`, which bounds itself to SOAK_MINUTES (10 unless told; `make soak SOAK_MINUTES=60` tries more moments and
inputs). Each row is a test; the count is how often it was done, and what was lost is what the test found missing or wrong
afterwards. A row with a seed is repeated by `make soak SOAK_SEED=<seed> ARGS="-k <test>"`.
"""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file, those of one test and text added up."""
    joined: dict[tuple[str, ...], dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        test = row["test"].partition("::")[2].partition("[")[0]
        key = (row["kind"], row["what"], test, str(row["seed"]), row["lost"])
        known = joined.setdefault(key, {**row, "test": test, "count": 0})
        known["count"] += row["count"]
    return list(joined.values())


def to_markdown(rows: Iterable[dict[str, Any]]) -> str:
    """The page: a table a kind, in the order of the tests."""
    rows = list(rows)
    parts = [HEAD]
    for kind in dict.fromkeys([*TITLES, *(row["kind"] for row in rows)]):
        group = [row for row in rows if row["kind"] == kind]
        if not group:
            continue
        lost = {row["lost"] for row in group} - {"nothing"}
        total = sum(row["count"] for row in group)
        lines = [f"## {TITLES.get(kind, kind)}", "", f"{total:,} in all; lost: {', '.join(sorted(lost)) or 'nothing'}.", ""]
        lines += [NOTES[kind], ""] if kind in NOTES else []
        lines += ["| what | count | lost | seed | test |", "| --- | ---: | --- | ---: | --- |"]
        for row in group:
            seed = "" if row["seed"] is None else row["seed"]
            lines.append(f"| {_cell(row['what'])} | {row['count']:,} | {_cell(row['lost'])} | {seed} | `{row['test']}` |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _cell(text: str) -> str:
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return flat.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*")


def main() -> None:
    """Read, and write the page whole."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("page", type=Path)
    arguments = parser.parse_args()
    rows = read_rows(arguments.rows)
    temporary = arguments.page.with_name(f".{arguments.page.name}.{os.getpid()}.part")
    temporary.write_text(to_markdown(rows), encoding="utf-8")
    temporary.replace(arguments.page)
    print(f"{arguments.page}: {len(rows)} rows")


if __name__ == "__main__":
    main()
