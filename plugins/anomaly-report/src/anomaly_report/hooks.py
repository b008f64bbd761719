"""The observer that draws pictures and writes reports; the core guards it, so that it cannot cost the run.

``anomaly predict`` loads it where torch is not installed: nothing heavy is imported at the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from anomaly_core import ImageReader, RunFolder, expanded, hookimpl
from anomaly_report.frame import Frame
from anomaly_report.gallery import Gallery, draw_prediction
from anomaly_report.normals import NormalGallery
from anomaly_report.pictures import safe_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from anomaly_core import Batch, Calibration, Detector, InputSpec, NormalImage, Prediction, TestedImage
    from anomaly_report.runs import RunRow


class Verdict(Protocol):
    """What is read of a verdict on a new image."""

    @property
    def path(self) -> str:
        """The image file."""

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the upright image."""

    @property
    def regions(self) -> Sequence[Region] | None:
        """What exceeds the map threshold; None where that is not known."""


class Region(Protocol):
    """What is read of a region."""

    @property
    def map_box(self) -> tuple[int, int, int, int]:
        """Its box in cells of the map."""


class Cell(Protocol):
    """What is read of a cell of a grid."""

    data: str
    category: str
    model: str
    seed: int
    config: dict[str, Any]
    folder: str
    error: str


class Reporter:
    """Draws ``maps/`` and ``suspects/`` of a run and the pictures of ``anomaly predict``, and writes ``report.html`` into a
    run's folder, ``leaderboard.html`` beside a grid's tables.

    Several runs may be open at once, as in a grid's threads.
    """

    def __init__(self) -> None:
        self._galleries: dict[Path, Gallery] = {}
        self._normals: dict[Path, NormalGallery] = {}

    @hookimpl
    def anomaly_normals_scored(self, run: RunFolder, batch: Batch, prediction: Prediction, input_spec: InputSpec) -> None:
        if run.folder not in self._normals:
            config = run.config()
            spec = input_spec if config.data.tile is None else None
            size = ImageReader.from_config(config.data).size
            self._normals[run.folder] = NormalGallery(run.folder, config.base.pictures, spec, size)
        self._normals[run.folder].consider(batch, prediction)

    @hookimpl
    def anomaly_calibrated(self, run: RunFolder, normals: list[NormalImage], calibration: Calibration) -> None:
        if run.folder in self._normals:
            self._normals[run.folder].draw(normals, calibration)

    @hookimpl
    def anomaly_scored(
        self,
        run: RunFolder,
        batch: Batch,
        prediction: Prediction,
        rows: list[TestedImage],
        calibration: Calibration,
        input_spec: InputSpec,
    ) -> None:
        if run.folder not in self._galleries:
            config = run.config()
            spec = input_spec if config.data.tile is None else None
            self._galleries[run.folder] = Gallery(run.folder, config.base.pictures, calibration, spec, run.reader().size)
        self._galleries[run.folder].consider(batch, prediction, rows)

    @hookimpl
    def anomaly_tested(self, run: RunFolder) -> None:
        self._normals.pop(run.folder, None)
        gallery = self._galleries.pop(run.folder, None)
        if gallery is not None:
            gallery.draw()

    @hookimpl
    def anomaly_run_error(self, run: RunFolder) -> None:
        self._galleries.pop(run.folder, None)
        self._normals.pop(run.folder, None)

    @hookimpl
    def anomaly_run_end(self, run: RunFolder) -> None:
        from anomaly_report.report import write_report  # jinja2 is not needed before

        write_report(run.folder)

    @hookimpl
    def anomaly_predicted(
        self,
        verdict: Verdict,
        image: NDArray[np.uint8] | None,
        prediction: Prediction[Any] | None,
        detector: Detector,
        picture: Path | None,
    ) -> None:
        if picture is None or image is None or prediction is None:
            return
        path, number = Path(verdict.path), picture.name.partition("-")[0]
        place = picture.with_name(f"{number}-{safe_name(path.stem)}.png")
        regions = verdict.regions
        boxes = None if regions is None else [region.map_box for region in regions]
        frame = _frame(detector, verdict)
        draw_prediction(place, path.name, image, prediction, detector.calibration, boxes, frame)

    @hookimpl(optionalhook=True)  # of anomaly-benchmark, which need not be installed
    def anomaly_benchmark_end(self, folder: Path, cells: list[Cell]) -> None:
        from anomaly_report.leaderboard import write_leaderboard
        from anomaly_report.runs import read_run

        rows = [read_run(Path(cell.folder)) if cell.folder else _failed(cell) for cell in cells]
        write_leaderboard(folder, rows, title="Benchmark")


def _frame(detector: Detector, verdict: Verdict) -> Frame | None:
    """Where the image lies in what the detector scored; None if they are the same, or the detector does not say."""
    spec: InputSpec | None = getattr(detector, "input_spec", None)
    if spec is None or verdict.size is None:
        return None
    left, top, right, bottom = detector.reader.seen(*verdict.size)
    return Frame.of(spec, (bottom - top, right - left))


def _failed(cell: Cell) -> RunRow:
    """The folder that a failed run left, or what is known without one."""
    from anomaly_core import RunConfig
    from anomaly_report.runs import RunRow, read_run

    output = str(cell.config["base"]["output"])
    run = RunFolder.latest(output, cell.data, cell.category, cell.model, RunConfig.create(config=cell.config))
    row = None if run is None else read_run(run.folder)
    if row is not None and row.status != "complete":
        return replace(row, reason=cell.error, seed=cell.seed)
    return RunRow(
        expanded(output) / "(no folder)",
        "failed",
        cell.error,
        dataset=cell.data,
        category=cell.category,
        model=cell.model,
        preset=str(cell.config["base"].get("preset") or ""),
        seed=cell.seed,
    )


OBSERVERS = Reporter()
