"""Frame: where the image lies in a model's input, so that a picture has the image's own proportions. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from anomaly_core import InputSpec

WIDEST = 1024  # pixels of a picture's longer side


@dataclass(frozen=True)
class Frame:
    """The part of a model's input that shows the image: without the border that ``pad`` adds.

    Attributes:
        edges: left, top, right, bottom, as shares of the input.
        width, height: of what that part shows, in the image's own pixels: of the whole image, or of what a crop leaves of it.
    """

    edges: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    width: float = 0.0
    height: float = 0.0

    @classmethod
    def of(cls, spec: InputSpec, size: tuple[int, int]) -> Frame:
        """Of an image with this (height, width)."""
        rows, columns = spec.output_size
        height, width = size
        starts, ends, lengths = [], [], []
        axes = spec.native_axes(width, height, (rows, columns))
        for cells, length, (scale, offset) in zip((columns, rows), (width, height), axes, strict=True):
            start, end = max(0.0, -offset / scale), min(float(cells), (length - offset) / scale)
            starts.append(start / cells)
            ends.append(end / cells)
            lengths.append((end - start) * scale)
        return cls((starts[0], starts[1], ends[0], ends[1]), lengths[0], lengths[1])

    def cut(self, picture: NDArray[Any]) -> NDArray[Any]:
        """(C, H, W) of the input, or of its map or mask -> the part that shows the image, a view."""
        rows, columns = picture.shape[-2:]
        left, right = (round(edge * columns) for edge in self.edges[::2])
        top, bottom = (round(edge * rows) for edge in self.edges[1::2])
        return picture[:, top : max(bottom, top + 1), left : max(right, left + 1)]

    def size(self, rows: int, columns: int) -> tuple[int, int]:
        """(width, height) at which that part of so many rows and columns is drawn: neither has fewer, up to 1024."""
        if not (self.width and self.height):
            return columns, rows
        scale = max(columns / self.width, rows / self.height)
        scale = min(scale, WIDEST / max(self.width, self.height))
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))

    def placed(self, box: tuple[float, ...], cells: tuple[int, ...], width: int, height: int) -> tuple[float, ...]:
        """A box (left, top, right, bottom) in cells of the map (rows, columns) -> in pixels of the drawn picture."""
        left, top, right, bottom = self.edges
        across = [(edge / cells[1] - left) / (right - left) * width for edge in box[::2]]
        down = [(edge / cells[0] - top) / (bottom - top) * height for edge in box[1::2]]
        x, y = ([min(max(edge, 0), limit) for edge in axis] for axis, limit in ((across, width), (down, height)))
        return x[0], y[0], x[1], y[1]
