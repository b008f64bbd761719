"""Scores of normal images by detectors that did not see them: of images held out, or of all by cross-fitting.

Cross-fitting keeps no image from the run's own detector. Leave-one-out: a memory scores each image as if it had never collected
it. Folds: the images of each fold are scored by a detector that was fitted on those of the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from anomaly_core.base.data import BaseDataModule, SampleDataset, groups
from anomaly_core.base.modeler import BaseModeler, MemoryModeler
from anomaly_core.base.trainer import Progress
from anomaly_core.config.resolve import RunConfig
from anomaly_core.discovery import registry
from anomaly_core.errors import ConfigError, quoted
from anomaly_core.hooks import Hooks
from anomaly_core.imaging.geometry import InputSpec
from anomaly_core.run.calibration import Calibration, Kind, calibrate
from anomaly_core.run.folder import RunFolder
from anomaly_core.run.memory import Portions
from anomaly_core.run.normals import NormalImage, mark_suspects
from anomaly_core.run.scoring import Scored, predicted, tiled, within_region
from anomaly_core.types import Batch, Prediction, Sample


def cross_fits(config: RunConfig) -> bool:
    """Whether a run scores its normal images by cross-fitting; ConfigError if it is to hold images out as well."""
    wanted, holdout = config.base.calibration, config.data.holdout
    method = registry.models[config.model.name].load()
    remembers = isinstance(method, type) and issubclass(method, MemoryModeler)
    crosses = bool(wanted == "cross" or (wanted == "auto" and holdout is None and remembers))
    if crosses and holdout:
        raise ConfigError(
            f"base.calibration=cross scores all normal images, and data.holdout={holdout:g} keeps a share of them out of "
            "fitting. Leave one of them out."
        )
    if config.data.drop_suspects and not crosses:
        raise ConfigError(
            "data.drop_suspects needs a score of every normal image, and this run scores only those that it holds out. Add "
            "--set base.calibration=cross, and leave data.holdout out."
        )
    return crosses


class NormalScores:
    """Collects the scores of normal images, batch by batch, and tells the observers."""

    def __init__(self, run: RunFolder, hooks: Hooks, kind: Kind = "holdout") -> None:
        self.rows: list[NormalImage] = []
        self.dropped: list[NormalImage] = []
        self._run, self._hooks, self._kind = run, hooks, kind
        self._medians: list[float] = []

    def take(self, scored: Iterable[Scored], input_spec: InputSpec) -> None:
        """Add batches and their predictions."""
        for batch, raw in scored:
            prediction = within_region(batch, raw)
            maxima: list[Any] = [None] * len(batch)
            if prediction.maps is not None:
                flat = prediction.maps.flatten(1)
                maxima = flat.amax(dim=1).tolist()
                ignored = torch.zeros(()).bool() if batch.valid is None else ~batch.valid.flatten(1)
                self._medians += flat.masked_fill(ignored, torch.nan).nanmedian(dim=1).values.tolist()
            for sample, value, peak in zip(batch.samples, prediction.scores.tolist(), maxima, strict=True):
                self.rows.append(NormalImage(str(sample.path), sample.category, value, peak))
            facts = {"batch": batch, "prediction": prediction, "input_spec": input_spec}
            self._hooks.call("anomaly_normals_scored", run=self._run, **facts)

    def calibration(self, rate: float) -> Calibration:
        """The threshold for a false-alarm rate; the rows then say which are suspects."""
        scores = torch.tensor([row.score for row in self.rows])
        maxima = torch.tensor([row.map_maximum for row in self.rows]) if self._medians else None
        medians = torch.tensor(self._medians) if self._medians else None
        calibration = calibrate(scores, maxima, medians, false_alarm_rate=rate, kind=self._kind)
        mark_suspects(self.rows)
        self._hooks.call("anomaly_calibrated", run=self._run, normals=self.rows, calibration=calibration)
        return calibration

    def suspects(self) -> list[NormalImage]:
        """The images whose scores stand out, once :meth:`calibration` was called."""
        return [row for row in self.rows if row.suspect]

    def warning(self, calibration: Calibration) -> str | None:
        """What to say where the score of an image that stands out sets the threshold."""
        odd = self.suspects()
        if calibration.threshold is None or max((row.score for row in odd), default=-math.inf) < calibration.threshold:
            return None
        oddest = max(odd, key=lambda row: row.score).path
        return (
            f"the threshold is raised by normal images that stand out ({len(odd)} of {len(self.rows)}, such as {oddest!r}): if "
            f"they are defective, few defects will be found. `anomaly suspects {quoted(self._run.folder)}` shows them, and how "
            "to fit without."
        )

    def to_rows(self) -> list[dict[str, Any]]:
        """The contents of normals.csv: the images that set the threshold, and those that were dropped."""
        return [row.to_row() for row in [*self.rows, *(replace(row, dropped=True) for row in self.dropped)]]


def folds(samples: Sequence[Sample], count: int, seed: int) -> list[list[int]]:
    """The indices of samples, dealt to at most ``count`` folds; groups stay together."""
    together = groups(samples)
    order = torch.randperm(len(together), generator=torch.Generator().manual_seed(seed)).tolist()
    dealt = [order[start :: min(count, len(order))] for start in range(min(count, len(order)))]
    return [sorted(i for number in fold for i in together[number]) for fold in dealt]


def can_leave_out(modeler: BaseModeler, data: BaseDataModule, samples: Sequence[Sample], copies: int) -> bool:
    """Whether a fitted modeler can score each image without it: with all of its tiles and copies, and its group."""
    most = getattr(modeler, "leaves_out", 0)
    alone = data.tiling is None and not copies and all(len(group) == 1 for group in groups(samples))
    return bool(most > 1 or (most == 1 and alone))


def left_out(
    modeler: MemoryModeler,
    data: BaseDataModule,
    samples: Sequence[Sample],
    collected: SampleDataset,
    device: torch.device,
    progress: Progress,
) -> Iterator[Scored]:
    """Each image with the prediction of a memory that lacks what came of it and of its group.

    Args:
        collected: what the memory was built from, in this order.
    """
    lacking: dict[int, Tensor] = {}
    for group in groups(samples):
        numbers = torch.tensor([view for i in group for view in collected.views_of(i)], device=device)
        lacking |= dict.fromkeys(group, numbers)
    modeler.to(device).eval()
    loader, portions, first = data.images(samples, modeler.input_spec), Portions("scoring"), 0
    for batch in progress(loader, "scoring each normal image without itself", len(loader)):
        of_batch = [lacking[first + i] for i in range(len(batch))]

        def predict(chosen: Tensor, batch: Batch = batch, numbers: Sequence[Tensor] = of_batch) -> Prediction:
            without = tiled(_Without(modeler, [numbers[i] for i in chosen.tolist()]), data.config)
            with torch.inference_mode():
                return predicted(without, batch.images[chosen].to(device)).cpu()

        yield batch, Prediction.joined(portions.run(predict, torch.arange(len(batch))))
        first += len(batch)


class _Without(BaseModeler):
    """A modeler whose memory lacks some images: other ones for each image of a batch, the same for all tiles of one."""

    def __init__(self, modeler: MemoryModeler, numbers: list[Tensor]) -> None:
        super().__init__(modeler.config)
        self.modeler, self.input_spec, self.numbers = modeler, modeler.input_spec, numbers

    def predict_step(self, images: Tensor) -> Prediction:
        """The prediction without them."""
        numbers = self.numbers if len(self.numbers) == len(images) else self.numbers[:1] * len(images)
        return self.modeler.predict_without(images, numbers)
