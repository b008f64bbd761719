"""The observer that writes TensorBoard's event files into a run's own folder."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly_core import RunFolder, RunResult, hookimpl, inside, read_untrusted

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
_LARGEST = 1 << 26  # bytes of a picture, 64 MiB


class TensorBoardWriter:
    """One writer a run, from its start to its end; several runs may be open, as in a benchmark's threads."""

    def __init__(self) -> None:
        self._writers: dict[Path, SummaryWriter] = {}

    @hookimpl
    def anomaly_log(self, run: RunFolder, metrics: dict[str, float], step: int) -> None:
        """What the trainer reports, as it reports it: ``train_loss`` stands under ``train/loss``."""
        writer = self._writer(run)
        for name, value in metrics.items():
            if name != "epoch":
                writer.add_scalar(_tag(name), value, step)
        writer.flush()  # so that a long training can be watched

    @hookimpl
    def anomaly_run_end(self, run: RunFolder, results: RunResult) -> None:
        """The metrics, what the method says of itself, the options and the pictures."""
        writer = self._writer(run)
        try:
            self._add_results(writer, run, results)
        finally:
            self._close(run)

    @staticmethod
    def _add_results(writer: SummaryWriter, run: RunFolder, results: RunResult) -> None:
        for name, value in {**results.metrics, **results.figures}.items():
            if value is not None:
                writer.add_scalar(f"result/{name}", value, 0)
        writer.add_text("config", _table(run.config().to_dict()), 0)
        for number, row in enumerate(row for row in results.predictions if row.picture):
            picture = _picture(f"maps/{row.defect or 'test'}", inside(run.folder, row.picture))
            writer.file_writer.add_summary(picture, number)

    @hookimpl
    def anomaly_run_error(self, run: RunFolder, error: BaseException) -> None:
        """Why the run ended early; what was logged before is kept."""
        self._writer(run).add_text("error", f"{type(error).__name__}: {error}", 0)
        self._close(run)

    def _writer(self, run: RunFolder) -> SummaryWriter:
        import tensorboard  # noqa: F401 - torch's SummaryWriter writes with it; slow, and not needed before the first figure
        from torch.utils.tensorboard import SummaryWriter

        if threading.excepthook is not _reported_once:
            threading.excepthook = _reported_once
        if run.folder not in self._writers:
            self._writers[run.folder] = SummaryWriter(str(inside(run.folder, FOLDER)))
        return self._writers[run.folder]

    def _close(self, run: RunFolder) -> None:
        self._writers.pop(run.folder).close()


def _reported_once(failed: threading.ExceptHookArgs, report: Callable[[Any], object] = threading.excepthook) -> None:
    """A writer's thread that fails, on a full disk say, hands its failure to the next call, and the core warns of that one: no
    traceback beside it."""
    if not type(failed.thread).__module__.startswith("tensorboard."):
        report(failed)


def _picture(tag: str, path: Path) -> Any:
    """A picture as its file has it: ``add_image`` would take its pixels and compress them again, which takes 30 ms."""
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    content = read_untrusted(path, _LARGEST)
    with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as opened:  # its pixels are not decoded
        width, height = opened.size
    shown = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
    return Summary(value=[Summary.Value(tag=tag, image=shown)])


def _tag(name: str) -> str:
    """TensorBoard groups by what stands before a slash."""
    for part in ("train", "val"):
        if name.startswith(f"{part}_"):
            return f"{part}/{name.removeprefix(f'{part}_')}"
    return f"fit/{name}"


def _table(config: dict[str, dict[str, Any]]) -> str:
    """The options as a Markdown table."""
    rows = [f"| {section}.{key} | {value} |" for section, values in config.items() for key, value in values.items()]
    return "\n".join(["| option | value |", "|---|---|", *rows])


OBSERVERS = TensorBoardWriter()
