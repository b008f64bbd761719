"""Arrays and tensors as images: which shapes, dtypes and values are taken, and what is said of any other."""

from __future__ import annotations

from math import nan
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from anomaly_core import DataError

CHANNELS = (1, 3, 4)  # grey, RGB, and RGBA, whose alpha is dropped as it is from a file
NARROWEST = 8  # pixels: a last axis below it is no side of an image
HALF_A_LEVEL = 0.5 / 255  # what rounds to 0 or 255 counts as 0 or 1
ARRAYS = "an array image must be uint8 of (H, W, 3) RGB, or of (H, W, 4), (H, W, 1) or (H, W), with B in front for several"
TENSORS = "a tensor image must be uint8 or float in [0, 1], of (3, H, W) RGB, (4, H, W), (1, H, W), with B in front for several"


def is_tensor(image: Any) -> bool:
    """Whether something is a torch tensor, of any subclass; imports no torch."""
    return any(f"{base.__module__}.{base.__qualname__}" == "torch.Tensor" for base in type(image).__mro__)


def holds_several(images: Any) -> bool:
    """Whether an array or a tensor holds several images, not one; DataError names what came, if it is neither.

    The values of a float tensor are examined all at once, so that a normalised batch is refused whole.
    """
    shape = tuple(images.shape)
    several = _layout(images, shape)
    if 0 in shape[several:]:
        _refuse(images, "It is empty.")
    if is_tensor(images) and images.is_floating_point():
        if images.numel():
            low, high = _range(images) or (nan, nan)
            if not (low >= -HALF_A_LEVEL and high <= 1 + HALF_A_LEVEL):
                _refuse(images, _rescaled(low, high, "(image / 255)", "image / 65535"))
    elif str(images.dtype).removeprefix("torch.") != "uint8":
        _refuse(images, _cast(images))
    return several


def pixels(image: Any, bgr: bool = False) -> NDArray[np.uint8]:
    """One image as uint8 (H, W) or (H, W, 3) RGB; alpha is dropped. DataError names what came, if it is no image."""
    if holds_several(image):
        _refuse(image, "It holds several images: give them by themselves, not within a list.")
    if is_tensor(image):
        image = image.detach()
        image = (image.float().clamp(0, 1) * 255).round().byte() if image.is_floating_point() else image
        image = (image if image.ndim == 2 else image.permute(1, 2, 0)).cpu().numpy()
    if image.ndim == 2:
        return np.asarray(image)
    if image.shape[2] == 1:
        return np.asarray(image[..., 0])
    return np.ascontiguousarray(image[..., 2::-1] if bgr else image[..., :3])


def _layout(images: Any, shape: tuple[int, ...]) -> bool:
    """Whether there are several, by the shape alone."""
    count, tensor = len(shape), is_tensor(images)
    if count == 2:
        return False
    if count not in (3, 4):
        _refuse(images, f"It has {count} axes.")
    channels, other = (shape[-3], shape[-1]) if tensor else (shape[-1], shape[-3])
    if channels in CHANNELS:
        return count == 4
    if count == 3 and not tensor and shape[0] not in (3, 4) and shape[2] >= NARROWEST:
        return True  # grey ones
    step = f"It has {channels} channels: choose three of them, or one."
    if other in CHANNELS:
        order = ("2, 0, 1" if tensor else "1, 2, 0") if count == 3 else ("0, 3, 1, 2" if tensor else "0, 2, 3, 1")
        where, method = ("last", "permute") if tensor else ("first", "transpose")
        step = f"If its {where if count == 3 or tensor else 'second'} axis is the colours, give image.{method}({order})."
    if count == 3 and (tensor or shape[2] >= NARROWEST):
        step += f" If these are {shape[0]} grey images, give {'images[:, None]' if tensor else 'list(images)'}."
    _refuse(images, step)


def _cast(images: Any) -> str:
    """The next step for a dtype that is not taken."""
    if "bool" in str(images.dtype):
        return f"Give {'image.byte()' if is_tensor(images) else 'image.astype(np.uint8)'} * 255."
    extent = _range(images)
    if extent is None:
        return "Give its values as uint8."
    whole = "image.byte()" if is_tensor(images) else "image.round().astype(np.uint8)"
    return _rescaled(*extent, whole, "(image / 257)" + whole.removeprefix("image"))


def _rescaled(low: float, high: float, within_255: str, within_65535: str) -> str:
    """The next step by the extremes of the values."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "It holds NaN or infinity: find out where they come from."
    if low < 0:
        return "It looks normalised: give the image before normalisation."
    if high <= 1 + HALF_A_LEVEL:
        return "Give (image * 255).round().astype(np.uint8)."
    if high <= 255:
        return f"If they are 8-bit values, give {within_255}."
    return f"If they are 16-bit values, give {within_65535}."


def _range(images: Any) -> tuple[float, float] | None:
    """The least and the greatest value, NaN if one is; None where there is none, or no order, as of text."""
    try:
        low, high = images.min().item(), images.max().item()
    except (AttributeError, TypeError, ValueError, RuntimeError):  # objects, text, nothing at all
        return None
    return None if isinstance(low, complex) else (float(low), float(high))


def _refuse(images: Any, step: str) -> NoReturn:
    extent = _range(images)
    values = "" if extent is None else f", values {extent[0]:.5g} to {extent[1]:.5g}"
    accepted = TENSORS if is_tensor(images) else ARRAYS
    raise DataError(f"{accepted}; this is {tuple(images.shape)} of {images.dtype}{values}. {step}")
