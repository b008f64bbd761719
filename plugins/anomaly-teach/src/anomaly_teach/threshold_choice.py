"""The choices of ``anomaly threshold``: by a rate, the tail, a value, other normal images or costs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from anomaly_core import (
    AnomalyError,
    Calibration,
    ConfigError,
    DataError,
    Detector,
    NormalImage,
    RunError,
    RunFolder,
    RunResult,
    TestedImage,
)
from anomaly_predict import engine_for, open_detector
from anomaly_teach.threshold_costs import Costs, drawn
from anomaly_teach.threshold_images import ScoredImage, calibration_from, known_among, normals_of, score_folder, warn_of_known
from anomaly_teach.threshold_run import Change, change_run, require_changeable, used_before
from anomaly_teach.threshold_table import at_tail, smallest_rate
from anomaly_teach.threshold_tail import LEAST_IMAGES, Tail


@dataclass
class Subject:
    """What has the threshold: a finished run's folder, or a file that ``anomaly export`` wrote.

    Attributes:
        source: the folder or file.
        device, verify: as ``anomaly predict`` takes them.
        run: None for a file.
    """

    source: Path
    device: str = "auto"
    verify: bool = True
    run: RunFolder | None = field(init=False)

    def __post_init__(self) -> None:
        is_run = self.source.is_dir() or not self.source.exists()
        self.run = RunFolder.open(self.source, self.verify) if is_run else None

    @cached_property
    def calibration(self) -> Calibration:
        """The present one."""
        return self.run.calibration() if self.run is not None else self.detector().calibration

    @cached_property
    def tested(self) -> list[TestedImage]:
        """The images of the run's test set; none of a file."""
        return self.run.result().predictions if self.run is not None else []

    def detector(self) -> Detector:
        """The detector, opened."""
        return open_detector(self.source, self.device, verify=self.verify)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Held while it is changed: nobody else writes it. RunError if it cannot be written."""
        with ExitStack() as held:
            if self.run is not None:
                require_changeable(self.run)
                if not os.access(self.run.folder, os.W_OK):
                    raise RunError(
                        f"cannot write in {str(self.run.folder)!r}: you have no right to. Copy the folder to a place where you "
                        "can, and change the threshold of the copy."
                    )
                held.enter_context(self.run.locked())
            yield

    def write(self, change: Change) -> RunResult | None:
        """Write the change; the results of a run at the new threshold."""
        if self.run is not None:
            return change_run(self.run, change)
        rewrite = engine_for(self.source).load("rewriter")
        rewrite(self.source, change.calibration, **({} if self.verify else {"verify": False}))
        return None

    def training(self) -> list[Path]:
        """The images that the detector was fitted on; none if that is not known here."""
        if self.run is None:
            return []
        with suppress(AnomalyError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run's log has them
            from anomaly_core import build_data

            data = build_data(self.run.config())
            paths = [sample.path for category in data.chosen_categories() for sample in data.train_samples(category)]
            unseen: set[str] = set()
            if self.calibration.scored_by == "holdout":
                with suppress(AnomalyError):  # of a run that has no such list
                    unseen = {image.path for image in self.run.normals()}
            return [path for path in paths if str(path) not in unseen]
        return []


def require_scores(subject: Subject) -> None:
    """ConfigError if no normal image was scored that the detector had not seen."""
    if not subject.calibration.scores:
        raise ConfigError(
            f"{str(subject.source)!r} has no scores of normal images that it did not see: no false-alarm rate is known. "
            "Give some images with --from DIR, or a threshold with --value X."
        )


def by_rate(calibration: Calibration, rate: float, *, tail: bool = False) -> Calibration:
    """The threshold for a false-alarm rate; with ``tail`` that of the fitted tail.

    A rate that the scores do not support gets the greatest score, as in a run, and a warning.
    """
    count = len(calibration.scores)
    if tail:
        if count >= calibration.images_for(rate):
            raise ConfigError(
                f"--tail is for rates that {count} images cannot show, below {smallest_rate(count):g}: leave it out, for the "
                f"scores themselves give the threshold for {rate:g}."
            )
        return at_tail(calibration, Tail(calibration.scores), rate)
    chosen = calibration.at_rate(rate)
    shortfall = chosen.shortfall()
    if not shortfall:
        return chosen
    return replace(chosen, warning=f"{shortfall}{', or an extrapolation: --tail' * (count >= LEAST_IMAGES)}.")


def by_value(calibration: Calibration, value: float) -> Calibration:
    """A threshold set by hand."""
    changed = calibration.with_threshold(value)
    if changed.scores and changed.above(value) == len(changed.scores):
        warnings.warn(
            f"the threshold {value:g} is below the scores of all {len(changed.scores)} normal images, which begin at "
            f"{changed.scores[0]:.6g}: every image will be called anomalous.",
            stacklevel=2,
        )
    return changed


def by_images(subject: Subject, folder: Path, rate: float | None, *, tail: bool = False) -> Change:
    """The threshold from the scores of normal images in a folder, at a rate or that which was asked for before."""
    before = subject.calibration
    if rate is None and before.chosen_by != "rate":
        raise ConfigError(
            f"the present threshold was chosen by {before.chosen_by}, not for a false-alarm rate: give one for the new, "
            "such as --false-alarm-rate 0.01."
        )
    images = score_folder(subject.detector(), folder)
    warn_of_known([image.path for image in images], subject.training())
    source = f"{len(images)} normal image{'s' if len(images) > 1 else ''} of {str(folder)!r}"
    calibration = calibration_from(images, before, source)
    category = "" if subject.run is None else subject.run.manifest().get("category", "")
    chosen = by_rate(replace(calibration, chosen_by="rate"), before.false_alarm_rate if rate is None else rate, tail=tail)
    normals = normals_of(images, category)
    _warn_of_odd(normals, chosen.threshold)
    return Change(chosen, normals=normals, used=_tested_among(subject, images))


def _warn_of_odd(normals: Sequence[NormalImage], threshold: float | None) -> None:
    """Warn where the score of an image that stands out sets the threshold."""
    odd = sorted((row for row in normals if row.suspect), key=lambda row: -row.score)
    if threshold is not None and odd and odd[0].score >= threshold:
        named = f"{', '.join(repr(row.path) for row in odd[:3])}{', ...' * (len(odd) > 3)}"
        warnings.warn(
            f"the threshold is raised by images that stand out ({len(odd)} of {len(normals)}): {named}. Look at them: if they "
            "are defective, few defects will be found; take them out of the folder and give the command again.",
            stacklevel=2,
        )


def by_costs(subject: Subject, costs: Costs, folder: Path | None, share: float | None) -> Change:
    """The threshold of least expected cost.

    Args:
        subject: what has it.
        costs: what decides.
        folder: of anomalous images; None: a share of those in the run's own test set, which then test no more.
        share: of each kind of defect; None: half.
    """
    calibration, used = subject.calibration, list[TestedImage]()
    if folder is not None:
        images = score_folder(subject.detector(), folder)
        scores = [image.score for image in images]
        used = _tested_among(subject, images)
        source = f"{len(scores)} anomalous images of {str(folder)!r}"
    else:
        used = _drawn(subject, share)
        scores = [row.score for row in used]
        source = f"{len(scores)} anomalous images that were in the test set and are not any more"
    value, cost = costs.best(calibration.scores, scores)
    above, count = calibration.above(value), len(calibration.scores)
    if above == count:
        warnings.warn(
            f"with these costs ({costs}) it is cheapest to call every image anomalous: the detector tells too little, or "
            "a miss costs too much for it.",
            stacklevel=2,
        )
    words = f"least expected cost, {cost:.3g} an image ({costs}), on {count} normal and {source}"
    return Change(calibration.with_threshold(value, words, chosen_by="costs"), used=used)


def _tested_among(subject: Subject, images: Sequence[ScoredImage]) -> list[TestedImage]:
    """The rows of the run's test set that show these images."""
    known = set(known_among([Path(row.path) for row in subject.tested], [image.path for image in images]))
    return [row for row in subject.tested if Path(row.path) in known]


def _drawn(subject: Subject, share: float | None) -> list[TestedImage]:
    """The anomalous images of the test set that choose: those that did before, else a share of each kind."""
    if subject.run is None:
        raise ConfigError(f"{str(subject.source)!r} is a file without a test set: give anomalous images with --abnormal DIR.")
    if before := [row for row in used_before(subject.run) if row.label == 1 and not row.error]:
        if share is not None:
            raise ConfigError(
                f"{len(before)} anomalous images of the test set chose the threshold before and choose it again, so that no "
                "more are taken from the test: leave --share out."
            )
        return before
    rows = [row for row in subject.tested if row.label == 1 and not row.error]
    chosen = drawn(rows, [row.defect for row in rows], 0.5 if share is None else share, subject.run.manifest().get("seed", 0))
    if not chosen or len(chosen) == len(rows):
        raise DataError(
            f"the test set has {len(rows)} anomalous images, and --share leaves {len(chosen)} to choose by and "
            f"{len(rows) - len(chosen)} to test on. Give anomalous images with --abnormal DIR."
        )
    return chosen


def differences(new: Calibration, old: Calibration, scores: Sequence[float]) -> str:
    """How the scores of other normal images differ from the former ones, in words; empty if there were none."""
    if not old.scores:
        return ""
    from scipy import stats

    p_value = float(stats.mannwhitneyu(scores, old.scores).pvalue)
    middle, former = new.scores[len(new.scores) // 2], old.scores[len(old.scores) // 2]
    words = "as before" if p_value > 0.01 else "higher than before" if middle > former else "lower than before"
    return f"the new images score {words}: median {middle:.5g}, and {former:.5g} of the former (Mann-Whitney p = {p_value:.2g})"
