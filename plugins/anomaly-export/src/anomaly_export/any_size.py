"""The resizing in the graph: a detector that takes images of any size, for programs that have no Pillow."""

from __future__ import annotations

import PIL
import torch
from torch import Tensor, nn

from anomaly_core import ConfigError, ImageReader, InputSpec

FILL = 114  # the grey of the border that `pad` adds
LONGEST = 64  # `keep` enlarges an image to at most this many times the pixels of the size
PART = 1 << 11  # Pillow's filters are whole multiples of 1 / 2**22: two parts of 11 bits


class AnySize(nn.Module):
    """uint8 (B, H, W, 3) RGB images to uint8 (B, h, w, 3), resized and cropped as :meth:`anomaly_core.InputSpec.array` does.

    Pillow's antialiased bilinear filter (``src/libImaging/Resample.c``), in one matrix for each axis, one after the other, in
    whole numbers, so that the result is Pillow's to the last bit; borders and crops are rows of the matrices. From version 13
    on, Pillow resizes tall images down and then across: the graph does as the Pillow does that it was exported with. ONNX's own
    ``Resize`` with ``antialias`` differs by up to 19 of 255, and OpenVINO leaves antialiasing out.

    What depends on the size of the images is computed with tensors, which tracing keeps.

    Raises:
        ConfigError: the reader cuts out a region of interest.
    """

    def __init__(self, spec: InputSpec, reader: ImageReader) -> None:
        super().__init__()
        if reader.roi:
            raise ConfigError(
                "--any-size: the run looks at a region of interest (data.roi, data.ignore), and a graph cannot refuse images "
                "that it does not fit. Leave --any-size out, or fit with images that were cut before."
            )
        self.spec = spec

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.permute(0, 3, 1, 2).float()  # (B, 3, H, W)
        sides = torch._shape_as_tensor(pixels).double()
        height, width = sides[2:3], sides[3:4]  # not scalars, which the exporter makes float32 of
        (down, rows), (across, columns) = self._axes(height, width)
        placed = _resized(pixels, down, across, self._is_down_first(height, width))
        placed = placed.reshape(-1, 3, *self.spec.output_size)  # says what the sizes are from here on
        if self.spec.resize == "pad":
            placed = torch.where(rows[:, None] & columns, placed, torch.full_like(placed, FILL))
        return placed.to(torch.uint8).permute(0, 2, 3, 1)

    def _is_down_first(self, height: Tensor, width: Tensor) -> Tensor | None:
        """Whether Pillow resizes an image down before it does across, bool (1); None if it never does."""
        if int(PIL.__version__.partition(".")[0]) < 13:
            return None
        shown, fitted = self._fitted(height, width)
        less_high, less_wide = shown[0] - fitted[0], shown[1] - fitted[1]
        return (less_high > 0) & (less_wide != 0) & (less_high > 2 * less_wide)

    def _axes(self, height: Tensor, width: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For y, then x: the filter, float32 (2 h, H) as of :func:`_filter`, and which of its rows show the image, bool (h)."""
        spec, axes = self.spec, []
        shown, whole = self._fitted(height, width)
        for length, part, fitted, side, seen in zip((height, width), shown, whole, spec.size, spec.output_size, strict=True):
            beyond = (fitted - side) / 2  # of the size
            start = -(-beyond).floor() if spec.resize == "pad" else beyond.round()
            axes.append(_filter(length, part, fitted, start + round((side - seen) / 2), seen))
        return axes

    def _fitted(self, height: Tensor, width: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """(height, width) of what is resized of an image, and to what."""
        spec = self.spec
        if spec.resize == "stretch":
            return [height, width], [torch.tensor([float(side)], dtype=torch.float64) for side in spec.size]
        shown = _shown(height, width, spec.size) if spec.resize == "keep" else [height, width]
        choose = torch.maximum if spec.resize == "keep" else torch.minimum
        scale = choose(spec.size[0] / shown[0], spec.size[1] / shown[1])
        return shown, [(part * scale).round().clamp(min=1.0) for part in shown]


def _shown(height: Tensor, width: Tensor, size: tuple[int, int]) -> list[Tensor]:
    """(height, width) of the centre of an image that ``keep`` resizes: all of it, unless it is so long that most of what it
    would be enlarged to were cut off."""
    long = 2 * max(size) / min(size)
    scale = torch.maximum(size[0] / height, size[1] / width)
    fitted = (height * scale).round().clamp(min=1.0) * (width * scale).round().clamp(min=1.0)
    is_long = fitted > LONGEST * size[0] * size[1]
    return [
        torch.where(is_long, torch.minimum(height, (width * long).round()), height),
        torch.where(is_long, torch.minimum(width, (height * long).round()), width),
    ]


def _filter(length: Tensor, part: Tensor, fitted: Tensor, start: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Rows ``start`` to ``start + count`` of the filter that resizes the centre of an axis, ``part`` of ``length`` pixels, to
    ``fitted``, in multiples of 1 / 2**22: the upper 11 bits, then the lower 11, float32 (2 count, length), so that sums of
    products with pixels stay whole in float32; and which of the rows there are, bool (count)."""
    length, part, fitted, start = (number.long() for number in (length, part, fitted, start))
    targets = torch.arange(count) + start  # of the part after resizing
    places = torch.arange(length[0])  # type: ignore[call-overload]  # tracing keeps a tensor, and no number
    places = places - ((length - part).double() / 2).round().long()  # of the part
    # in units of 1 / (2 fitted) pixels, so that all is whole
    distance = ((2 * places + 1) * fitted - ((2 * targets + 1) * part)[:, None]).abs()
    triangle = (2 * torch.maximum(part, fitted) - distance).clamp(min=0)
    there, inside = (targets >= 0) & (targets < fitted), (places >= 0) & (places < part)
    triangle = triangle * (there[:, None] & inside).long()
    whole = triangle.sum(1, keepdim=True).clamp(min=1)
    upper = torch.div(triangle * PART, whole, rounding_mode="trunc")
    rest = triangle * PART - upper * whole
    lower = torch.div(rest * PART + torch.div(whole, 2, rounding_mode="trunc"), whole, rounding_mode="trunc")
    return torch.cat([upper, lower]).float(), there


def _resized(pixels: Tensor, down: Tensor, across: Tensor, down_first: Tensor | None) -> Tensor:
    """float32 (B, 3, H, W) to (B, 3, h, w). Which pass is first may depend on the size; the other order is then computed of one
    pixel. A branch in the graph would be plainer, but OpenVINO 2026.4 computes its first image wrongly."""
    if down_first is None:
        return _across_then_down(pixels, down, across)
    sides = torch._shape_as_tensor(pixels)
    rows, columns = (torch.where(down_first, sides[axis : axis + 1], 1)[0] for axis in (2, 3))
    small = _whole(*(down[:, :rows] @ pixels[:, :, :rows, :columns]).chunk(2, 2))
    one = _whole(*(small @ across[:, :columns].t()).chunk(2, 3))
    rows, columns = (torch.where(down_first, 1, sides[axis : axis + 1])[0] for axis in (2, 3))
    other = _across_then_down(pixels[:, :, :rows, :columns], down[:, :rows], across[:, :columns])
    return torch.where(down_first, one, other)


def _across_then_down(pixels: Tensor, down: Tensor, across: Tensor) -> Tensor:
    wide = _whole(*(pixels @ across.t()).chunk(2, 3))
    return _whole(*(down @ wide).chunk(2, 2))


def _whole(upper: Tensor, lower: Tensor) -> Tensor:
    """The sums of products, rounded as Pillow does."""
    return ((upper + (lower / PART).floor() + PART / 2) / PART).floor().clamp(0.0, 255.0)
