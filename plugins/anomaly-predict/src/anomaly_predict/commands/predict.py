"""``anomaly predict``: a finished run, or an exported detector, applied to new images."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly_core import (
    AnomalyError,
    PluginError,
    RunError,
    RunFolder,
    SafeWriter,
    complete_names,
    is_stop,
    printable,
    refuse_ignored,
    registry,
)

if TYPE_CHECKING:
    from anomaly_predict.coco import CocoFile
    from anomaly_predict.stream import Verdict

PAINTER = "report"  # the hook that draws pictures
COMPARED = 4  # images, on which the graph that a run keeps is compared with the run
LONGEST = 2_000  # characters of a warning: a line of a list may be a megabyte
BATCH_OF_A_RUN, BATCH_OF_A_FILE = 32, 8  # fastest as measured: small batches stay in a CPU's caches


@click.command("predict")
@click.argument("source", metavar="RUN|FILE")
@click.argument("images", nargs=-1, required=True)
@click.option("--maps", "maps_folder", metavar="DIR", help="Write a picture of each image, its map and the overlay.")
@click.option("--jsonl", is_flag=True, help="One JSON object a line instead of CSV.")
@click.option("--coco", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write the regions as COCO JSON.")
@click.option(
    "--least-area", type=click.FloatRange(min=0), metavar="PX", help="Pixels that a region must have; none: data.least_area."
)
@click.option(
    "--mm-per-px",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MM",
    help="With --jsonl: millimetres that a pixel of the images spans; none means data.mm_per_px.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Images a batch; 32 by default, and 8 with a FILE.")
@click.option("--device", default="auto", show_default=True, help="Of a run: auto, cpu, cuda, cuda:N or mps.")
@click.option("--engine", metavar="NAME", help="What computes: torch, onnx, openvino. None means the run's own (model.engine).")
@click.option("--watch", is_flag=True, help="Stay, and score what comes into the folder IMAGES, until Ctrl-C.")
@click.option("--interval", type=click.FloatRange(min=0.05), default=1.0, show_default=True, help="Seconds between two looks.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that share the images.")
@click.option(
    "--backend",
    "executor",
    default="processes",
    show_default=True,
    metavar="NAME",
    shell_complete=complete_names("executor"),
    help="What runs the jobs: processes, or with anomaly-benchmark loky, dask or ray.",
)
@click.option("--address", metavar="ADDRESS", help="A Dask scheduler or Ray cluster; none starts a local one.")
@click.option("--no-verify", is_flag=True, help="Use RUN or FILE as it is, without comparing it with what was written.")
def predict(
    source: str,
    images: tuple[str, ...],
    maps_folder: str | None,
    jsonl: bool,
    coco: Path | None,
    least_area: float | None,
    mm_per_px: float | None,
    batch_size: int | None,
    device: str,
    engine: str | None,
    watch: bool,
    interval: float,
    jobs: int,
    executor: str,
    address: str | None,
    no_verify: bool,
) -> None:
    """Score IMAGES with the finished run in the folder RUN, or with a FILE that `anomaly export` wrote.

    IMAGES are files, folders, quoted globs ('shots/**/*.png'), or - for a list on standard input, a path a line.
    Prints path, score, verdict, p-value (the share of normal images that look at least this odd) and the number of regions
    above the map threshold, in the order given; with --jsonl box, area, peak, p-value and outline of each region; at the end,
    images a second on standard error. An image that cannot be read is reported there, its score is empty, the others go
    on, and the exit status is 1; with --watch too, when Ctrl-C ends it. SIGTERM and SIGHUP end it with 143 and 129.

    With onnxruntime or openvino, the first use of RUN on a CPU leaves its graph in RUN/engine when the verdicts are out, as
    `anomaly export RUN` does: from then on it predicts without torch, which takes seconds to start.
    """
    if watch and (len(images) != 1 or jobs > 1):
        raise click.UsageError("--watch takes one folder, and no --jobs.")
    jobless = jobs == 1 and "it is for several processes. Add --jobs N, or leave it out."
    refuse_ignored(
        interval=not watch and "it says how often --watch looks. Add --watch, or leave it out.",
        executor=jobless,
        address=jobless,
        mm_per_px=not jsonl and "it is for the areas of regions, which --jsonl lists. Add --jsonl, or leave it out.",
        batch_size=_looks_at_tiles(source, batch_size, not no_verify)
        and "the run looks at tiles of large images, one image at a time. Leave it out.",
    )

    from anomaly_core import Hooks
    from anomaly_predict.coco import CocoFile
    from anomaly_predict.detector import RunDetector, open_detector
    from anomaly_predict.sharding import Opening, sharded
    from anomaly_predict.sources import STANDARD_INPUT, image_paths
    from anomaly_predict.stream import verdicts
    from anomaly_predict.watching import Watch

    printer = _Printer(jsonl, None if coco is None else CocoFile(coco))
    batch_size = batch_size or (BATCH_OF_A_FILE if Path(source).is_file() else BATCH_OF_A_RUN)
    pictures = None if maps_folder is None else Path(maps_folder)
    if pictures is not None:
        _require_painter()
        pictures.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"batch_size": batch_size, "pictures": pictures, "least_area": least_area, "mm_per_px": mm_per_px}
    opening: dict[str, Any] = {"device": device, "engine": engine, "verify": not no_verify, "quick": True}
    slow = False  # whether a run was opened with torch
    with printer:
        if jobs > 1:
            paths = image_paths(images, unreadable=printer.unreadable)
            options |= {"jobs": jobs, "executor": executor, "address": address}
            printer.print(sharded(Opening(source, **opening), paths, **options))
        elif watch:
            watched = Watch(images[0], interval)
            detector = open_detector(source, **opening)
            options |= {"hooks": Hooks(registry), "postponed": watched.postponed}
            printer.restart()
            try:
                for batch in filter(None, watched):
                    printer.print(verdicts(detector, batch, first=printer.count, **options), flush=True)
            except KeyboardInterrupt as error:
                if not is_stop(error):  # a plugin's
                    raise
                printer.folders = len(watched.unreadable)
        else:
            paths = image_paths(images, unreadable=printer.unreadable)
            detector = open_detector(source, **opening)
            slow = isinstance(detector, RunDetector) and not no_verify
            printer.restart()
            waits = STANDARD_INPUT in images  # a program may write a name and wait for its row
            printer.print(verdicts(detector, paths, hooks=Hooks(registry), **options), flush=waits)
    printer.total()
    if slow:
        _keep(Path(source), device, engine, printer.scored)
    if printer.failed or printer.folders:
        raise SystemExit(1)


def _looks_at_tiles(source: str, batch_size: int | None, verify: bool) -> bool:
    """Whether a run has ``data.tile``; asked only where a batch size is given."""
    return batch_size is not None and Path(source).is_dir() and RunFolder.open(source, verify).config().data.tile is not None


def _keep(source: Path, device: str, engine: str | None, scored: list[str]) -> None:
    """Have the run keep a graph for the next time, when all verdicts are out; what prevents it is no fault of theirs."""
    from anomaly_predict.quick import keep

    sys.stdout.flush()
    try:
        text = keep(source, device, engine, scored)
    except AnomalyError as error:
        _warn(f"the run keeps no graph, and goes on predicting with torch: {error}")
    else:
        if text:
            click.echo(printable(text), err=True)


def _require_painter() -> None:
    try:
        registry.hooks[PAINTER].load()
    except PluginError as error:
        raise PluginError(f"--maps: {error}") from error


class _Printer:
    """Rows on standard output, faults and speed on standard error."""

    def __init__(self, jsonl: bool, coco: CocoFile | None = None) -> None:
        if sys.__stdout__ is None:
            raise RunError("standard output is closed, so that every row would be lost. Send it to a file: `> scores.csv`.")
        self.jsonl = jsonl
        self.count = self.failed = self.folders = 0  # images, those that could not be read, folders that could not be
        self.scored: list[str] = []  # the first images with a score
        self._start = time.perf_counter()
        self._writer = SafeWriter(sys.stdout)
        self._header = not jsonl
        self._coco = coco

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write the regions, those of a watch that a signal ends too; without a single image only if nothing went wrong."""
        if self._coco is not None and (kind is None or self.count):
            self._coco.write()

    def restart(self) -> None:
        """Start measuring the speed here: opening the detector does not count."""
        self._start = time.perf_counter()

    def unreadable(self, error: OSError) -> None:
        """Report a folder that cannot be read."""
        from anomaly_predict.sources import described

        self.folders += 1
        _warn(described(error))

    def print(self, verdicts: Iterator[Verdict], *, flush: bool = False) -> None:
        with closing(verdicts):  # type: ignore[type-var]  # both are generators; an interrupted one must let go of its threads
            self._print(verdicts, flush)

    def _print(self, verdicts: Iterable[Verdict], flush: bool) -> None:
        for verdict in verdicts:
            if self._header:
                self._writer.writerow(["path", "score", "is_anomalous", "p_value", "regions"])
                self._header = False
            if self._coco is not None:
                self._coco.add(verdict)
            self.count += 1
            if verdict.error:
                self.failed += 1
                _warn(verdict.error)
            elif len(self.scored) < COMPARED:
                self.scored.append(verdict.path)
            if self.jsonl:
                # a surrogate stands for a byte of a name that is no text: as \udcff it is valid JSON
                click.echo(json.dumps(verdict.to_dict(), allow_nan=False).replace("\x7f", "\\u007f"))
            else:
                self._writer.writerow(_cells(verdict))
            if flush:
                sys.stdout.flush()

    def total(self) -> None:
        seconds = max(time.perf_counter() - self._start, 1e-9)
        bad = f", {self.failed} could not be read" if self.failed else ""
        click.echo(f"{self.count} images in {seconds:.2f} s: {self.count / seconds:.1f} images/s{bad}", err=True)


def _warn(text: str) -> None:
    cut = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    click.echo(f"warning: {printable(cut)}", err=True)


def _cells(verdict: Verdict) -> list[str]:
    score = "" if verdict.score is None else repr(verdict.score)
    flag = "" if verdict.is_anomalous is None else str(int(verdict.is_anomalous))
    p_value = "" if verdict.p_value is None else f"{verdict.p_value:.4g}"
    return [verdict.path, score, flag, p_value, "" if verdict.regions is None else str(len(verdict.regions))]
