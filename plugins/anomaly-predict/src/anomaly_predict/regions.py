"""Regions: the places of an anomaly map that exceed the map threshold, in the pixels of the image. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import contourpy
import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_core import Calibration, DataError, ImageReader, InputSpec, Prediction

Floats = NDArray[np.float64]
Axes = tuple[tuple[float, float], ...]  # (scale, offset) from the map to the image, of x and of y
_NEAREST = 1e-6  # of the greatest distance from the threshold: how near to it a cell may be
_ROUNDING = 1e-6  # pixels
MOST = 1_000  # regions of an image: a map that is noise all over has hundreds of thousands
_TOLERANCE = 0.1  # cells of the map that a simplified outline may be off


@dataclass(frozen=True)
class Region:
    """A connected part of an image in which the anomaly map exceeds the map threshold: interpolated linearly, as the maps of
    whole images are coarser than these; for ``data.tile``, whose maps have the image's own pixels, pixel by pixel.

    Coordinates are pixels of the image as it stands upright, counted from its left upper corner: the first pixel's corners
    are at 0 and 1.

    Attributes:
        box: (left, top, right, bottom), whole pixels; the pixels ``left`` to ``right - 1`` lie in it.
        area: in pixels, without holes.
        peak: the greatest map value in it.
        peak_at: (x, y) of the pixel with that value.
        polygon: its outer outline, (x, y) in order, not closed; off by at most a tenth of a cell of the map.
        map_box: the box in cells of the map.
        p_value: share of normal images with at least this value somewhere in their map; None where that is not known.
        area_mm2: in square millimetres; None without ``data.mm_per_px``.
    """

    box: tuple[int, int, int, int]
    area: float
    peak: float
    peak_at: tuple[int, int]
    polygon: tuple[tuple[float, float], ...]
    map_box: tuple[int, int, int, int]
    p_value: float | None = None
    area_mm2: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; without ``map_box``, which means nothing without the map."""
        facts = {"box": list(self.box), "area": self.area, "area_mm2": self.area_mm2, "peak": self.peak}
        return {**facts, "peak_at": list(self.peak_at), "p_value": self.p_value, "polygon": [list(p) for p in self.polygon]}


def only_map(prediction: Prediction[Any]) -> Any:
    """The map (1, h, w) of a prediction of one image, or None; DataError if it is of several."""
    if prediction.maps is None:
        return None
    if len(prediction.maps) != 1:
        raise DataError(f"regions are those of one image, not of {len(prediction.maps)}: give prediction[i : i + 1].")
    return prediction.maps[0]


def regions_of(
    anomaly_map: ArrayLike | None,
    calibration: Calibration,
    size: tuple[int, int],
    input_spec: InputSpec | None = None,
    *,
    reader: ImageReader | None = None,
    least_area: float = 0.0,
    mm_per_px: float | None = None,
    polygons: bool = True,
) -> tuple[Region, ...] | None:
    """The regions of an image, the highest peak first, at most 1,000; None without a map, or without a threshold of maps.

    Args:
        anomaly_map: float (1, h, w) or (h, w). What is NaN, as at the edge of a batch of different sizes, is in no region.
        calibration: with the map threshold, and the maxima of normal maps for p-values.
        size: (height, width) of the upright image.
        input_spec: how the image became the model's input; None if the map has the image's own pixels (``data.tile``).
        reader: knows the part of the image that counts; None: all of it.
        least_area: in pixels; smaller regions are left out.
        mm_per_px: millimetres a pixel.
        polygons: False leaves them empty: they take most of the time.

    Raises:
        DataError: the map is not of one image.
    """
    if anomaly_map is None or calibration.map_threshold is None:
        return None
    values = np.asarray(anomaly_map)
    values = values[0] if values.ndim == 3 and len(values) == 1 else values
    if values.ndim != 2 or not values.size:
        raise DataError(f"regions are those of one map (1, h, w), not of {values.shape}. Give the maps one by one.")
    reader = reader or ImageReader()
    left, top, right, bottom = reader.seen(*size)
    width, height = right - left, bottom - top
    if input_spec is None:  # what follows pads the map to the largest of its batch
        values = values[:height, :width]
        axes: Axes = ((1.0, 0.0), (1.0, 0.0))
    else:
        axes = input_spec.native_axes(width, height, values.shape)
    values = reader.counted(values, (height, width), input_spec)
    outlines = _Outlines.of(values, calibration.map_threshold, axes, (width, height), by_pixel=input_spec is None)
    if outlines is None:
        return ()
    areas, corner = outlines.areas.round(2), np.array((left, top))
    chosen = np.lexsort((np.arange(len(areas)), -outlines.peaks))
    regions = []
    for number in chosen[areas[chosen] >= least_area][:MOST].tolist():
        points, area, peak = outlines.outer(number), float(areas[number]), float(outlines.peaks[number])
        low, high = np.floor(points.min(axis=0) + _ROUNDING) + corner, np.ceil(points.max(axis=0) - _ROUNDING) + corner
        polygon = (_simplified(points, axes) + corner).round(2) if polygons else points[:0]
        region = Region(
            box=(int(low[0]), int(low[1]), int(high[0]), int(high[1])),
            area=area,
            peak=peak,
            peak_at=_pair(np.floor(outlines.peaks_at[number]) + corner),
            polygon=tuple((float(x), float(y)) for x, y in polygon),
            map_box=outlines.map_box(number),
            p_value=calibration.map_p_value(peak),
            area_mm2=None if mm_per_px is None else round(area * mm_per_px**2, 6),
        )
        regions.append(region)
    return tuple(regions)


class _Outlines(NamedTuple):
    """What exceeds the threshold in a map: N regions, from the top down.

    Attributes:
        points: (P, 2), the outlines of all in the image, each ring closed.
        rings: for each region, where its rings begin and end in ``points``; the outer outline first, then the holes.
        areas, peaks: (N,), areas in the image without holes, and the greatest map values.
        peaks_at: (N, 2), where in the image those are.
        cells, starts: (x, y) of the cells above the threshold, region by region, and where each begins.
    """

    points: Floats
    rings: list[NDArray[np.int64]]
    areas: Floats
    peaks: Floats
    peaks_at: Floats
    cells: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(
        cls, values: NDArray[Any], threshold: float, axes: Axes, size: tuple[int, int], *, by_pixel: bool
    ) -> _Outlines | None:
        """Of a map (h, w); ``axes`` and ``size`` are of x, then of y. None if there is none. ``by_pixel``: a cell is in or out,
        and areas are their number."""
        columns, rows = map(_Cells.within, values.shape[::-1], axes, size)  # a map may reach beyond its image
        inside = values[rows.all, columns.all]
        above = (inside > threshold) & (inside < np.inf)
        if not above.any():
            return None
        columns, rows = columns.around(np.any(above, axis=0)), rows.around(np.any(above, axis=1))
        grid = values[rows.all, columns.all]
        if by_pixel:  # outlines run midway between pixels, and join those that share a corner
            grid, threshold = np.where((grid > threshold) & (grid < np.inf), 1 + _NEAREST, -1.0), 0.0
        else:
            grid = _apart(grid.astype(np.float64), threshold)
        # Up to the image's edge the outermost cells are repeated, as in InputSpec.native_map; there the map falls off at once.
        grid = np.pad(np.pad(grid, 1, mode="edge"), 1, constant_values=2 * threshold - grid.max())
        generator = contourpy.contour_generator(z=grid, name="serial", fill_type=contourpy.FillType.OuterOffset)
        filled: Any = generator.filled(threshold, np.inf)
        lengths = np.array([len(points) for points in filled[0]])
        begins = np.cumsum(lengths) - lengths
        on_grid = np.concatenate(filled[0])  # (x, y) in cells of the grid
        row, column, owner = _owned(grid > threshold, on_grid, np.repeat(np.arange(len(lengths)), lengths))
        cells = np.stack([columns.framed_numbers[column], rows.framed_numbers[row]], axis=1)
        order = np.lexsort((-values[cells[:, 1], cells[:, 0]], owner))  # region by region, the greatest first
        cells, starts = cells[order], np.searchsorted(owner[order], np.arange(len(lengths) + 1))
        greatest = cells[starts[:-1]]
        scales, offsets = np.array(axes).T
        placed = [np.interp(on_grid[:, axis], np.arange(len(at)), at) for axis, at in enumerate((columns.at, rows.at))]
        rings = [begin + ends.astype(np.int64) for begin, ends in zip(begins, filled[1], strict=True)]
        return cls(
            points=np.stack(placed, axis=1),
            rings=rings,
            areas=np.diff(starts).astype(np.float64) if by_pixel else _areas(placed, begins, rings),
            peaks=values[greatest[:, 1], greatest[:, 0]].astype(np.float64),
            peaks_at=(greatest + 0.5) * scales + offsets,
            cells=cells,
            starts=starts,
        )

    def outer(self, number: int) -> Floats:
        """A region's outer outline, (M, 2), not closed."""
        start, end = self.rings[number][:2]
        return self.points[start : end - 1]

    def map_box(self, number: int) -> tuple[int, int, int, int]:
        """The cells that a region covers: left, top, right, bottom."""
        cells = self.cells[self.starts[number] : self.starts[number + 1]]
        return (*_pair(cells.min(axis=0)), *_pair(cells.max(axis=0) + 1))


class _Cells(NamedTuple):
    """Cells of a map along one axis: their numbers, and their places in the image between those before and after them."""

    numbers: NDArray[np.int64]
    places: Floats

    @classmethod
    def within(cls, count: int, axis: tuple[float, float], side: int) -> _Cells:
        """The cells whose centres lie in an image of this side."""
        scale, offset = axis
        centres = (np.arange(count) + 0.5) * scale + offset
        (numbers,) = np.nonzero((centres > 0) & (centres < side))
        ends = max(offset, 0.0), min(count * scale + offset, float(side))
        return cls(numbers, np.concatenate([ends[:1], centres[numbers], ends[1:]]))

    def around(self, chosen: NDArray[np.bool_]) -> _Cells:
        """From the cell before the first that is chosen to the one after the last."""
        (indices,) = np.nonzero(chosen)
        start, end = max(int(indices[0]) - 1, 0), min(int(indices[-1]) + 2, len(chosen))
        return _Cells(self.numbers[start:end], self.places[start : end + 2])

    @property
    def all(self) -> slice:
        """The numbers, which follow one another."""
        return slice(int(self.numbers[0]), int(self.numbers[-1]) + 1) if len(self.numbers) else slice(0)

    @property
    def framed_numbers(self) -> NDArray[np.int64]:
        """The numbers, with two cells more at each end."""
        return np.pad(self.numbers, 2, mode="edge")

    @property
    def at(self) -> Floats:
        """The places of these: of the two cells more, the outer lies where the inner does."""
        return np.pad(self.places, 1, mode="edge")


def _apart(values: Floats, threshold: float) -> Floats:
    """The values, none at the threshold or so near that an outline would meet a cell's centre; what is not finite is below."""
    finite = np.isfinite(values)
    reach = max(float(np.abs(values[finite] - threshold).max()), float(np.finfo(np.float32).tiny))
    values = np.where(finite, values, threshold - reach)
    nearest = _NEAREST * reach
    return np.where(values > threshold, np.maximum(values, threshold + nearest), np.minimum(values, threshold - nearest))


def _owned(above: NDArray[np.bool_], points: Floats, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """(row, column, number of the outline around it) of each cell above the threshold, without the two cells of the frame.

    Outlines enter each run of cells in a row between its first cell and the one before: there a point tells whose it is.
    """
    level = np.abs(points[:, 1] - points[:, 1].round()) < _NEAREST / 10
    entered = np.full(above.shape, -1)
    entered[points[level, 1].round().astype(int), np.ceil(points[level, 0]).astype(int)] = numbers[level]
    starts = above & ~np.roll(above, 1, axis=1)
    row, column = np.nonzero(above)
    owner = entered[starts][np.cumsum(starts[row, column]) - 1]
    kept = (row > 1) & (row < len(above) - 2) & (column > 1) & (column < above.shape[1] - 2)
    return row[kept], column[kept], owner[kept]


def _simplified(points: Floats, axes: Axes) -> Floats:
    """Douglas and Peucker's simplification (1973) of an outline, (N, 2) -> (M, 2). One that would have no area stays."""
    x, y = (points / [scale for scale, _ in axes]).T
    ring = [complex(*point) for point in zip(x.tolist(), y.tolist(), strict=True)]  # faster than arrays: most are short
    ring.append(ring[0])
    farthest = max(range(len(points)), key=lambda i: abs(ring[i] - ring[0]))
    kept, parts = {0, farthest}, [(0, farthest), (farthest, len(points))]
    while parts:
        start, end = parts.pop()
        chord = ring[end] - ring[start]
        square, most, worst = max(abs(chord) ** 2, 1e-300), _TOLERANCE, 0
        for i in range(start + 1, end):
            point = ring[i] - ring[start]
            along = (point.real * chord.real + point.imag * chord.imag) / square
            distance = abs(point - min(max(along, 0.0), 1.0) * chord)
            if distance > most:
                most, worst = distance, i
        if worst:
            kept.add(worst)
            parts += [(start, worst), (worst, end)]
    return points[sorted(kept)] if len(kept) > 2 else points


def _areas(placed: list[Floats], begins: NDArray[np.int64], rings: list[NDArray[np.int64]]) -> Floats:
    """The areas of outlines, by Gauss's formula: holes run the other way round."""
    x, y = (places - places[0] for places in placed)
    turns = x * np.roll(y, -1) - np.roll(x, -1) * y
    turns[np.concatenate([ends[1:] for ends in rings]) - 1] = 0  # from a ring's last point, which is its first, to the next
    return np.abs(np.add.reduceat(turns, begins)) / 2


def _pair(numbers: NDArray[Any]) -> tuple[int, int]:
    return int(numbers[0]), int(numbers[1])
