"""A grid's results as tables: CSV, Markdown and LaTeX."""

from __future__ import annotations

import io

from anomaly_benchmark.best import sentence
from anomaly_benchmark.cells import COSTS
from anomaly_benchmark.statistics import Spread
from anomaly_benchmark.summary import Summary
from anomaly_core import SafeWriter


def to_csv(summary: Summary) -> str:
    """A row a cell: every metric, the method's own figures, the costs, the folder, and the error of one that failed."""
    parts = ([c.measures for c in summary.cells], [c.figures for c in summary.cells], [c.costs for c in summary.cells])
    names = list(dict.fromkeys(name for part in parts for values in part for name in values))
    text = io.StringIO()
    writer = SafeWriter(text)
    writer.writerow(["data", "category", "model", "seed", *names, "pixels_judged_at", "folder", "error"])
    for cell in summary.cells:
        values = ["" if value is None else repr(value) for value in map(cell.values.get, names)]
        writer.writerow([cell.data, cell.category, cell.model, cell.seed, *values, cell.resolution, cell.folder, cell.error])
    return text.getvalue()


def rows(summary: Summary, metric: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of one metric: a row a category, a column a model, the mean and its spread last."""
    header = ["category", *summary.models]
    several = len({data for data, _ in summary.blocks}) > 1
    body = []
    for block in summary.blocks:
        name = "/".join(block) if several else block[1]
        values = [summary.over_seeds(model, block, metric) for model in summary.models]
        body.append([name, *("-" if value is None else f"{value:.4f}" for value in values)])
    means = [summary.spread(model, metric) for model in summary.models]
    body.append(["mean", *(_mean(mean) for mean in means)])
    return header, body


def costs(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Header and rows of what the models cost: means over their complete cells."""
    body = []
    for model in summary.models:
        cells = [cell for cell in summary.cells if cell.model == model and not cell.error]
        values = [[value for cell in cells if (value := cell.costs.get(name)) is not None] for name in COSTS]
        body.append([model, *(_cost(sum(column) / len(column)) if column else "-" for column in values)])
    return ["model", *(name.replace("_", " ") for name in COSTS)], body


def to_markdown(summary: Summary) -> str:
    """Every shown metric as a table, the rank tests in words, the costs, and what failed."""
    parts = []
    for metric in summary.metrics:
        parts.append(f"## {summary.measures[metric].label}\n\n{_markdown(*rows(summary, metric))}")
        parts += filter(None, [_cell(sentence(summary, metric)), verdict(summary, metric)])
    parts += notes(summary)
    parts.append(f"## cost, mean over cells\n\n{_markdown(*costs(summary))}")
    if summary.failed:
        lines = "\n".join(f"- {_cell(cell.name)}: {_cell(cell.error)}" for cell in summary.failed)
        parts.append(f"## failed\n\n{lines}")
    return "\n\n".join(parts) + "\n"


def to_latex(summary: Summary) -> str:
    """Every shown metric as a booktabs table."""
    parts = []
    for metric in summary.metrics:
        header, body = rows(summary, metric)
        lines = [" & ".join(map(_escape, row)) + r" \\" for row in body]
        parts.append(
            "\n".join(
                [
                    rf"% {summary.measures[metric].label}",
                    rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
                    r"\toprule",
                    " & ".join(map(_escape, header)) + r" \\",
                    r"\midrule",
                    *lines[:-1],
                    r"\midrule",
                    lines[-1],
                    r"\bottomrule",
                    r"\end{tabular}",
                ]
            )
        )
    said = [f"{summary.measures[name].label}: {text}" for name in summary.metrics if (text := sentence(summary, name))]
    return "\n\n".join([*parts, *(f"% {' '.join(note.split())}" for note in [*said, *notes(summary)])]) + "\n"


def notes(summary: Summary) -> list[str]:
    """What must stand beside the figures: the resolution of the pixels, and which thresholds saw the test set."""
    texts = [f"Pixels judged at: {'; '.join(summary.resolutions)}."] if summary.resolutions else []
    if any(cell.config.get("model", {}).get("feature_cache") == "disk" for cell in summary.cells):
        texts.append(
            "Frozen features were shared on disk: only the cell that first needed an image's spent the time to compute them. "
            "The costs of methods compare only without model.feature_cache=disk."
        )
    if any(summary.measures[name].oracle for name in summary.metrics):
        texts.append("An oracle's threshold is chosen on the test set itself: do not expect its value on new images.")
    return texts


def verdict(summary: Summary, metric: str) -> str:
    """The rank test in words; empty where there are too few models or categories for one."""
    ranks = summary.ranks(metric)
    if ranks is None:
        return ""
    order = ", ".join(f"{model} {rank:.2f}" for model, rank in sorted(ranks.mean_ranks.items(), key=lambda item: item[1]))
    real = [f"{a} and {b} (p = {p:.2g})" for (a, b), p in ranks.pairs.items() if p < 0.05]
    pairs = f"Different at the 5 % level: {'; '.join(real)}." if real else "No pair differs at the 5 % level."
    return f"{ranks.test} over {ranks.blocks} categories: p = {ranks.p_value:.2g}; mean ranks: {order}. {pairs}"


def _mean(value: Spread | None) -> str:
    if value is None:
        return "-"
    if value.std is None or value.low is None or value.high is None:
        return f"{value.mean:.4f}"
    return f"{value.mean:.4f} ± {value.std:.4f} [{value.low:.4f}, {value.high:.4f}]"


def _cost(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _markdown(header: list[str], body: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """Text that stays one cell and no markup: names of categories are a stranger's."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "\\|`*[]" else c for c in flat)


def _escape(text: str) -> str:
    words = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    return "".join(words.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in " ".join(text.split()))
