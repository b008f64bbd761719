"""A grid's results as tables: CSV, Markdown and LaTeX."""

from __future__ import annotations

import io
from collections.abc import Sequence

from anomaly_core.benchmark import Cell
from anomaly_core.registry import registry
from anomaly_core.results import is_oracle, labelled
from anomaly_core.spreadsheet import SafeWriter
from anomaly_core.statistics import Ranks, Spread, rank_test, spread

SHOWN = ("image_auroc", "pixel_auroc", "aupro")  # where the user names no metric
COSTS = ("fit_seconds", "images_per_second", "peak_memory_mb")


class Summary:
    """The cells by model: figures per category (mean over seeds), and their mean over categories with the spread over seeds.

    Only what every model has done is compared: a category in which a model failed is left out of means and ranks, and said.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = list(cells)
        self.models = list(dict.fromkeys(cell.model for cell in cells))
        self.blocks = list(dict.fromkeys((cell.data, cell.category) for cell in cells))
        self.seeds = list(dict.fromkeys(cell.seed for cell in cells))
        self.failed = [cell for cell in cells if cell.error]
        named = cells[0].config.get("base", {}).get("metrics") if cells else None
        self.metrics = [name for name in named or SHOWN if any(cell.metrics.get(name) is not None for cell in cells)]
        self.resolutions = list(dict.fromkeys(cell.resolution for cell in cells if cell.resolution))
        self._by_place = {(cell.model, cell.data, cell.category, cell.seed): cell for cell in cells}

    def value(self, model: str, block: tuple[str, str], metric: str, seed: int) -> float | None:
        """A figure of one cell; None where it is undefined or the cell failed."""
        cell = self._by_place.get((model, *block, seed))
        return None if cell is None else cell.metrics.get(metric)

    def over_seeds(self, model: str, block: tuple[str, str], metric: str) -> float | None:
        """The mean over seeds in one category; None where a seed has none."""
        values = [self.value(model, block, metric, seed) for seed in self.seeds]
        numbers = [value for value in values if value is not None]
        return sum(numbers) / len(numbers) if len(numbers) == len(values) else None

    def shared_blocks(self, metric: str) -> list[tuple[str, str]]:
        """The categories in which every model has the figure."""
        return [b for b in self.blocks if all(self.over_seeds(model, b, metric) is not None for model in self.models)]

    def spread(self, model: str, metric: str) -> Spread | None:
        """The mean over the shared categories, with its spread over seeds."""
        blocks = self.shared_blocks(metric)
        if not blocks:
            return None
        rows = [[self.value(model, block, metric, seed) or 0.0 for block in blocks] for seed in self.seeds]
        return spread([sum(row) / len(row) for row in rows])

    def ranks(self, metric: str) -> Ranks | None:
        """Whether the models differ over the shared categories."""
        blocks = self.shared_blocks(metric)
        values = {model: [self.over_seeds(model, b, metric) or 0.0 for b in blocks] for model in self.models}
        return rank_test(values, higher_is_better=registry.metrics[metric].spec.higher_is_better)


def to_csv(summary: Summary) -> str:
    """A row a cell: every metric, the costs, the folder, and the error of one that failed."""
    names = list(dict.fromkeys(name for cell in summary.cells for name in cell.metrics))
    text = io.StringIO()
    writer = SafeWriter(text)
    writer.writerow(["data", "category", "model", "seed", *names, "pixels_judged_at", "folder", "error"])
    for cell in summary.cells:
        values = ["" if cell.metrics.get(name) is None else repr(cell.metrics[name]) for name in names]
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
        values = [[cell.metrics[name] for cell in cells if cell.metrics.get(name) is not None] for name in COSTS]
        body.append([model, *("-" if not v else f"{sum(x or 0 for x in v) / len(v):.3g}" for v in values)])
    return ["model", *(name.replace("_", " ") for name in COSTS)], body


def to_markdown(summary: Summary) -> str:
    """Every shown metric as a table, the rank tests in words, the costs, and what failed."""
    parts = []
    for metric in summary.metrics:
        parts.append(f"## {labelled(metric)}\n\n{_markdown(*rows(summary, metric))}")
        parts.append(verdict(summary, metric))
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
                    rf"% {labelled(metric)}",
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
    return "\n\n".join([*parts, *(f"% {note}" for note in notes(summary))]) + "\n"


def notes(summary: Summary) -> list[str]:
    """What must stand beside the figures: the resolution of the pixels, and which thresholds saw the test set."""
    found = [f"Pixels judged at: {'; '.join(summary.resolutions)}."] if summary.resolutions else []
    if any(cell.config.get("base", {}).get("feature_cache") == "disk" for cell in summary.cells):
        found.append(
            "Frozen features were shared on disk: only the cell that first needed an image's spent the time to compute them. "
            "Without base.feature_cache=disk the costs of methods compare."
        )
    if any(map(is_oracle, summary.metrics)):
        found.append("An oracle's threshold is chosen on the test set itself: do not expect its value on new images.")
    return found


def verdict(summary: Summary, metric: str) -> str:
    """The rank test in words."""
    ranks = summary.ranks(metric)
    if ranks is None:
        return "Too few models or categories for a rank test."
    order = ", ".join(f"{model} {rank:.2f}" for model, rank in sorted(ranks.mean_ranks.items(), key=lambda item: item[1]))
    real = [f"{a} and {b} (p = {p:.2g})" for (a, b), p in ranks.pairs.items() if p < 0.05]
    found = f"Different at the 5 % level: {'; '.join(real)}." if real else "No pair differs at the 5 % level."
    return f"{ranks.test} over {ranks.blocks} categories: p = {ranks.p_value:.2g}; mean ranks: {order}. {found}"


def _mean(value: Spread | None) -> str:
    if value is None:
        return "-"
    if value.std is None or value.low is None or value.high is None:
        return f"{value.mean:.4f}"
    return f"{value.mean:.4f} ± {value.std:.4f} [{value.low:.4f}, {value.high:.4f}]"


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
