"""Maps as they are answered: a PNG whose mid-grey is the map threshold, or the values themselves."""

from __future__ import annotations

from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_serve.products import LoadedVersion
from anomaly_serve.records import Judgement

Map = NDArray[np.float32]


class Scale(NamedTuple):
    """The map values that are black and white in a PNG."""

    low: float
    high: float


def scale_of(values: Map, version: LoadedVersion) -> Scale:
    """Black is the value of typical normal pixels, and mid-grey the map threshold; without one, the least and greatest."""
    calibration = version.settings.calibration
    least, greatest = float(values.min()), float(values.max())
    if calibration.map_threshold is None:
        return Scale(least, greatest)
    low = least if calibration.map_low is None else calibration.map_low
    low = min(low, calibration.map_threshold)
    return Scale(low, 2 * calibration.map_threshold - low)


def as_png(values: Map, scale: Scale) -> bytes:
    """An 8-bit grey PNG of a map (h, w)."""
    span = scale.high - scale.low or 1.0
    grey = np.clip((values.astype(np.float64) - scale.low) / span * 255, 0, 255).round().astype(np.uint8)
    file = BytesIO()
    Image.fromarray(grey).save(file, "png", compress_level=1)
    return file.getvalue()


def as_npy(values: Map) -> bytes:
    """The float32 values as ``numpy.load`` reads them."""
    file = BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def extent_of(values: Map, version: LoadedVersion, judgement: Judgement) -> list[float]:
    """[left, top, right, bottom] of a map in the pixels of the upright image; beyond its edges where the image was padded."""
    reader, spec = version.detector.reader, version.input_spec
    left, top, right, bottom = reader.seen(*judgement.size)
    if spec is None:
        return [float(left), float(top), float(right), float(bottom)]
    (across, x), (down, y) = spec.native_axes(right - left, bottom - top, values.shape)
    height, width = values.shape
    return [round(value, 3) for value in (left + x, top + y, left + x + across * width, top + y + down * height)]
