"""The leaderboard: all runs below a folder in one page, and each method's mean over the categories."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from anomaly_core import Measure, Values, inside, mean_values, write_whole
from anomaly_report.figures.plans import WRITE_ELSEWHERE
from anomaly_report.page import relative_url, render
from anomaly_report.products import told_apart
from anomaly_report.report import REPORT
from anomaly_report.runs import RunRow, read_runs

LEADERBOARD = "leaderboard.html"


def write_leaderboard(
    folder: str | Path, rows: list[RunRow] | None = None, title: str = "", output: str | Path | None = None
) -> Path:
    """Write ``leaderboard.html`` into the folder, or ``output``.

    Args:
        folder: where the runs lie, at any depth.
        rows: what :func:`~anomaly_report.runs.read_runs` found there, where it was read already, or runs elsewhere.
        title: of the page; the folder's name by default.
        output: another file for the page.

    Returns:
        the page.

    Raises:
        RunError: the page cannot be written.
    """
    folder = Path(folder)
    rows = told_apart(read_runs(folder) if rows is None else rows)
    metrics = metrics_of(rows)
    path = folder / LEADERBOARD if output is None else Path(output)
    page = render(
        "leaderboard.html",
        ["table.js", "leaderboard.js"],
        leaderboard_data(path.parent, rows, metrics),
        title=title or f"Leaderboard of {folder.absolute().name}",
        metrics=[(metric.title, metric.meaning) for metric in metrics],
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        runs=len(rows),
        complete=sum(row.status == "complete" for row in rows),
    )
    write_whole(path, page, WRITE_ELSEWHERE)
    return path


def metrics_of(rows: list[RunRow]) -> list[Measure]:
    """The metrics of all runs in the order in which they are shown, each as the newest run that has it describes it."""
    metrics: dict[str, Measure] = {}
    for row in sorted(rows, key=lambda row: row.started or 0.0):
        metrics.update(row.measures)
    return sorted(metrics.values(), key=lambda metric: metric.rank)


def leaderboard_data(folder: Path, rows: list[RunRow], metrics: list[Measure]) -> dict[str, Any]:
    """What the page's script reads; ``best`` holds, of each row, the metrics in which its group has none better.

    At first the page shows the metrics that are more than details, oracles aside; the others can be ticked.
    """
    names = [metric.name for metric in metrics]
    best = best_of([(f"{row.dataset}/{row.category}{row.place}/{row.native}", row.metrics) for row in rows], metrics)
    means = means_over_categories(rows)
    # A mean over fewer categories is easier to win: it stands there, unmarked.
    whole = [mean["count"] == mean["of"] for mean in means]
    fair = [
        (f"{mean['dataset']}/{mean['native']}", mean["metrics"] if is_whole else {})
        for mean, is_whole in zip(means, whole, strict=True)
    ]
    best_means = best_of(fair, metrics)
    return {
        "metrics": [
            {
                "name": metric.name,
                "title": metric.title,
                "oracle": metric.oracle,
                "shown": metric.prominence != "detail" and not metric.oracle,
            }
            for metric in metrics
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


def best_of(rows: Iterable[tuple[str, Values]], metrics: list[Measure]) -> list[list[int]]:
    """For each (group, values) the positions of the metrics in which no other of its group is better.

    A group of one has no best: there is nothing to compare.
    """
    rows = list(rows)
    signs = [(metric.name, 1 if metric.higher_is_better else -1) for metric in metrics]
    top: dict[tuple[str, int], float] = {}
    count: dict[tuple[str, int], int] = defaultdict(int)
    for group, values in rows:
        for position, (name, sign) in enumerate(signs):
            if (value := values.get(name)) is not None:
                key = (group, position)
                top[key] = max(top.get(key, sign * value), sign * value)
                count[key] += 1
    return [
        [
            position
            for position, (name, sign) in enumerate(signs)
            if (value := values.get(name)) is not None and count[group, position] > 1 and sign * value == top[group, position]
        ]
        for group, values in rows
    ]


def means_over_categories(rows: list[RunRow]) -> list[dict[str, Any]]:
    """A row for each data set, model and preset: first the mean of a category's runs, then that over categories.

    ``count`` of ``of`` categories are in it, of all that any method has on that data set.
    """
    groups: dict[tuple[str, str, str, bool, bool], dict[str, list[Values]]] = defaultdict(lambda: defaultdict(list))
    seeds: dict[tuple[str, str, str, bool, bool], set[int | None]] = defaultdict(set)
    runs: dict[tuple[str, str, str, bool, bool], int] = defaultdict(int)
    everything: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.status != "complete":
            continue
        key = (row.dataset, row.model, row.preset, row.unified, row.native)
        seeds[key].add(row.seed)
        runs[key] += 1
        for category, values in row.by_category.items():
            groups[key][category].append(values)
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
            "metrics": mean_values(mean_values(several) for several in categories.values()),
        }
        for (dataset, model, preset, unified, native), categories in sorted(groups.items())
    ]


def _named(model: str, *, unified: bool = False, native: bool = False) -> str:
    """The model, with what sets its figures apart from others'."""
    return ", ".join([model, *(["unified"] if unified else []), *(["native pixels"] if native else [])])


def _run(folder: Path, row: RunRow, names: list[str], best: list[int]) -> dict[str, Any]:
    place = os.path.relpath(row.folder, folder)
    has_report = False
    with suppress(OSError):  # it leads elsewhere
        has_report = inside(row.folder, REPORT).is_file()
    return {
        "dataset": row.dataset,
        "category": f"{row.category}{row.place}",
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
