"""``anomaly predict``: a finished run, or an exported detector, applied to new images."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anomaly_core.spreadsheet import SafeWriter

if TYPE_CHECKING:
    from anomaly_core.pipeline import Verdict

BATCH_OF_A_RUN, BATCH_OF_A_FILE = 32, 8  # what was measured to be fastest; a CPU's engines like to have it in their caches


@click.command("predict")
@click.argument("detector", metavar="RUN|FILE")
@click.argument("images", nargs=-1, required=True)
@click.option("--maps", "maps_folder", metavar="DIR", help="Write a picture of each image, its map and the overlay.")
@click.option("--jsonl", is_flag=True, help="One JSON object a line instead of CSV.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images a batch; 32 by default, and 8 with a FILE.")
@click.option("--device", default="auto", show_default=True, help="Of a run: auto, cpu, cuda, cuda:N or mps.")
@click.option("--engine", metavar="NAME", help="What computes: torch, onnx, openvino. None means the run's own (base.engine).")
@click.option("--watch", is_flag=True, help="Stay, and score what comes into the folder IMAGES; Ctrl-C ends it, exit status 0.")
@click.option("--interval", type=click.FloatRange(min=0.05), default=1.0, show_default=True, help="Seconds between two looks.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that share the images.")
@click.option(
    "--backend", type=click.Choice(["loky", "dask", "ray"]), default="loky", show_default=True, help="What runs the jobs."
)
@click.option("--address", metavar="ADDRESS", help="A Dask scheduler or Ray cluster; none starts a local one.")
def predict(
    detector: str,
    images: tuple[str, ...],
    maps_folder: str | None,
    jsonl: bool,
    batch_size: int | None,
    device: str,
    engine: str | None,
    watch: bool,
    interval: float,
    jobs: int,
    backend: str,
    address: str | None,
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

    from anomaly_core.pipeline import verdicts
    from anomaly_core.scorers import Opening, open_scorer, sharded
    from anomaly_core.sources import Watch, image_paths

    opening = Opening(detector, device, engine)
    batch_size = batch_size or (BATCH_OF_A_FILE if Path(detector).is_file() else BATCH_OF_A_RUN)
    pictures = None if maps_folder is None else Path(maps_folder)
    printer = _Printer(jsonl)
    if watch:
        watched = Watch(images[0], interval)
        scorer = open_scorer(opening)
        try:
            for found in watched:
                said = verdicts(scorer, found, batch_size=batch_size, pictures=pictures, first=printer.count)
                printer.print(said, flush=True)
        except KeyboardInterrupt:
            printer.total()
        return
    paths = image_paths(images)
    if jobs > 1:
        printer.print(
            sharded(opening, paths, jobs=jobs, backend=backend, address=address, batch_size=batch_size, pictures=pictures)
        )
    else:
        scorer = open_scorer(opening)
        printer.restart()
        printer.print(verdicts(scorer, paths, batch_size=batch_size, pictures=pictures))
    printer.total()
    if printer.failed:
        raise SystemExit(1)


class _Printer:
    """Rows on standard output, faults and speed on standard error."""

    def __init__(self, jsonl: bool) -> None:
        self.jsonl = jsonl
        self.count = self.failed = 0
        self._start = time.perf_counter()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # file names are bytes: those that are no UTF-8 are printed as they are
            sys.stdout.reconfigure(errors="surrogateescape")
        self._writer = SafeWriter(sys.stdout)
        self._header = not jsonl

    def restart(self) -> None:
        """Speed is counted from here: opening the detector is no part of it."""
        self._start = time.perf_counter()

    def print(self, said: Iterable[Verdict] | Iterator[Verdict], *, flush: bool = False) -> None:
        for verdict in said:
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
                click.echo(json.dumps(row))
            else:
                self._writer.writerow(_cells(verdict))
            if flush:
                sys.stdout.flush()

    def total(self) -> None:
        seconds = max(time.perf_counter() - self._start, 1e-9)
        bad = f", {self.failed} could not be read" if self.failed else ""
        click.echo(f"{self.count} images in {seconds:.2f} s: {self.count / seconds:.1f} images/s{bad}", err=True)


def _cells(verdict: Verdict) -> list[str]:
    if verdict.score is None or verdict.p_value is None:
        return [verdict.path, "", "", ""]
    flag = "" if verdict.is_anomalous is None else str(int(verdict.is_anomalous))
    return [verdict.path, repr(verdict.score), flag, f"{verdict.p_value:.4g}"]
