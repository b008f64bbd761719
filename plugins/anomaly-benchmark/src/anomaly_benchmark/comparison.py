"""Runs side by side: are their AUROCs different, or is it chance? Paired bootstrap over the test images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import ANOMALOUS, RunError, RunFolder, RunResult, TestedImage

DRAWS = 2000
LEVEL = 0.95
Wins = NDArray[np.float32]  # (anomalous, normal): 1 where the anomalous image scores higher, 1/2 for a tie


@dataclass(frozen=True)
class Comparison:
    """One run against the first.

    Attributes:
        folder: the run's folder.
        auroc: its image AUROC on the images that all runs scored.
        difference: to the first run's; 0 for the first itself.
        low, high: the bootstrap interval of the difference at 95 %.
        images: how many images they share.
    """

    folder: Path
    auroc: float
    difference: float
    low: float
    high: float
    images: int

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def compare(folders: Sequence[str | Path], *, draws: int = DRAWS, seed: int = 0, verify: bool = True) -> list[Comparison]:
    """Image AUROCs of finished runs on the test images that all of them scored, against the first run.

    Each draw takes normal and anomalous images with replacement, the same ones for every run (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993): what makes an image easy or hard for all of them cancels out.

    Args:
        folders: two or more complete runs.
        draws: of the bootstrap.
        seed: of the draws.
        verify: whether the runs' files must be as the runs wrote them, by their SHA-256.

    Raises:
        RunError: a folder is no complete run, or the runs share no normal or no anomalous image.
    """
    runs = [RunFolder.open(folder, verify).result() for folder in folders]
    wins = shared_wins(runs)
    drawn = drawn_aurocs(wins, draws, np.random.default_rng(seed))
    tail = 50 * (1 - LEVEL)
    comparisons = []
    for run, won, values in zip(runs, wins, drawn, strict=True):
        low, high = np.percentile(values - drawn[0], [tail, 100 - tail])
        auroc, first = (float(pairs.mean(dtype=np.float64)) for pairs in (won, wins[0]))
        comparisons.append(Comparison(run.folder, auroc, auroc - first, float(low), float(high), sum(won.shape)))
    return comparisons


def shared_wins(runs: list[RunResult]) -> list[Wins]:
    """Each run's pairs of images that all of the runs scored; RunError if they share no normal or no anomalous image."""
    scores, labels = _shared(runs)
    return [_wins(row, labels) for row in scores]


def drawn_aurocs(wins: Sequence[Wins], draws: int, random: np.random.Generator) -> list[NDArray[np.float64]]:
    """The AUROC of each run in each draw of the bootstrap, (draws,); the images of a draw are the same ones for all of them."""
    anomalous, normal = wins[0].shape
    rows = random.multinomial(anomalous, np.full(anomalous, 1 / anomalous), size=draws) / anomalous
    columns = random.multinomial(normal, np.full(normal, 1 / normal), size=draws) / normal
    # AUROC of a draw: the mean of the pairs that it took, each as often as both of its images
    return [((rows @ won) * columns).sum(axis=1) for won in wins]


def _shared(runs: list[RunResult]) -> tuple[list[NDArray[Any]], NDArray[np.bool_]]:
    """Each run's scores of the images with a known label that all runs scored, in one order; their labels."""
    tables: list[dict[tuple[str, ...], TestedImage]] = [{(row.path,): row for row in _labelled(run)} for run in runs]
    if any(table.keys() != tables[0].keys() for table in tables):  # the data set moved: names must do
        tables = [_by_name(run) for run in runs]
    keys = [key for key in tables[0] if all(key in table for table in tables)]
    labels = np.array([tables[0][key].label == ANOMALOUS for key in keys], dtype=bool)
    if not labels.any() or labels.all():
        raise RunError(
            f"these {len(runs)} runs share {len(keys)} labelled test images (by category, defect and file name), "
            f"{int(labels.sum())} of them anomalous: normal and anomalous ones are needed. Compare runs of the same test set."
        )
    scores = [np.array([_score(run, table[key]) for key in keys]) for run, table in zip(runs, tables, strict=True)]
    return scores, labels


def _labelled(run: RunResult) -> list[TestedImage]:
    return [row for row in run.predictions if row.label is not None]


def _by_name(run: RunResult) -> dict[tuple[str, ...], TestedImage]:
    """By category, defect and file name; a name that occurs twice tells no image and is left out."""
    names = [(row.category, row.defect, Path(row.path).name) for row in _labelled(run)]
    times = Counter(names)
    return {name: row for name, row in zip(names, _labelled(run), strict=True) if times[name] == 1}


def _score(run: RunResult, row: TestedImage) -> float:
    if not math.isfinite(row.score):
        raise RunError(
            f"the run in {str(run.folder)!r} gave {row.path!r} the score {row.score!r}, which is no finite number: it "
            "cannot be compared. Run it again."
        )
    return row.score


def _wins(scores: NDArray[Any], labels: NDArray[np.bool_]) -> Wins:
    anomalous, normal = scores[labels][:, None], scores[~labels][None, :]
    won: Wins = (anomalous > normal).astype(np.float32) + 0.5 * (anomalous == normal).astype(np.float32)
    return won
