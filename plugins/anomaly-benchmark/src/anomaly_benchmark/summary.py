"""The summary of a grid: means over seeds and categories, their spread, and whether the models differ."""

from __future__ import annotations

from collections.abc import Sequence

from anomaly_benchmark.cells import Cell
from anomaly_benchmark.statistics import Ranks, Spread, rank_test, spread


class Summary:
    """The cells by model: figures per category (mean over seeds), and their mean over categories with the spread over seeds.

    Only what every model has done is compared: a category in which a model failed is left out of means and ranks, and said.

    Attributes:
        models, seeds: in the grid's order.
        blocks: its (data set, category) pairs.
        failed: the cells without a result.
        measures: an example of each metric that has a value, by name: its label and its direction.
        metrics: the names of those that tables show: the ones that were asked for, else the headlines.
        resolutions: at which pixels were judged, in words.
        sentences: by metric, which model is the best, once :func:`anomaly_benchmark.best.sentence` was asked.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = list(cells)
        self.models = list(dict.fromkeys(cell.model for cell in cells))
        self.blocks = list(dict.fromkeys((cell.data, cell.category) for cell in cells))
        self.seeds = list(dict.fromkeys(cell.seed for cell in cells))
        self.failed = [cell for cell in cells if cell.error]
        measured = [measure for cell in cells for measure in cell.measures.values() if measure.value is not None]
        self.measures = {measure.name: measure for measure in sorted(measured, key=lambda measure: measure.rank)}
        named = cells[0].config.get("base", {}).get("metrics") if cells else None
        headlines = [name for name, measure in self.measures.items() if measure.prominence == "headline"]
        self.metrics = [name for name in named if name in self.measures] if named else headlines
        self.resolutions = list(dict.fromkeys(cell.resolution for cell in cells if cell.resolution))
        self.sentences: dict[str, str] = {}
        self._by_place = {(cell.model, cell.data, cell.category, cell.seed): cell for cell in cells}

    def value(self, model: str, block: tuple[str, str], name: str, seed: int) -> float | None:
        """A metric, figure or cost of one cell; None where it is undefined or the cell failed."""
        cell = self._by_place.get((model, *block, seed))
        return None if cell is None else cell.values.get(name)

    def over_seeds(self, model: str, block: tuple[str, str], name: str) -> float | None:
        """The mean over seeds in one category; None where a seed has none."""
        values = [self.value(model, block, name, seed) for seed in self.seeds]
        numbers = [value for value in values if value is not None]
        return sum(numbers) / len(numbers) if len(numbers) == len(values) else None

    def shared_blocks(self, name: str) -> list[tuple[str, str]]:
        """The categories in which every model has a value."""
        return [b for b in self.blocks if all(self.over_seeds(model, b, name) is not None for model in self.models)]

    def spread(self, model: str, name: str) -> Spread | None:
        """The mean over the shared categories, with its spread over seeds."""
        blocks = self.shared_blocks(name)
        if not blocks:
            return None
        measure = self.measures.get(name)
        return spread(self.by_seed(model, name), bounded=measure is not None and measure.bounded)

    def by_seed(self, model: str, name: str) -> list[float]:
        """The mean over the shared categories, one a seed."""
        blocks = self.shared_blocks(name)
        rows = [[self.value(model, block, name, seed) or 0.0 for block in blocks] for seed in self.seeds]
        return [sum(row) / len(row) for row in rows]

    def folders(self, block: tuple[str, str]) -> list[list[str]]:
        """The runs' folders in one category: a row a model, a column a seed; empty for a run that has none."""
        cells = [[self._by_place.get((model, *block, seed)) for seed in self.seeds] for model in self.models]
        return [["" if cell is None else cell.folder for cell in row] for row in cells]

    def ranks(self, metric: str) -> Ranks | None:
        """Whether the models differ in a metric over the shared categories."""
        blocks = self.shared_blocks(metric)
        values = {model: [self.over_seeds(model, b, metric) or 0.0 for b in blocks] for model in self.models}
        return rank_test(values, higher_is_better=self.measures[metric].higher_is_better)
