"""Which model is the best in a metric, and whether the data can tell: differences paired over images, seeds or categories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from anomaly_benchmark.comparison import DRAWS, LEVEL, drawn_aurocs, shared_wins
from anomaly_benchmark.summary import Summary
from anomaly_core import RunError, RunFolder

Table = NDArray[np.float64]
AUROC = "image_auroc"  # of whose images the runs keep the scores


@dataclass(frozen=True)
class Advantage:
    """By how much the leader is better than another model, with an interval that holds for all pairs of models together."""

    model: str
    difference: float
    low: float
    high: float

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0


def advantages(
    models: list[str], means: Table, units: Table | None, drawn: Table | None = None
) -> tuple[str, list[Advantage]] | None:
    """The leader and its advantage over each of the others, the closest first; None where nothing tells how sure they are.

    Args:
        means: (M,) of each model; higher is better.
        units: (M, N), the models' means on N paired units, such as seeds; None or one column: they say nothing.
        drawn: (M, draws), the models' means in draws of the test images.

    The variance of a difference is that over images (the bootstrap's: Efron and Tibshirani, An Introduction to the Bootstrap,
    1993, 6) plus that over units, each with its degrees of freedom (Satterthwaite, Biometrics Bulletin 2, 1946). Intervals
    hold for all M (M - 1) / 2 pairs together (Bonferroni), as the leader is chosen by the same data.
    """
    order = np.argsort(-means, kind="stable")
    first, others = order[0], order[1:]
    pairs = len(models) * (len(models) - 1) / 2
    found = []
    for other in others:
        count = 0 if units is None else units.shape[1]
        of_units = float(np.var(units[first] - units[other], ddof=1)) / count if units is not None and count > 1 else 0.0
        of_images = 0.0 if drawn is None else float(np.var(drawn[first] - drawn[other], ddof=1))
        variance = of_units + of_images
        if variance < 1e-24 and drawn is None:  # all units agree: they do not tell what others would say
            return None
        freedom = np.inf if of_units == 0 else (count - 1) * (variance / of_units) ** 2
        half = float(stats.t.ppf(1 - (1 - LEVEL) / 2 / pairs, freedom)) * variance**0.5
        difference = float(means[first] - means[other])
        found.append(Advantage(models[other], difference, difference - half, difference + half))
    return models[first], found


def sentence(summary: Summary, metric: str) -> str:
    """Names the best model, or says that the data cannot tell; empty for one model alone."""
    if metric not in summary.sentences:  # which takes seconds, and several tables show it
        summary.sentences[metric] = _sentence(summary, metric)
    return summary.sentences[metric]


def _sentence(summary: Summary, metric: str) -> str:
    blocks = summary.shared_blocks(metric)
    if len(summary.models) < 2:
        return ""
    if not blocks:
        return "The data cannot tell which is best: there is no category in which every method has a result."
    sign = 1.0 if summary.measures[metric].higher_is_better else -1.0
    by_seed = sign * np.array([summary.by_seed(model, metric) for model in summary.models])
    by_block = sign * np.array([[summary.over_seeds(m, b, metric) for b in blocks] for m in summary.models], dtype=np.float64)
    images = _drawn(summary, blocks) if metric == AUROC else None
    seeds = f"{len(summary.seeds)} seeds" if len(summary.seeds) > 1 else ""
    ways: list[tuple[str, Table, Table | None]] = []
    if images is not None:
        drawn, count = images
        one = "" if seeds else "; what another seed would change is not counted"
        ways.append((f"{count:,} test images{' and ' * bool(seeds)}{seeds}{one}", by_seed, drawn))
    ways.append((f"{seeds}; what other images would change is not counted", by_seed, None))
    ways.append((f"{len(blocks)} categories", by_block, None))
    for pairing, units, drawn_or_none in ways:
        if result := advantages(summary.models, by_seed.mean(axis=1), units, drawn_or_none):
            return _words(*result, f"paired over {pairing}")
    return "The data cannot tell which is best. Repeat the grid with more seeds, such as --seed 0 --seed 1 --seed 2."


def _words(leader: str, found: list[Advantage], pairing: str) -> str:
    closest = min(found, key=lambda one: (one.is_real, one.difference))
    interval = f"95 % interval {closest.low:+.4f} to {closest.high:+.4f}, {pairing}"
    if closest.is_real:
        return f"{leader} is the best, by {closest.difference:.4f} over {closest.model} ({interval})."
    lead = f"{leader} leads {closest.model} by {closest.difference:.4f}"
    lead = lead if closest.difference else f"{leader} and {closest.model} are level"
    worse = [one.model for one in found if one.is_real]
    rest = f" It is better than {', '.join(worse)}." if worse else ""
    return f"The data cannot tell which is best: {lead} ({interval}).{rest}"


def _drawn(summary: Summary, blocks: list[tuple[str, str]]) -> tuple[Table, int] | None:
    """(M, draws) AUROCs, means over categories and seeds, and the number of images; None where the runs cannot be read."""
    random, means, images = np.random.default_rng(0), np.zeros((len(summary.models), DRAWS)), 0
    for block in blocks:
        folders = summary.folders(block)
        if not all(folder for row in folders for folder in row):
            return None
        try:
            wins = shared_wins([RunFolder.open(Path(folder), False).result() for row in folders for folder in row])
        except RunError:  # moved since, or the seeds do not test the same images
            return None
        several = len(summary.seeds)
        by_model = [np.mean(wins[i : i + several], axis=0) for i in range(0, len(wins), several)]
        means += np.array(drawn_aurocs(by_model, DRAWS, random)) / len(blocks)
        images += sum(wins[0].shape)
    return means, images
