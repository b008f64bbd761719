"""RunFolder: where a run's files are written, atomically, and how they are read; the only owner of the manifest."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from anomaly_core.config.resolve import RunConfig, sections_of
from anomaly_core.discovery import registry
from anomaly_core.errors import ConfigError, RunError, described, is_stop, quoted
from anomaly_core.imaging.reading import ImageReader
from anomaly_core.run.calibration import Calibration
from anomaly_core.run.csv_safe import csv_bytes, csv_rows
from anomaly_core.run.files import exclusive, folder_name, run_id, sweep, write_whole
from anomaly_core.run.memory import explained
from anomaly_core.run.normals import NormalImage
from anomaly_core.run.records import FORMAT, checked_manifest, fault, parse_json, versions
from anomaly_core.run.result import RunResult, TestedImage
from anomaly_core.untrusted import expanded, inside, open_untrusted, read_untrusted

if TYPE_CHECKING:
    from anomaly_core.base.modeler import BaseModeler
    from anomaly_core.hooks import Hooks

MANIFEST, CONFIG, LOG, CHECKPOINTS = "manifest.json", "config.yaml", "log.txt", "checkpoints"
WEIGHTS, IMAGES, CALIBRATION, HISTORY = "model.safetensors", "images.json", "calibration.json", "history.csv"
METRICS, PREDICTIONS, CURVES, NORMALS = "metrics.json", "predictions.csv", "curves.json", "normals.csv"
RECORDED = (CONFIG, WEIGHTS, IMAGES, CALIBRATION, HISTORY, METRICS, PREDICTIONS, CURVES, NORMALS)  # with SHA-256
log = logging.getLogger(__name__)
T = TypeVar("T")


class RunFolder:
    """One run's folder. Files are written atomically; the status ``complete`` is written to ``manifest.json`` last.

    :attr:`facts` holds the manifest's contents; :meth:`recording` writes it. With ``verify``, only what a run wrote is read.
    """

    def __init__(self, folder: str | Path, verify: bool = True) -> None:
        self.folder = Path(folder)
        self.verify = verify
        self.facts: dict[str, Any] = {}

    @classmethod
    def create(cls, output: str, dataset: str, category: str, model: str) -> RunFolder:
        """A new folder ``<output>/<dataset>/<category>/<model>/<run-id>``."""
        place = _place(output, dataset, category, model)
        while True:
            folder = place / run_id(place)
            try:
                folder.mkdir(parents=True)
            except OSError as error:
                if folder.is_dir():  # another process took the same name at the same moment
                    continue
                reason = "a file is where a folder must be" if isinstance(error, FileExistsError) else error
                raise RunError(f"cannot make the folder {str(folder)!r}: {reason}. Choose another with --output.") from error
            return cls(folder)

    @classmethod
    def latest(cls, output: str, dataset: str, category: str, model: str, config: RunConfig | None = None) -> RunFolder | None:
        """The newest run, with exactly this config if one is given, complete or not; None if there is none."""
        text = config.to_yaml().encode() if config else None
        for path in sorted(_place(output, dataset, category, model).glob(f"*/{CONFIG}"), reverse=True):
            try:
                if text is None or read_untrusted(path) == text:
                    return cls(path.parent)
            except OSError as error:
                warnings.warn(f"{str(path)!r} cannot be read and is passed over: {error}.", stacklevel=2)
        return None

    @classmethod
    def unfinished(cls, folder: str | Path) -> RunFolder:
        """A run's folder, complete or not; RunError if it is not one."""
        if not (Path(folder) / CONFIG).is_file():
            raise RunError(f"{str(folder)!r} is not a run's folder: it has no {CONFIG}. Give one that `anomaly run` made.")
        return cls(folder)

    @classmethod
    def open(cls, folder: str | Path, verify: bool = True) -> RunFolder:
        """A finished run's folder; RunError if it is not a run's folder, or the run did not complete."""
        run = cls(folder, verify)
        if not (run.folder / MANIFEST).exists():
            printed = "the folder that `anomaly run` printed, such as experiments/<dataset>/<category>/<model>/<run-id>"
            missing = f"it has no {MANIFEST}" if run.folder.exists() else "there is nothing at that path"
            raise RunError(f"{str(folder)!r} is not a run's folder: {missing}. Give {printed}.")
        if (status := run.manifest()["status"]) != "complete":
            resume = f"Go on with `anomaly run --resume {quoted(run.folder)}`."
            raise RunError(f"the run in {str(folder)!r} is {status!r}, not complete. {resume}")
        return run

    def is_complete(self) -> bool:
        """Whether the manifest's status, which is written last, is ``complete``."""
        return bool(self._complete_manifest())

    def locked(self) -> AbstractContextManager[None]:
        """A lock to hold while writing the run; RunError if another process is writing it."""
        step = "Wait until it is done, or start a run of its own without --resume."
        return exclusive(self.folder, f"another process is writing the run in {str(self.folder)!r}. {step}")

    @contextmanager
    def recording(self, config: RunConfig, hooks: Hooks, **facts: Any) -> Iterator[None]:
        """Keep the manifest and log of the block: status ``running``, then ``complete``, ``interrupted`` or ``failed``.

        The manifest starts with ``facts`` and what is installed; the block may add more to :attr:`facts`. Observers are told
        of the start and of an error, which is raised again, explained for the user if possible. The caller reports the end.
        """
        sweep(self.folder)
        begun = time.perf_counter()
        self.facts = {**facts, "versions": versions(), "format": FORMAT, "status": "running", "started": time.time()}
        self.write(CONFIG, config.to_yaml())
        self.write_json(MANIFEST, self.facts)
        hooks.call("anomaly_run_start", run=self)
        messages: list[str] = []
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("default")
                try:
                    yield
                finally:
                    messages = list(dict.fromkeys(str(item.message) for item in caught))
            # not from the clock, which may have been changed during the run
            self.facts["finished"] = self.facts["started"] + time.perf_counter() - begun
            self._end(messages, status="complete")
        except BaseException as raised:
            error = explained(raised)
            status = "interrupted" if is_stop(error) else "failed"
            try:
                self._end(messages, status=status, error=described(error))
            except RunError as second:  # a full disk, perhaps the first error's own cause
                log.warning("%s The folder %r does not tell that its run did not complete.", second, str(self.folder))
            hooks.call("anomaly_run_error", run=self, error=error)
            if error is raised:
                raise
            raise error from raised

    def _end(self, messages: Sequence[str], **facts: Any) -> None:
        for text in messages:
            log.warning("%s", text)
        self.write(LOG, "".join(f"warning: {text}\n" for text in messages))
        self.write_json(MANIFEST, {**self.facts, **facts, "warnings": messages})

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file atomically: to a temporary file beside it, flushed to disk, then renamed."""
        content = content.encode() if isinstance(content, str) else content
        write_whole(self.folder / name, content, within=self.folder)
        if name in RECORDED:
            written = {name: hashlib.sha256(content).hexdigest()}
            self.facts["files"] = self.facts.get("files", {}) | written
            if "status" not in self.facts and (manifest := self._complete_manifest()):  # a finished run that is extended
                self.write_json(MANIFEST, {**manifest, "files": manifest.get("files", {}) | written})

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a JSON file atomically."""
        # A file name that is not UTF-8 contains lone surrogates: written as \udcff, they are read back unchanged.
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        self.write(name, text.encode("utf-8", "backslashreplace"))

    def write_rows(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a CSV file; what a spreadsheet would read as a formula gets an apostrophe, which :meth:`read_rows` removes."""
        self.write(name, csv_bytes(rows))

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Write the model's tensors as safetensors, a format that cannot contain code."""
        from safetensors.torch import save

        self.write(WEIGHTS, save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}))

    def write_result(self, result: RunResult, curves: Mapping[str, Any]) -> None:
        """Write the metrics, a row for each test image, and the curves of each category."""
        self.write_json(CURVES, curves)
        self.write_rows(PREDICTIONS, (row.to_row() for row in result.predictions))
        self.write_json(METRICS, result.metrics_json())

    def read(self, name: str) -> bytes:
        """The bytes of one of the run's files; RunError if it cannot be read or is not the file that the run wrote."""
        try:
            content = read_untrusted(inside(self.folder, name))
        except OSError as error:
            raise self._damaged(name, error) from error
        self._require_recorded(name, hashlib.sha256(content).hexdigest())
        return content

    def read_rows(self, name: str) -> list[dict[str, str]]:
        """The rows of a CSV file from :meth:`write_rows`, as text; RunError if it cannot be read."""
        try:
            return csv_rows(self.read(name))
        except csv.Error as error:
            raise self._damaged(name, error) from error

    def read_json(self, name: str) -> dict[str, Any]:
        """The object in a JSON file; RunError if it cannot be read."""
        try:
            return parse_json(self.read(name))
        except ValueError as error:
            raise self._damaged(name, error) from error

    def manifest(self) -> dict[str, Any]:
        """The manifest's contents."""
        return self._checked(MANIFEST, checked_manifest)

    def _complete_manifest(self) -> dict[str, Any]:
        """The manifest of a complete run; empty if the run is not complete."""
        manifest = self.manifest() if (self.folder / MANIFEST).exists() else {"status": ""}
        return manifest if manifest["status"] == "complete" else {}

    def config(self) -> RunConfig:
        """The run's config."""
        try:
            return RunConfig.create(config=sections_of(self.read(CONFIG).decode(), "the file"))
        except (ConfigError, ValueError) as error:
            raise self._damaged(CONFIG, error) from error

    def calibration(self) -> Calibration:
        """The run's threshold, and the scores that it was computed from."""
        return self._checked(CALIBRATION, Calibration.from_dict)

    def normals(self) -> list[NormalImage]:
        """The normal images that set the threshold, with their scores; RunError if the file cannot be read."""
        return self._rows(NORMALS, NormalImage.from_row)

    def _rows(self, name: str, read: Callable[[dict[str, str]], T]) -> list[T]:
        try:
            return list(map(read, self.read_rows(name)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(name, error) from error

    def reader(self) -> ImageReader:
        """How the run's image files were decoded, and new ones are to be."""
        return self._checked(IMAGES, ImageReader.from_dict)

    def _checked(self, name: str, check: Callable[[dict[str, Any]], T]) -> T:
        """What a check makes of a JSON file's object; its ValueError becomes a RunError that names the file."""
        try:
            return check(self.read_json(name))
        except ValueError as error:
            raise self._damaged(name, error) from error

    def state(self) -> dict[str, Any]:
        """The model's tensors; RunError if they cannot be read, or one is not finite."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        self.require_recorded(WEIGHTS)
        try:
            state = dict(load_file(self.folder / WEIGHTS))
        except (OSError, SafetensorError) as error:
            raise self._damaged(WEIGHTS, error) from error
        for name, tensor in state.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise self._damaged(WEIGHTS, ValueError(f"the tensor {name!r} holds NaN or infinity"))
        return state

    def modeler(self, config: RunConfig) -> BaseModeler:
        """The fitted modeler; no code from the file is executed, and no pretrained weights are loaded."""
        from anomaly_core.base.modeler import ModelContext

        context = ModelContext(False, tuple(config.data.category or ()), config.data.prompt)
        modeler: BaseModeler = registry.models[config.model.name].build(config.model, context)
        self.restore(modeler, config.model.name)
        return modeler

    def restore(self, modeler: BaseModeler, name: str) -> None:
        """Load the run's state into a modeler of the method ``name``; RunError if it does not fit."""
        state = self.state()
        try:
            modeler.load_state(state)
        except Exception as error:  # torch raises many kinds of exceptions
            reason = f"its tensors do not fit the model {name!r}: {fault(error)[:400]}"
            raise self._damaged(WEIGHTS, ValueError(reason)) from error

    def result(self) -> RunResult:
        """The run's results; RunError if a file is damaged."""
        manifest, metrics = self.manifest(), self.read_json(METRICS)
        if missing := {"category", "test_images_per_second"} - manifest.keys():
            raise self._damaged(MANIFEST, ValueError(f"it has no {min(missing)}"))
        predictions = self._rows(PREDICTIONS, TestedImage.from_row)
        try:
            return RunResult.of_files(self.folder, manifest, metrics, predictions, self.calibration())
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(METRICS, error) from error

    def differing(self) -> dict[str, str]:
        """The files that are not as the complete run wrote them, and what is wrong with each."""
        written = self.manifest().get("files", {})
        reasons = {}
        for name in (name for name in RECORDED if name in written or (self.folder / name).exists()):
            try:
                self.require_recorded(name)
            except RunError as error:
                reasons[name] = str(error)
        return reasons

    def require_recorded(self, name: str) -> None:
        """Raise RunError if a file of a complete run cannot be read or is not the one that the run wrote."""
        self._require_recorded(name, self._digest(name))

    def _digest(self, name: str) -> str:
        digest = hashlib.sha256()
        try:
            with open_untrusted(inside(self.folder, name)) as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        except OSError as error:
            raise self._damaged(name, error) from error
        return digest.hexdigest()

    def _require_recorded(self, name: str, digest: str) -> None:
        manifest = self._complete_manifest() if self.verify and name in RECORDED else {}
        if manifest and digest != manifest.get("files", {}).get(name):
            raise RunError(
                f"{str(self.folder / name)!r} is not what the run wrote: its SHA-256 is not that in {MANIFEST}. Restore it, or "
                "run again; if it was changed on purpose, give --no-verify."
            )

    def _damaged(self, name: str, error: Exception) -> RunError:
        return RunError(f"cannot read {str(self.folder / name)!r}: {fault(error)}. The run is damaged; run it again.")


def _place(output: str, dataset: str, category: str, model: str) -> Path:
    return expanded(output).joinpath(*map(folder_name, (dataset, category, model)))
