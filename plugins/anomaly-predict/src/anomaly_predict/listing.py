"""The observer that lists the regions of a run's test images in predictions.csv."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_core import DataError, RunFolder, hookimpl
from anomaly_predict.regions import Region, regions_of

if TYPE_CHECKING:
    from anomaly_core import Batch, Calibration, DataConfig, ImageReader, InputSpec, Prediction, TestedImage

LISTED = 100  # regions of an image: a cell of a table has at most 128 KiB for Python's reader


class Lister:
    """Gives each row of a test set its regions. Several runs may be open at once, as in a grid's threads."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[DataConfig, ImageReader]] = {}

    @hookimpl(tryfirst=True)  # who draws pictures finds them in the rows
    def anomaly_scored(
        self,
        run: RunFolder,
        batch: Batch,
        prediction: Prediction,
        rows: list[TestedImage],
        calibration: Calibration,
        input_spec: InputSpec,
    ) -> None:
        if prediction.maps is None or calibration.map_threshold is None:
            return
        if run.folder not in self._known:
            self._known[run.folder] = run.config().data, run.reader()
        data, reader = self._known[run.folder]
        spec = input_spec if data.tile is None else None
        options: dict[str, Any] = {
            "reader": reader,
            "least_area": data.least_area,
            "mm_per_px": data.mm_per_px,
            "polygons": False,
        }
        maps = np.asarray(prediction.maps)  # torch's own operators cost more than such small arrays are worth
        for row, anomaly_map in zip(rows, maps, strict=True):
            if row.error:
                continue
            if not (anomaly_map > calibration.map_threshold).any():
                row.regions = []
                continue
            try:
                found = regions_of(anomaly_map, calibration, reader.whole.size(row.path), spec, **options)
            except DataError as error:
                warnings.warn(f"the regions of an image are not listed: {error}", stacklevel=2)
                continue
            row.regions = [_facts(region) for region in (found or ())[:LISTED]]

    @hookimpl
    def anomaly_tested(self, run: RunFolder) -> None:
        self._known.pop(run.folder, None)

    @hookimpl
    def anomaly_run_error(self, run: RunFolder) -> None:
        self._known.pop(run.folder, None)


def _facts(region: Region) -> dict[str, Any]:
    """What a cell of the table holds of a region: everything but its outline."""
    facts = {**region.to_dict(), "map_box": list(region.map_box)}
    return {name: value for name, value in facts.items() if name != "polygon" and value is not None}


OBSERVER = Lister()
