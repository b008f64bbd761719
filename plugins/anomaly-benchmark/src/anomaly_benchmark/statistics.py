"""Which differences are real: spread over seeds, confidence intervals, ranks over categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

LEVEL = 0.95


@dataclass(frozen=True)
class Spread:
    """A mean over seeds.

    Attributes:
        mean: of the seeds' means over categories.
        std: sample standard deviation over seeds; None with one seed.
        low, high: the interval of the mean at 95 %; None with one seed, and where all seeds agree: they say nothing of others.
        seeds: how many.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None
    seeds: int


def spread(values: Sequence[float], *, bounded: bool = False) -> Spread:
    """The mean of one figure over seeds, with Student's interval.

    Args:
        values: one a seed.
        bounded: whether the figure lies in [0, 1]. The interval is then Student's of the mean's logit, by the delta method, so
            that it lies there too; a seed may well have 0 or 1.

    Source of the logit: Agresti, Categorical Data Analysis, 2002 (the delta method); Pepe, The Statistical Evaluation of
    Medical Tests for Classification and Prediction, 2003 (intervals of AUROC).

    >>> round(spread([0.90, 0.92, 0.94]).high, 3)
    0.97
    >>> round(spread([0.90, 0.99], bounded=True).high, 3)
    1.0
    """
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return Spread(mean, None, None, None, len(array))
    std = float(array.std(ddof=1))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(array) - 1)) * std / len(array) ** 0.5
    if np.ptp(array) == 0:
        return Spread(mean, 0.0, None, None, len(array))
    if not bounded:
        return Spread(mean, std, mean - half, mean + half, len(array))
    low, high = special.expit(special.logit(mean) + np.array([-1, 1]) * half / (mean * (1 - mean)))
    return Spread(mean, std, float(low), float(high), len(array))


@dataclass(frozen=True)
class Ranks:
    """A rank test over categories.

    Attributes:
        test: its name.
        p_value: of the hypothesis that all models are alike.
        mean_ranks: by model; 1 is best.
        pairs: p-value of each pair of models, from the post-hoc test.
        blocks: how many categories it rests on.
    """

    test: str
    p_value: float
    mean_ranks: dict[str, float]
    pairs: dict[tuple[str, str], float]
    blocks: int


def rank_test(values: Mapping[str, Sequence[float]], *, higher_is_better: bool = True) -> Ranks | None:
    """Whether models differ over categories: Friedman with Nemenyi's post-hoc test; Wilcoxon's signed ranks for two models.

    Args:
        values: by model, a figure for each category, in the same order.
        higher_is_better: the direction of the figure.

    Returns:
        None where there are too few categories (two models: 5; more: 2) or models (fewer than two) for any test to tell.

    Source: Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006.
    """
    models = list(values)
    table = np.array([values[model] for model in models], dtype=np.float64)
    if len(models) < 2 or table.shape[1] < (5 if len(models) == 2 else 2):
        return None
    sign = -1.0 if higher_is_better else 1.0
    ranks = np.apply_along_axis(stats.rankdata, 0, sign * table)
    means = {model: float(rank) for model, rank in zip(models, ranks.mean(axis=1), strict=True)}
    blocks = table.shape[1]
    if len(models) == 2:
        difference = table[0] - table[1]
        p_value = float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0
        return Ranks("Wilcoxon signed-rank", p_value, means, {(models[0], models[1]): p_value}, blocks)
    alike = bool(np.all(ranks == ranks[0]))
    p_value = 1.0 if alike else float(stats.friedmanchisquare(*table).pvalue)
    scale = (len(models) * (len(models) + 1) / (12 * blocks)) ** 0.5
    pairs = {
        (a, b): float(stats.studentized_range.sf(abs(means[a] - means[b]) / scale, len(models), np.inf))
        for i, a in enumerate(models)
        for b in models[i + 1 :]
    }
    return Ranks("Friedman, Nemenyi post hoc", p_value, means, pairs, blocks)
