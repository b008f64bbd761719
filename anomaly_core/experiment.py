"""The run's folder: what is written where, whole or not at all, and how it is read again."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from anomaly_core.calibration import Calibration
from anomaly_core.config import RunConfig
from anomaly_core.errors import RunError

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


class Experiment:
    """One run's folder. Files are written beside their place and renamed; ``manifest.json`` says ``complete`` last."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @classmethod
    def create(cls, output: str, dataset: str, category: str, model: str) -> Experiment:
        """A new folder ``<output>/<dataset>/<category>/<model>/<run-id>``."""
        run_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
        folder = _place(output, dataset, category, model) / run_id
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise RunError(f"cannot make the run's folder {str(folder)!r}: {error}. Choose another with --output.") from error
        return cls(folder)

    @classmethod
    def latest(cls, output: str, dataset: str, category: str, model: str, config: RunConfig) -> Experiment | None:
        """The newest run of exactly this config, complete or not; None where there is none."""
        text = config.to_yaml().encode()
        for path in sorted(_place(output, dataset, category, model).glob(f"*/{CONFIG}"), reverse=True):
            if path.read_bytes() == text:
                return cls(path.parent)
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

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file whole: beside its place, flushed to disk, then renamed."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with temporary.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise RunError(
                f"cannot write {str(path)!r}: {error}. Free some space or choose another folder with --output."
            ) from error
        return path

    def write_json(self, name: str, values: Mapping[str, Any]) -> Path:
        # A file name that is not UTF-8 holds lone surrogates: written as \udcff, they come back as they were.
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        return self.write(name, text.encode("utf-8", "backslashreplace"))

    def write_rows(self, name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Write a CSV file whose columns are the keys of all rows, in the order of their first appearance."""
        rows = list(rows)
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return self.write(name, text.getvalue().encode("utf-8", "surrogateescape"))

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
    return (
        Path(output)
        .expanduser()
        .joinpath(*(part.replace(":", "-").replace(os.sep, "-") for part in (dataset, category, model)))
    )
