"""What ``anomaly suggest`` learns of each setting, and the rule by which it recommends one."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_core import (
    AnomalyError,
    DataConfig,
    Hooks,
    Progress,
    RunConfig,
    RunError,
    RunFolder,
    described,
    parse_assignment,
    quiet,
    quoted,
    run_experiment,
)
from anomaly_teach.suggest_images import Chosen
from anomaly_teach.suggest_settings import Setting

RISK = 0.05  # of taking a setting for worse that is not
_OTHERS = ("name", "root", "category", "unified", "holdout", "exclude", "tile")


@dataclass
class Outcome:
    """What one setting did.

    Attributes:
        auroc: of the judged images against the normal ones.
        found: for each judged image, whether its score is above the threshold.
        normal: how many normal images' scores, by detectors that did not see them, set the threshold.
        milliseconds: for each judged image, decoding included.
        megabytes: of the fitted detector's state.
        seconds: that trying it took.
        odd: the paths of normal images whose scores stand out and raise the threshold.
        error: why there is nothing of it; empty if there is.
    """

    setting: Setting
    auroc: float = float("nan")
    found: list[bool] = field(default_factory=list)
    normal: int = 0
    milliseconds: float = float("nan")
    megabytes: float = float("nan")
    seconds: float = 0.0
    odd: list[str] = field(default_factory=list)
    error: str = ""

    def found_of(self, groups: Sequence[str]) -> dict[str, tuple[int, int]]:
        """For each group, how many of its judged images were found, of how many."""
        return {
            name: (sum(f for f, g in zip(self.found, groups, strict=True) if g == name), list(groups).count(name))
            for name in dict.fromkeys(groups)
        }

    def to_dict(self, groups: Sequence[str]) -> dict[str, Any]:
        """For JSON and CSV."""
        facts = {key: value for key, value in asdict(self).items() if key not in ("setting", "found", "odd")}
        finite = {key: None if value != value else value for key, value in facts.items()}  # NaN is no JSON
        parts = {f"found_{name}": count for name, (count, _) in self.found_of(groups).items()} if self.found else {}
        named = {
            "model": self.setting.model,
            "input": self.setting.label,
            "options": " ".join(f"{k}={v}" for k, v in self.setting.options.items()),
        }
        return {**named, "found": sum(self.found), "judged": len(groups), **parts, **finite}


class _NoObservers(Hooks):
    """Trying a setting writes no reports and logs no metrics."""

    def __init__(self) -> None:
        return

    def call(self, name: str, **arguments: Any) -> None:
        return


class Trial:
    """Tries settings on the same images: an ordinary run of each, cross-fitted, in a folder that is deleted afterwards.

    Args:
        configs: by method, with the preset and the user's options.
        chosen: the images.
        folder: for the runs.
        progress: shows the steps of a run.
    """

    def __init__(self, configs: Mapping[str, RunConfig], chosen: Chosen, folder: Path, progress: Progress = quiet) -> None:
        self.configs = configs
        self.chosen = chosen
        self.folder = folder
        self.progress = progress
        self._list = folder / "images.csv"
        chosen.write(self._list)

    def outcome(self, setting: Setting) -> Outcome:
        """Fit and judge; an AnomalyError becomes the outcome's ``error``."""
        begun = time.perf_counter()
        try:
            outcome = self._judged(setting)
        except AnomalyError as error:
            outcome = Outcome(setting, error=described(error))
        finally:
            shutil.rmtree(self.folder / "runs", ignore_errors=True)
        outcome.seconds = time.perf_counter() - begun
        return outcome

    def _judged(self, setting: Setting) -> Outcome:
        config = self.configs[setting.model]
        sections = config.to_dict()
        known = {name for name in DataConfig.__dataclass_fields__ if name not in _OTHERS}
        data = {key: value for key, value in sections["data"].items() if key in known}
        layers = {
            "base": {
                **sections["base"],
                "output": str(self.folder / "runs"),
                "pictures": 0,
                "metrics": None,
                "calibration": "cross",
            },
            "data": {**data, "list": str(self._list), "on_bad_image": "skip"},
            "model": sections["model"],
            "train": sections["train"],
        }
        overrides = dict(parse_assignment(f"{key}={value}") for key, value in setting.options.items())
        with _silence():
            run = RunConfig.create(model=setting.model, data="folder", config=layers, overrides=overrides)
            (result,) = run_experiment(run, progress=self.progress, hooks=_NoObservers()).runs
        scores = {Path(row.path): row.score for row in result.predictions}
        judged = np.array([scores[path.absolute()] for path, _ in self.chosen.judged])
        normal = np.array(result.calibration.scores)
        if result.calibration.threshold is None or not np.isfinite(judged).all():
            raise RunError(f"{setting.name} gave no threshold, or no score for some images")
        odd = [row for row in RunFolder(result.folder).normals() if row.suspect and not row.dropped]
        odd.sort(key=lambda row: -row.score)
        raised = bool(odd) and odd[0].score >= result.calibration.threshold
        return Outcome(
            setting,
            auroc=area(normal, judged),
            found=(judged > result.calibration.threshold).tolist(),
            normal=len(normal),
            milliseconds=1000 / result.images_per_second,
            megabytes=(result.folder / "model.safetensors").stat().st_size / 1e6,
            odd=[row.path for row in odd] if raised else [],
        )


def area(normal: np.ndarray[Any, Any], anomalous: np.ndarray[Any, Any]) -> float:
    """The area under the ROC curve: the share of pairs in which the anomalous image has the greater score."""
    greater = (anomalous[:, None] > normal).mean()
    return float(greater + (anomalous[:, None] == normal).mean() / 2)


def tried(
    settings: Sequence[Setting], outcome: Callable[[Setting], Outcome], minutes: float, tell: Callable[[str], None]
) -> Iterator[Outcome]:
    """The outcomes of the settings that the budget allows, the cheapest first; the first is always tried.

    A setting whose estimated time exceeds what is left is not begun: the time that an input pixel took so far is its estimate.
    """
    begun, spent, pixels = time.monotonic(), 0.0, 0
    for number, setting in enumerate(settings, start=1):
        left = 60 * minutes - (time.monotonic() - begun)
        if pixels and spent / pixels * setting.pixels > left:
            tell(f"not tried for lack of time: {', '.join(one.name for one in settings[number - 1 :])}. Raise --minutes.")
            return
        tell(f"[{number}/{len(settings)}] {setting.name}, {max(0.0, left):.0f} s left")
        one = outcome(setting)
        if not one.error:
            spent, pixels = spent + one.seconds, pixels + setting.pixels
        yield one


def recommended(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The setting that finds most images; of several that find as many, the cheapest."""
    usable = [one for one in outcomes if not one.error]
    return max(usable, key=lambda one: (sum(one.found), -one.milliseconds), default=None)


def alike(outcomes: Sequence[Outcome], best: Outcome) -> Outcome | None:
    """The cheapest setting that costs less than the best one and finds so few less that it may be chance, if there is one.

    It is not alike if the best finds what it misses so much more often than the other way round that chance alone does so in
    fewer than 5 % of cases: an exact, one-sided sign test on the images that only one of the two finds (McNemar, 1947).
    """
    from scipy.stats import binomtest

    cheaper = []
    for one in outcomes:
        if one.error or one.milliseconds >= best.milliseconds:
            continue
        gained = sum(b and not o for b, o in zip(best.found, one.found, strict=True))
        lost = sum(o and not b for b, o in zip(best.found, one.found, strict=True))
        if gained <= lost or binomtest(gained, gained + lost, alternative="greater").pvalue >= RISK:
            cheaper.append(one)
    return min(cheaper, key=lambda one: one.milliseconds, default=None)


def command(setting: Setting, data: str, preset: str, category: str | None, assignments: Sequence[str]) -> str:
    """The ``anomaly run`` that uses a setting, with the user's own options."""
    words = ["anomaly", "run", "--model", setting.model, "--data", data, "--preset", preset]
    words += ["--category", category] if category else []
    words += [word for pair in assignments for word in ("--set", pair)]
    words += [word for key, value in setting.options.items() for word in ("--set", f"{key}={value}")]
    return " ".join(map(quoted, words))


@contextmanager
def _silence() -> Iterator[None]:
    """Inside, warnings of runs are not shown: the run that the user starts then gives them again."""
    logger = logging.getLogger("anomaly_core.run")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
