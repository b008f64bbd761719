"""The run's folder: what is written where, whole or not at all, and how it is read again."""

from __future__ import annotations

import calendar
import csv
import io
import json
import os
import re
import secrets
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from anomaly_core.calibration import Calibration
from anomaly_core.config import RunConfig
from anomaly_core.errors import RunError
from anomaly_core.exhaustion import explained
from anomaly_core.files import exclusive, sweep, write_whole
from anomaly_core.progress import warn
from anomaly_core.spreadsheet import SafeWriter, plain

MANIFEST, CONFIG, WEIGHTS, CALIBRATION, METRICS, PREDICTIONS, CURVES, CHECKPOINTS = (
    "manifest.json",
    "config.yaml",
    "model.safetensors",
    "calibration.json",
    "metrics.json",
    "predictions.csv",
    "curves.json",
    "checkpoints",
)
LOG = "log.txt"
_STAMP, _RUN_ID = "%Y%m%d-%H%M%S", re.compile(r"[0-8]\d{7}-\d{6}-[0-9a-f]{6}")


class Experiment:
    """One run's folder. Files are written beside their place and renamed; ``manifest.json`` says ``complete`` last."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @classmethod
    def create(cls, output: str, dataset: str, category: str, model: str) -> Experiment:
        """A new folder ``<output>/<dataset>/<category>/<model>/<run-id>``."""
        place = _place(output, dataset, category, model)
        while True:
            folder = place / _run_id(place)
            try:
                folder.mkdir(parents=True)
            except FileExistsError as error:
                if folder.is_dir():  # another process took the same name in the same moment
                    continue
                raise RunError(
                    f"cannot make the run's folder {str(folder)!r}: a file is where a folder must be. "
                    "Choose another with --output."
                ) from error
            except OSError as error:
                raise RunError(
                    f"cannot make the run's folder {str(folder)!r}: {error}. Choose another with --output."
                ) from error
            return cls(folder)

    @classmethod
    def latest(cls, output: str, dataset: str, category: str, model: str, config: RunConfig) -> Experiment | None:
        """The newest run of exactly this config, complete or not; None where there is none."""
        text = config.to_yaml().encode()
        for path in sorted(_place(output, dataset, category, model).glob(f"*/{CONFIG}"), reverse=True):
            try:
                if path.read_bytes() == text:
                    return cls(path.parent)
            except OSError as error:
                warnings.warn(f"{str(path)!r} cannot be read and is passed over: {error}.", stacklevel=2)
        return None

    @classmethod
    def unfinished(cls, folder: str | Path) -> Experiment:
        """A run's folder, complete or not; RunError where it is not one."""
        if not (Path(folder) / CONFIG).is_file():
            raise RunError(f"{str(folder)!r} is not a run's folder: it has no {CONFIG}. Give one that `anomaly run` made.")
        return cls(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Experiment:
        """A finished run's folder; RunError where it is not one, or the run did not complete."""
        experiment = cls(folder)
        if not (experiment.folder / MANIFEST).is_file():
            raise RunError(
                f"{str(folder)!r} is not a run's folder: it has no {MANIFEST}. Give the folder that `anomaly run` printed, "
                "such as experiments/<dataset>/<category>/<model>/<run-id>."
            )
        status = experiment.read_json(MANIFEST).get("status")
        if status != "complete":
            raise RunError(
                f"the run in {str(folder)!r} is {status!r}, not complete. "
                f"Go on with `anomaly run --resume {experiment.folder}`."
            )
        return experiment

    def is_complete(self) -> bool:
        """Whether the manifest says so, which it does last."""
        return (self.folder / MANIFEST).is_file() and self.read_json(MANIFEST).get("status") == "complete"

    def locked(self) -> AbstractContextManager[None]:
        """Held while a process writes the run; RunError where another process does."""
        return exclusive(
            self.folder,
            f"another process is writing the run in {str(self.folder)!r}. Wait until it is done, or start a run of its own "
            "without --resume.",
        )

    @contextmanager
    def recorded(self, facts: dict[str, Any]) -> Iterator[None]:
        """Keep the manifest and the log of what is done inside: ``running``, then ``complete``, ``interrupted`` or ``failed``.

        Args:
            facts: what the manifest says; more may be added inside.

        Raises:
            BaseException: what was raised inside, in words for the user where there are better ones.
        """
        sweep(self.folder)
        facts["status"] = "running"
        self.write_json(MANIFEST, facts)
        log: list[str] = []
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("default")
                try:
                    yield
                finally:
                    log = list(dict.fromkeys(str(item.message) for item in caught))
            self._keep(log)
            self.write_json(MANIFEST, {**facts, "status": "complete", "warnings": log})
        except BaseException as raised:
            error = explained(raised)
            facts["status"] = "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed"
            try:
                self._keep(log)
                self.write_json(MANIFEST, {**facts, "warnings": log, "error": f"{type(error).__name__}: {error}"})
            except RunError as second:  # a full disk, perhaps the first error's own cause
                warn(f"{second} The folder {str(self.folder)!r} does not tell that its run did not complete.")
            if error is raised:
                raise
            raise error from raised

    def _keep(self, log: list[str]) -> None:
        for text in log:
            warn(text)
        self.write(LOG, "".join(f"warning: {text}\n" for text in log))

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file whole: beside its place, flushed to disk, then renamed."""
        path = self.folder / name
        write_whole(path, content.encode() if isinstance(content, str) else content)
        return path

    def write_json(self, name: str, values: Mapping[str, Any]) -> Path:
        # A file name that is not UTF-8 holds lone surrogates: written as \udcff, they come back as they were.
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        return self.write(name, text.encode("utf-8", "backslashreplace"))

    def write_rows(self, name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Write a CSV file whose columns are the keys of all rows, in the order of their first appearance.

        Text that a spreadsheet would take for a formula gets an apostrophe before it, which :meth:`read_rows` takes away.
        """
        rows = list(rows)
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        writer = SafeWriter(text)
        writer.writerow(columns)
        for row in rows:
            writer.writerow(row.get(column, "") for column in columns)
        return self.write(name, text.getvalue().encode("utf-8", "surrogateescape"))

    def read_rows(self, name: str, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
        """The rows of a CSV file that :meth:`write_rows` wrote, as text.

        Args:
            name: the file's.
            columns: that it must have.

        Raises:
            RunError: it cannot be read, or lacks a column.
        """
        path = self.folder / name
        try:
            with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                reader = csv.DictReader(file)
                rows = [
                    {key: plain(value) if isinstance(value, str) else value for key, value in row.items()} for row in reader
                ]
        except (OSError, csv.Error) as error:
            raise RunError(f"cannot read {str(path)!r}: {error}. The run is damaged; run it again.") from error
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if rows and missing:
            raise RunError(f"{str(path)!r} has no column {', '.join(missing)}. The run is damaged; run it again.")
        return rows

    def read_json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read {str(path)!r}: {error}. The run is damaged; run it again.") from error
        if not isinstance(values, dict):
            raise RunError(f"{str(path)!r} holds no object. The run is damaged; run it again.")
        return values

    def config(self) -> RunConfig:
        return RunConfig.create(config=self.folder / CONFIG)

    def calibration(self) -> Calibration:
        return Calibration.from_dict(self.read_json(CALIBRATION))

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write the model's tensors as safetensors, which can hold no code."""
        from safetensors.torch import save

        self.write(WEIGHTS, save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}))

    def load_state(self) -> dict[str, Any]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.folder / WEIGHTS
        try:
            return dict(load_file(path))
        except (OSError, SafetensorError) as error:
            raise RunError(f"cannot read the weights {str(path)!r}: {error}. The run is damaged; run it again.") from error


def _place(output: str, dataset: str, category: str, model: str) -> Path:
    """The folder that holds the runs of one model on one category."""
    return Path(output).expanduser().joinpath(*map(_folder_name, (dataset, category, model)))


def _folder_name(name: str) -> str:
    """A name as one folder below another, whatever a data set calls its categories: never above or beside it."""
    flat = re.sub(r"[:/\\\0]", "-", name.replace(os.sep, "-"))
    return flat if flat.strip(". ") else f"_{flat}"


def _run_id(place: Path) -> str:
    """The time, and a random end; later than every run that is there, so that a clock set back does not change their order."""
    now = time.gmtime()
    stamp = time.strftime(_STAMP, now)
    try:
        newest = max((path.name for path in place.iterdir() if _RUN_ID.fullmatch(path.name)), default="")[:15]
        if newest >= stamp:
            after = calendar.timegm(time.strptime(newest, _STAMP)) + 1
            stamp = time.strftime(_STAMP, time.gmtime(after))
    except (OSError, ValueError):  # no folder yet, or a name that is no time
        pass
    return f"{stamp}-{secrets.token_hex(3)}"
