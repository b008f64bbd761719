"""Three of ten changes of colour or geometry to each image of a batch, by values of its own.

The ten are those of DRAEM's code, which takes them from imgaug; ranges are imgaug's where the code names none. Brightness is
changed in RGB alone, where imgaug draws a colour space.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly_draem.geometry import rotate


def augment(images: Tensor, changes: int = 3) -> Tensor:
    """Different changes for each image, in a random order.

    Args:
        images: float32 (B, 3, H, W) in [0, 1].
        changes: how many of the ten.

    Returns:
        float32 (B, 3, H, W) in [0, 1].
    """
    chosen = torch.rand(len(images), len(AUGMENTERS)).argsort(dim=1)[:, :changes]  # (B, changes), none twice
    images = images.clone()
    for turn in range(changes):
        for number, change in enumerate(AUGMENTERS):
            these = (chosen[:, turn] == number).nonzero()[:, 0]
            if len(these):
                where = these.to(images.device)
                images[where] = change(images[where]).clamp(0, 1)
    return images


def uniform(low: float, high: float, *shape: int) -> Tensor:
    """float32 between two numbers, on the CPU, from torch's global generator."""
    return low + (high - low) * torch.rand(*shape)


def _value(images: Tensor, low: float, high: float, channels: int = 1) -> Tensor:
    return uniform(low, high, len(images), channels, 1, 1).to(images.device)


def gamma(images: Tensor) -> Tensor:
    """Each channel to a power between a half and two."""
    return images ** _value(images, 0.5, 2.0, channels=3)


def brightness(images: Tensor) -> Tensor:
    """Multiplied by 0.8 to 1.2, and up to 30 of 255 levels added or taken away."""
    return images * _value(images, 0.8, 1.2) + _value(images, -30 / 255, 30 / 255)


def sharpness(images: Tensor) -> Tensor:
    """Between smoothed (0) and sharpened (2), as Pillow's ImageEnhance.Sharpness, whose borders stay."""
    kernel = torch.full((3, 1, 3, 3), 1 / 13, device=images.device)
    kernel[:, :, 1, 1] = 5 / 13
    smooth = images.clone()
    smooth[..., 1:-1, 1:-1] = F.conv2d(images, kernel, groups=3)
    return torch.lerp(smooth, images, _value(images, 0.0, 2.0).expand_as(images))


def hue_and_saturation(images: Tensor) -> Tensor:
    """The hue turned by up to 50/255 of a circle either way, the saturation raised or lowered by up to 50/255."""
    hue, saturation, value = to_hsv(images).unbind(dim=1)
    turn, more = (_value(images, -50 / 255, 50 / 255)[:, 0] for _ in range(2))
    return to_rgb(torch.stack([(hue + turn) % 1, (saturation + more).clamp(0, 1), value], dim=1))


def solarize(images: Tensor) -> Tensor:
    """With probability a half, what is brighter than a level of 32 to 128 is inverted."""
    inverted = torch.where(images >= _value(images, 32 / 255, 128 / 255), 1 - images, images)
    return torch.where(_value(images, 0, 1) < 0.5, inverted, images)


def posterize(images: Tensor) -> Tensor:
    """Only the highest 1 to 8 of a level's 8 bits are kept."""
    step = 2 ** torch.randint(8, (len(images), 1, 1, 1)).to(images.device)
    return _levels(images) // step * step / 255


def invert(images: Tensor) -> Tensor:
    """The negative."""
    return 1 - images


def autocontrast(images: Tensor) -> Tensor:
    """Stretched so that up to 20 % of the levels at either end, the same share at both, become black and white."""
    counts = _histogram(images).sum(dim=1)  # (B, 3, 256) -> (B, 256)
    share = (counts.cumsum(dim=1) / counts.sum(dim=1, keepdim=True)).contiguous()
    cut = _value(images, 0.0, 0.2)[:, 0, 0]  # (B, 1)
    low = torch.searchsorted(share, cut, right=True)[..., None, None] / 255
    high = torch.searchsorted(share, 1 - cut)[..., None, None] / 255
    return torch.where(high > low, (images - low) / (high - low).clamp(min=1 / 255), images)


def equalize(images: Tensor) -> Tensor:
    """Levels spread evenly, channel by channel, as Pillow's ImageOps.equalize."""
    levels, counts = _levels(images), _histogram(images)
    last = counts.gather(2, levels.flatten(2).amax(dim=2, keepdim=True))
    step = (counts.sum(dim=2, keepdim=True) - last) // 255
    table = ((counts.cumsum(dim=2) - counts + step // 2) // step.clamp(min=1)).clamp(max=255)
    spread = table.gather(2, levels.flatten(2)).view_as(images) / 255
    return torch.where(step[..., None] > 0, spread, images)


def turn(images: Tensor) -> Tensor:
    """Turned by up to 45 degrees either way."""
    return rotate(images, uniform(-45, 45, len(images)))


AUGMENTERS = (
    gamma,
    brightness,
    sharpness,
    hue_and_saturation,
    solarize,
    posterize,
    invert,
    autocontrast,
    equalize,
    turn,
)


def to_hsv(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB -> hue, saturation and value, all in [0, 1]."""
    value, brightest = images.max(dim=1)
    spread = value - images.amin(dim=1)
    red, green, blue = images.unbind(dim=1)
    sixths = torch.stack([green - blue, blue - red, red - green], dim=1) / spread.clamp(min=1e-8)[:, None]
    sixths = sixths + torch.tensor([0.0, 2.0, 4.0], device=images.device).view(1, 3, 1, 1)
    hue = sixths.gather(1, brightest[:, None])[:, 0] / 6 % 1
    return torch.stack([hue, spread / value.clamp(min=1e-8), value], dim=1)


def to_rgb(images: Tensor) -> Tensor:
    """The way back from :func:`to_hsv`."""
    hue, saturation, value = (part[:, None] for part in images.unbind(dim=1))
    offsets = torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1)
    ramp = (offsets + hue * 6) % 6  # trapezoids of the three channels around the circle
    return value * (1 - saturation * torch.minimum(ramp, 4 - ramp).clamp(0, 1))


def _levels(images: Tensor) -> Tensor:
    """float in [0, 1] -> int64 from 0 to 255."""
    return (images * 255).round().long()


def _histogram(images: Tensor) -> Tensor:
    """int64 (B, 3, 256): how many pixels of each channel have each level."""
    levels = _levels(images).flatten(2)
    counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.long, device=images.device)
    return counts.scatter_add_(2, levels, torch.ones_like(levels))
