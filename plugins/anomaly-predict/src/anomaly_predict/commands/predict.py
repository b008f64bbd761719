"""``anomaly predict``: a finished run, or an exported detector, applied to new images."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly_core import PluginError, SafeWriter, complete_names, registry

if TYPE_CHECKING:
    from anomaly_predict.stream import Verdict

PAINTER = "report"  # the hook that draws pictures
BATCH_OF_A_RUN, BATCH_OF_A_FILE = 32, 8  # fastest as measured: small batches stay in a CPU's caches


@click.command("predict")
@click.argument("source", metavar="RUN|FILE")
@click.argument("images", nargs=-1, required=True)
@click.option("--maps", "maps_folder", metavar="DIR", help="Write a picture of each image, its map and the overlay.")
@click.option("--jsonl", is_flag=True, help="One JSON object a line instead of CSV.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images a batch; 32 by default, and 8 with a FILE.")
@click.option("--device", default="auto", show_default=True, help="Of a run: auto, cpu, cuda, cuda:N or mps.")
@click.option("--engine", metavar="NAME", help="What computes: torch, onnx, openvino. None means the run's own (model.engine).")
@click.option("--watch", is_flag=True, help="Stay, and score what comes into the folder IMAGES; Ctrl-C ends it, exit status 0.")
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
    Prints path, score, verdict and p-value (the share of normal images that look at least this odd), in the order given; at the
    end, images a second on standard error. An image that cannot be read is reported there, its score is empty, the others go
    on, and the exit status is 1.
    """
    if watch and (len(images) != 1 or jobs > 1):
        raise click.UsageError("--watch takes one folder, and no --jobs.")
    if address is not None and jobs == 1:
        raise click.UsageError("--address needs --jobs.")

    from anomaly_core import Hooks
    from anomaly_predict.detector import open_detector
    from anomaly_predict.sharding import Opening, sharded
    from anomaly_predict.sources import Watch, image_paths
    from anomaly_predict.stream import verdicts

    batch_size = batch_size or (BATCH_OF_A_FILE if Path(source).is_file() else BATCH_OF_A_RUN)
    pictures = None if maps_folder is None else Path(maps_folder)
    if pictures is not None:
        _require_painter()
        pictures.mkdir(parents=True, exist_ok=True)
    printer = _Printer(jsonl)
    if jobs > 1:
        paths = image_paths(images)
        opening = Opening(source, device, engine, verify=not no_verify)
        shared: dict[str, Any] = {"jobs": jobs, "executor": executor, "address": address}
        printer.print(sharded(opening, paths, batch_size=batch_size, pictures=pictures, **shared))
    else:
        batches: Iterable[Iterable[Path]] = Watch(images[0], interval) if watch else [image_paths(images)]
        detector = open_detector(source, device=device, engine=engine, verify=not no_verify)
        hooks = Hooks(registry)
        printer.restart()
        options: dict[str, Any] = {"hooks": hooks, "batch_size": batch_size, "pictures": pictures}
        try:
            for batch in batches:
                printer.print(verdicts(detector, batch, first=printer.count, **options), flush=watch)
        except KeyboardInterrupt:
            if not watch:
                raise
            printer.total()
            return
    printer.total()
    if printer.failed:
        raise SystemExit(1)


def _require_painter() -> None:
    try:
        registry.hooks[PAINTER].load()
    except PluginError as error:
        raise PluginError(f"--maps: {error}") from error


class _Printer:
    """Rows on standard output, faults and speed on standard error."""

    def __init__(self, jsonl: bool) -> None:
        self.jsonl = jsonl
        self.count = self.failed = 0
        self._start = time.perf_counter()
        self._writer = SafeWriter(sys.stdout)
        self._header = not jsonl

    def restart(self) -> None:
        """Start measuring the speed here: opening the detector does not count."""
        self._start = time.perf_counter()

    def print(self, verdicts: Iterable[Verdict], *, flush: bool = False) -> None:
        for verdict in verdicts:
            if self._header:
                self._writer.writerow(["path", "score", "is_anomalous", "p_value"])
                self._header = False
            self.count += 1
            if verdict.error:
                self.failed += 1
                click.echo(f"warning: {verdict.error}", err=True)
            if self.jsonl:
                row = asdict(verdict)
                if not verdict.error:
                    del row["error"]
                click.echo(json.dumps(row, allow_nan=False))
            else:
                self._writer.writerow(_cells(verdict))
            if flush:
                sys.stdout.flush()

    def total(self) -> None:
        seconds = max(time.perf_counter() - self._start, 1e-9)
        bad = f", {self.failed} could not be read" if self.failed else ""
        click.echo(f"{self.count} images in {seconds:.2f} s: {self.count / seconds:.1f} images/s{bad}", err=True)


def _cells(verdict: Verdict) -> list[str]:
    score = "" if verdict.score is None else repr(verdict.score)
    flag = "" if verdict.is_anomalous is None else str(int(verdict.is_anomalous))
    return [verdict.path, score, flag, "" if verdict.p_value is None else f"{verdict.p_value:.4g}"]
