"""The process that fits, extends and compares detectors, so that the service neither waits nor needs torch: `python -m` this.

It reads one request, a line of JSON, from standard input, and writes what it does as lines of JSON to standard output:
``{"doing": words, "done": n, "total": m}`` as often as it helps, and at the end ``{"result": {...}}`` or ``{"error": words}``.
What libraries print goes to standard error. It ends when standard input does: with the service, however that ends.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from anomaly_core import AnomalyError, DataError, RunError, described, registry

OFTEN = 0.2  # seconds between two lines of progress
COMPARED = 4  # images, on which the graph that a run keeps is compared with the run
Told = Callable[..., None]


def main() -> int:
    """Do what the line on standard input asks for."""
    out = _own_output()
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_service, name="service", daemon=True).start()
    _yield_to_inspection()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("anomaly_core").setLevel(logging.INFO)

    def tell(**facts: Any) -> None:
        out.write(json.dumps(facts) + "\n")
        out.flush()

    try:
        tell(result=KINDS[request["kind"]](request, tell))
        return 0
    except AnomalyError as error:
        tell(error=str(error))
    except MemoryError:
        tell(error="there is not enough memory. Close other programs, or choose a smaller input size.")
    except Exception as error:
        logging.exception("the job failed")
        tell(error=f"{described(error)}. The job's log has the details.")
    return 1


def fit(request: dict[str, Any], tell: Told) -> dict[str, Any]:
    """Fit a method to a list of images, and leave a graph in the run, so that it is used without torch."""
    tell(doing="starting")
    from anomaly_core import MemoryModeler, RunConfig, run_experiment

    name = request["model"]
    method: Any = registry.models[name].load()
    fewest = getattr(method, "fewest_images", 1)
    if request["normal"] <= fewest:  # one more, so that each is scored by a detector of the others
        raise DataError(
            f"there are {request['normal']} normal images to learn, and {name} needs {fewest + 1} to learn from and to set a "
            "threshold by. Add normal images."
        )
    learns = bool(getattr(method, "uses_anomalous", False))
    images = request["list_with_defects" if learns else "list"]
    overrides: dict[str, Any] = {"data.list": images, "base.output": request["output"], **request["options"]}
    config = RunConfig.create(model=name, data="folder", preset=request["preset"], overrides=overrides)
    run = run_experiment(config, progress=_reported(tell)).runs[0]
    memory = isinstance(method, type) and issubclass(method, MemoryModeler)
    facts = {"extends": memory and method.reopen is not MemoryModeler.reopen, "learns_defects": learns}
    return {**facts, **_kept(run.folder, request["compare"], tell)}


def extend(request: dict[str, Any], tell: Told) -> dict[str, Any]:
    """Let a finished run learn more normal images, and false alarms apart from them, whose scores say nothing of others."""
    tell(doing="starting")
    command = registry.commands["extend"].load()
    parent, output = Path(request["run"]), Path(request["output"])
    for number, (images, flags) in enumerate(((request["images"], []), (request["false_alarms"], ["--false-alarm"]))):
        if images:
            tell(doing=f"learning {len(images)} {'false alarms' if flags else 'images'}")
            below = output / str(number)
            flags = [*flags, "--yes"] if request["accept"] else flags
            command.main([str(parent), *images, "--output", str(below), *flags], standalone_mode=False)
            manifests = list(below.glob("*/*/*/*/manifest.json"))
            if len(manifests) != 1:
                raise RunError(f"`anomaly extend` left {len(manifests)} runs where one was expected. Fit anew instead.")
            parent = manifests[0].parent
    return {"extends": True, "learns_defects": False, **_kept(parent, request["compare"], tell)}


def compare(request: dict[str, Any], tell: Told) -> dict[str, Any]:
    """The scores and the maxima of the maps of images by several detectors, ``{"scores", "maxima": {name: [number or None]},
    "faults": {path: words}}``; None where there is no map, or the image cannot be scored."""
    from anomaly_predict import open_detector

    faults: dict[str, str] = {}
    scores: dict[str, list[float | None]] = {}
    maxima: dict[str, list[float | None]] = {}
    total, done = sum(len(one["images"]) for one in request["detectors"].values()), 0
    for name, one in request["detectors"].items():
        tell(doing="opening the detectors", done=done, total=total)
        detector = open_detector(one["path"], quick=True) if one["images"] else None
        scores[name], maxima[name] = [], []
        for path in one["images"]:
            assert detector is not None
            score = peak = None
            try:
                prediction = detector.score([detector.decode(path)])[0]
                score = _finite(prediction.scores[0])
                peak = None if prediction.maps is None else _finite(prediction.maps.max())
            except DataError as error:
                faults[path] = str(error)
            scores[name].append(score)
            maxima[name].append(peak)
            done += 1
            tell(doing="trying it on images", done=done, total=total)
    return {"scores": scores, "maxima": maxima, "faults": faults}


def _kept(folder: Path, images: list[str], tell: Told) -> dict[str, Any]:
    """The result of a fit; the run keeps a graph, if its method has one."""
    from anomaly_core import RunFolder
    from anomaly_predict import quick_engine

    tell(doing="preparing it for inspection")
    run = RunFolder.open(folder)
    component = quick_engine(run.config())
    said = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if component is not None:
            try:
                said = component.load("keeper")(folder, component.name, images[:COMPARED])
            except AnomalyError as error:
                said = f"inspection computes with torch: {error}"
    for warning in caught:
        logging.warning("%s", warning.message)
    logging.info("%s", said)
    return {"run": str(folder.absolute()), "warnings": run.manifest().get("warnings", [])}


def _finite(value: Any) -> float | None:
    """JSON has no NaN, and one is no verdict."""
    number = float(value)
    return number if math.isfinite(number) else None


def _reported(tell: Told) -> Callable[..., Iterable[Any]]:
    """A progress that tells the service."""

    def progress(items: Iterable[Any], description: str | Callable[[], str], total: int | None = None) -> Iterator[Any]:
        last, words = 0.0, description if callable(description) else lambda: description
        for number, item in enumerate(items):
            if time.monotonic() - last >= OFTEN:
                last = time.monotonic()
                tell(doing=words(), done=number, total=total)
            yield item

    return progress


def _own_output() -> TextIO:
    """Standard output for the service alone; whatever else is printed goes to standard error."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return os.fdopen(own, "w", encoding="utf-8")


def _end_with_service() -> None:
    """Wait until standard input ends, and end at once: nobody asks for the result any more."""
    while sys.stdin.readline():
        pass
    os._exit(3)


def _yield_to_inspection() -> None:
    """Compute when nobody else does."""
    import psutil

    own = psutil.Process()
    try:
        if sys.platform == "win32":
            own.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            own.nice(10)
    except (OSError, psutil.Error) as error:
        logging.warning("the job runs at the usual priority: %s", error)


KINDS: dict[str, Callable[[dict[str, Any], Told], dict[str, Any]]] = {
    "fit": fit,
    "extend": extend,
    "compare": compare,
}

if __name__ == "__main__":
    sys.exit(main())
