"""The leaderboard: all runs below a folder in one page, and each method's mean over the categories."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from anomaly_core.experiment import Experiment
from anomaly_core.results import Metrics, mean_metrics
from anomaly_report import words
from anomaly_report.page import relative_url, render
from anomaly_report.report import REPORT
from anomaly_report.runs import RunRow, read_runs

LEADERBOARD = "leaderboard.html"
# Shown at first; the others can be ticked.
FIRST = ("image_auroc", "image_ap", "image_f1", "pixel_auroc", "pixel_ap", "aupro")


def write_leaderboard(folder: str | Path, rows: list[RunRow] | None = None, title: str = "") -> Path:
    """Write ``leaderboard.html`` into the folder.

    Args:
        folder: where the runs lie, at any depth.
        rows: what :func:`~anomaly_report.runs.read_runs` found there, where it was read already, or runs elsewhere.
        title: of the page; the folder's name by default.

    Returns:
        the page.

    Raises:
        RunError: the page cannot be written.
    """
    folder = Path(folder)
    rows = read_runs(folder) if rows is None else rows
    names = words.ordered(name for row in rows for name in row.metrics)
    page = render(
        "leaderboard.html",
        ["table.js", "leaderboard.js"],
        leaderboard_data(folder, rows, names),
        title=title or f"Leaderboard of {folder.absolute().name}",
        metrics=[(words.title(name), words.meaning(name)) for name in names],
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        runs=len(rows),
        complete=sum(row.status == "complete" for row in rows),
    )
    return Experiment(folder).write(LEADERBOARD, page)


def leaderboard_data(folder: Path, rows: list[RunRow], names: list[str]) -> dict[str, Any]:
    """What the page's script reads; ``best`` holds, of each row, the metrics in which its group has none better."""
    best = best_of([(f"{row.dataset}/{row.category}/{row.native}", row.metrics) for row in rows], names)
    means = means_over_categories(rows)
    # A mean over fewer categories is easier to win: it stands there, unmarked.
    whole = [mean["count"] == mean["of"] for mean in means]
    fair = [
        (f"{mean['dataset']}/{mean['native']}", mean["metrics"] if is_whole else {})
        for mean, is_whole in zip(means, whole, strict=True)
    ]
    best_means = best_of(fair, names)
    return {
        "metrics": [
            {"name": name, "title": words.title(name), "oracle": words.is_oracle(name), "shown": name in FIRST}
            for name in names
        ],
        "runs": [_run(folder, row, names, marks) for row, marks in zip(rows, best, strict=True)],
        "means": [
            {
                **mean,
                "metrics": [mean["metrics"].get(name) for name in names],
                "best": marks if mean["count"] == mean["of"] else [],
            }
            for mean, marks in zip(means, best_means, strict=True)
        ],
    }


def best_of(rows: Iterable[tuple[str, Metrics]], names: list[str]) -> list[list[int]]:
    """For each (group, metrics) the positions of the metrics in which no other of its group is better.

    A group of one has no best: there is nothing to compare.
    """
    rows = list(rows)
    directions = [1 if words.higher_is_better(name) else -1 for name in names]
    top: dict[tuple[str, int], float] = {}
    count: dict[tuple[str, int], int] = defaultdict(int)
    for group, metrics in rows:
        for position, name in enumerate(names):
            if (value := metrics.get(name)) is not None:
                key, signed = (group, position), directions[position] * value
                top[key] = max(top.get(key, signed), signed)
                count[key] += 1
    return [
        [
            position
            for position, name in enumerate(names)
            if (value := metrics.get(name)) is not None
            and count[group, position] > 1
            and directions[position] * value == top[group, position]
        ]
        for group, metrics in rows
    ]


def means_over_categories(rows: list[RunRow]) -> list[dict[str, Any]]:
    """A row for each data set, model and preset: first the mean of a category's runs, then that over categories.

    ``count`` of ``of`` categories are in it, of all that any method has on that data set.
    """
    found: dict[tuple[str, str, str, bool, bool], dict[str, list[Metrics]]] = defaultdict(lambda: defaultdict(list))
    seeds: dict[tuple[str, str, str, bool, bool], set[int | None]] = defaultdict(set)
    runs: dict[tuple[str, str, str, bool, bool], int] = defaultdict(int)
    everything: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.status != "complete":
            continue
        key = (row.dataset, row.model, row.preset, row.unified, row.native)
        seeds[key].add(row.seed)
        runs[key] += 1
        for category, metrics in (row.per_category if row.unified else {row.category: row.metrics}).items():
            found[key][category].append(metrics)
            everything[row.dataset].add(category)
    return [
        {
            "dataset": dataset,
            "model": _named(model, unified=unified, native=native),
            "native": native,
            "preset": preset,
            "count": len(categories),
            "of": len(everything[dataset]),
            "runs": runs[dataset, model, preset, unified, native],
            "seeds": len(seeds[dataset, model, preset, unified, native]),
            "metrics": mean_metrics(mean_metrics(several) for several in categories.values()),
        }
        for (dataset, model, preset, unified, native), categories in sorted(found.items())
    ]


def _named(model: str, *, unified: bool = False, native: bool = False) -> str:
    """The model, with what sets its figures apart from others'."""
    return ", ".join([model, *(["unified"] if unified else []), *(["native pixels"] if native else [])])


def _run(folder: Path, row: RunRow, names: list[str], best: list[int]) -> dict[str, Any]:
    place = os.path.relpath(row.folder, folder)
    has_report = (row.folder / REPORT).is_file()
    return {
        "dataset": row.dataset,
        "category": row.category,
        "model": _named(row.model, native=row.native),
        "preset": row.preset,
        "seed": row.seed,
        "status": row.status,
        "reason": row.reason,
        "run": row.folder.name,
        "place": place,
        "report": f"{relative_url(place)}/{REPORT}" if has_report else "",
        "metrics": [row.metrics.get(name) for name in names],
        "best": best,
        "fit": row.fit_seconds,
        "rate": row.images_per_second,
        "started": row.started,
    }
