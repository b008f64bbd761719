"""Images of files, scored in their order: verdict, facts of the image, and the greatest value of its map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from anomaly_drift.facts import image_facts
from anomaly_predict import Verdict, verdicts

if TYPE_CHECKING:
    from anomaly_core import Detector, Hooks

BATCH = 8


class Scored(NamedTuple):
    """An image file as a detector judged it; ``facts`` is empty where it could not be read, ``peak`` None without a map."""

    verdict: Verdict
    facts: dict[str, float]
    peak: float | None


def scored(detector: Detector, paths: Iterable[Path]) -> Iterator[Scored]:
    """Score image files in order; one that cannot be read has a verdict with its error."""
    last = _Last()
    # each image is told of right before its verdict is given
    with closing(verdicts(detector, paths, hooks=cast("Hooks", last), batch_size=BATCH)) as stream:  # type: ignore[type-var]
        for verdict in stream:
            yield Scored(verdict, last.facts, last.peak)


class _Last:
    """What is known of the last image, beside its verdict."""

    def __init__(self) -> None:
        self.facts: dict[str, float] = {}
        self.peak: float | None = None

    def call(self, name: str, *, image: Any, prediction: Any, **_: Any) -> None:
        """As :meth:`anomaly_core.Hooks.call`, of ``anomaly_predicted``."""
        self.facts = {} if image is None else image_facts(image)
        has_map = prediction is not None and prediction.maps is not None
        self.peak = float(np.asarray(prediction.maps).max()) if has_map else None
