"""Evidence of a change: bets against ranks being uniform, summed up by the procedures of Shiryaev-Roberts and of Page.

Each bet is a function of a rank in (0, 1) that is at least 0 and whose integral is 1: expected to be 1 while nothing changes,
whatever was seen before. It is also bounded by some M. Where up to a share d of the images may be anything, as defects are, its
expectation is at most 1 - d + d M, and so the bet is divided by that: defects up to that share raise no alarm.

The Shiryaev-Roberts statistic R <- (R + 1) bet is then expected to be at most t after t images (Vovk, Testing randomness
online, Statistical Science 2021; Shin, Ramdas and Rinaldo, E-detectors, 2022). By Doob's inequality the probability that it
reaches C within t images is at most t / C. Page's statistic W <- max(0, W + log bet) is used for one thing, to say since when:
its last zero is where the bets began to pay.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STRENGTHS = (2.0, 4.0, 10.0)  # of a bet exp(strength * rank), scaled: for small changes, which take longer, and for large ones
KINDS = ("up", "down", "spread")  # ranks are high, low, or far from the middle
_BETS = [(kind, strength) for kind in KINDS for strength in (STRENGTHS if kind != "spread" else STRENGTHS[:2])]
_WAYS = np.array([KINDS.index(kind) for kind, _ in _BETS])
_STRENGTH = np.array([strength for _, strength in _BETS])
_GREATEST = _STRENGTH / (1 - np.exp(-_STRENGTH))  # of the bet, at the rank 1
_CAP = 1e12  # of R, far above any limit: evidence that an alarm waits with does not overflow


class Evidence:
    """Of several series of ranks at once; row i is that of series i.

    Args:
        series: their number.
        defects: the share of images that may be anything.
        ways: for each series the kinds of bets that are made; the others are left out.
    """

    def __init__(self, series: int, defects: float, ways: list[tuple[str, ...]]) -> None:
        made = np.array([[kind in own for kind, _ in _BETS] for own in ways], dtype=np.float64).reshape(series, len(_BETS))
        self._shares = made / np.maximum(made.sum(axis=1, keepdims=True), 1)
        self._offset = np.log(_GREATEST) - np.log(1 - defects + defects * _GREATEST)
        self.sums = np.zeros((series, len(_BETS)))  # R
        self.paths = np.zeros((series, len(_BETS)))  # W
        self.since = np.zeros((series, len(_BETS)), dtype=np.int64)  # the image after W was last 0

    def add(self, ranks: NDArray[np.float64], number: int) -> NDArray[np.float64]:
        """Bet on the ranks (series,) of the image of that number, NaN for a series without one; returns R of each series."""
        known = np.isfinite(ranks)
        seen = np.where(known, ranks, 0.5)
        sides = np.stack([seen, 1 - seen, np.abs(2 * seen - 1)], axis=1)[:, _WAYS]
        gain = self._offset - _STRENGTH * (1 - sides)
        gain[~known] = 0
        np.minimum((self.sums + known[:, None]) * np.exp(gain), _CAP, out=self.sums)
        self.since[self.paths <= 0] = number
        np.maximum(self.paths + gain, 0, out=self.paths)
        return self.total()

    def total(self) -> NDArray[np.float64]:
        """R of each series: the mean over its bets."""
        return np.asarray((self.sums * self._shares).sum(axis=1))

    def clear(self, series: int) -> None:
        """Begin anew with a series."""
        self.sums[series] = self.paths[series] = 0

    def start(self, series: int) -> int:
        """The number of the image since which the series has changed, if it has: by the bet that pays most."""
        best = int(np.argmax(np.where(self._shares[series] > 0, self.paths[series], -1)))
        return int(self.since[series, best])

    def way(self, series: int) -> str:
        """The kind of the bet that pays most."""
        return _BETS[int(np.argmax(np.where(self._shares[series] > 0, self.sums[series], -1)))][0]

    def state(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"sums": self.sums.tolist(), "paths": self.paths.tolist(), "since": self.since.tolist()}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a :meth:`state`; ValueError if it is one of other series."""
        for name in ("sums", "paths", "since"):
            own = getattr(self, name)
            new = np.asarray(state[name], dtype=own.dtype).reshape(own.shape)
            setattr(self, name, new)


class Alarms:
    """Evidence that alarms have become more frequent than they were in the stream itself: defects, whose share nobody knows
    beforehand, or a threshold that no longer holds.

    The bet is on the event that an image is among the share of the stream so far that are alarms, ties broken at random: of
    exactly that probability for exchangeable verdicts.
    """

    _LEVELS = np.array([0.03, 0.1, 0.3, 0.8])  # the share of the stake: for a small rise of the share and for a large one

    def __init__(self, expected: float) -> None:
        self.expected = expected  # the least share that is expected: that of false alarms
        self.counts = [0, 0]  # quiet, alarms
        self.sums, self.paths = np.zeros(len(self._LEVELS)), np.zeros(len(self._LEVELS))
        self.since = np.zeros(len(self._LEVELS), dtype=np.int64)

    def add(self, is_anomalous: bool, uniform: float, number: int) -> float:
        """R, after the verdict on the image of that number."""
        quiet, loud = self.counts
        share = (loud + 1) / (quiet + loud + 1)
        # an image without an alarm is in the event as often as makes its probability the share exactly
        hit = is_anomalous or uniform * (quiet + 1) > quiet
        stake = max(share, self.expected)
        factor = 1 - self._LEVELS + (self._LEVELS / stake if hit else 0)
        self.counts[int(is_anomalous)] += 1
        self.sums = np.minimum((self.sums + 1) * factor, _CAP)
        self.since[self.paths <= 0] = number
        self.paths = np.maximum(self.paths + np.log(factor), 0)
        return float(self.sums.mean())

    def start(self) -> int:
        """The number of the image since which there are more."""
        return int(self.since[int(np.argmax(self.paths))])

    def state(self) -> dict[str, Any]:
        """Plain values for JSON."""
        kept = {name: getattr(self, name).tolist() for name in ("sums", "paths", "since")}
        return {**kept, "counts": self.counts, "expected": self.expected}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Alarms:
        """The evidence from :meth:`state`."""
        alarms = cls(float(state["expected"]))
        alarms.counts = list(map(int, state["counts"]))
        alarms.sums, alarms.paths = np.asarray(state["sums"], dtype=float), np.asarray(state["paths"], dtype=float)
        alarms.since = np.asarray(state["since"], dtype=np.int64)
        return alarms
