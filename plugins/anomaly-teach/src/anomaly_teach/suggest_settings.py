"""The settings that ``anomaly suggest`` tries: methods that need no training, input sizes, and tiles of large images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anomaly_core import ConfigError, MemoryModeler, PluginError, RunConfig, pair, preset_names, registry

FIRST = ("patchcore", "padim")  # tried in all sizes before any other method
SIZES = (320, 448)  # of the longer side, beside the preset's own size
LARGEST_GAIN = 1.5  # a small image is not enlarged more than so many times
TILED_SIZE = 448
TILES = (1.875, 2.75)  # the longer side / a tile's: two and three tiles in a row, which overlap by an eighth
CHOSEN = {
    "model.image_size": "which sizes it tries",
    "data.tile": "which tiles it tries",
    "data.holdout": "it cross-fits",
    "base.calibration": "it cross-fits",
    "base.folds": "it cross-fits",
    "base.output": "its runs are not kept; --output names the folder of the table",
    "base.metrics": "what it judges by",
    "base.pictures": "it draws none",
    "base.seed": "--seed sets it",
    "data.unified": "it looks at one category",
}


@dataclass(frozen=True)
class Setting:
    """A method, and what it makes of an image.

    Attributes:
        model: the method's name.
        label: for the table, such as ``448x336``, width first.
        options: what the setting changes in the preset, as ``--set`` takes it.
        pixels: of all inputs that an image becomes, by which the cost is estimated before anything is fitted.
    """

    model: str
    label: str
    options: Mapping[str, str]
    pixels: int

    @property
    def name(self) -> str:
        return f"{self.model} {self.label}"


def refuse_chosen(overrides: Mapping[str, Any]) -> None:
    """Raise ConfigError for an option that the command itself decides, and would ignore."""
    for key in overrides:
        if key in CHOSEN:
            raise ConfigError(f"`anomaly suggest` decides {key} itself ({CHOSEN[key]}). Leave it out.")


def quick_models(preset: str) -> list[str]:
    """The installed methods that leave an image out of their memory without fitting again, and have the preset; the quickest
    first."""
    names = []
    for component in registry.models.values():
        try:
            method = component.load()
            quick = issubclass(method, MemoryModeler) and method.predict_without is not MemoryModeler.predict_without
            if quick and preset in preset_names(component):
                names.append(component.name)
        except PluginError:  # a method that is broken is not quick; `anomaly doctor` tells why
            continue
    if not names:
        raise ConfigError(
            f"no installed method has the preset {preset!r} and is quick enough to be tried. "
            "Install anomaly-patchcore, or name methods with --model."
        )
    return sorted(names, key=lambda name: name not in FIRST)


def settings(configs: Sequence[RunConfig], sizes: Sequence[tuple[int, int]]) -> list[Setting]:
    """What to try, the cheapest first; after all of PatchCore and PaDiM the others, if there is time.

    Args:
        configs: one a method, with the preset's own size.
        sizes: (height, width) of the images.
    """
    tried = [setting for config in configs for setting in _of_model(config, sizes)]
    order = {config.model.name: number for number, config in enumerate(configs)}
    return sorted(tried, key=lambda setting: (setting.model not in FIRST, setting.pixels, order[setting.model]))


def _of_model(config: RunConfig, sizes: Sequence[tuple[int, int]]) -> list[Setting]:
    height, width = max(sizes, key=max)
    model, longer = config.model.name, max(height, width)
    own = pair(config.model.image_size)
    seen = own if config.model.center_crop is None else pair(config.model.center_crop)
    uncropped = {} if config.model.center_crop is None else {"model.center_crop": "null"}
    found = [Setting(model, _label(own), {}, math.prod(seen))]
    for side in SIZES:
        if side > max(own) and side <= LARGEST_GAIN * longer:
            shape = _shape(side, sizes)
            found.append(Setting(model, _label(shape), {"model.image_size": _option(shape), **uncropped}, math.prod(shape)))
    for parts in TILES:
        tile = math.ceil(longer / parts)
        if tile >= TILED_SIZE:  # a smaller one would be enlarged
            count = math.prod(math.ceil((side - tile / 8) / (tile * 7 / 8)) if side > tile else 1 for side in (height, width))
            options = {"data.tile": str(tile), "model.image_size": str(TILED_SIZE), **uncropped}
            found.append(Setting(model, f"{TILED_SIZE}, tiles of {tile} px", options, count * TILED_SIZE**2))
    return found


def _shape(side: int, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The images' own shape with a longer side of about ``side``, in steps of 16; a square where their shapes differ."""
    shapes = {(max(1, round(side * h / max(h, w) / 16)) * 16, max(1, round(side * w / max(h, w) / 16)) * 16) for h, w in sizes}
    return shapes.pop() if len(shapes) == 1 else (side, side)


def _label(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _option(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]},{size[1]}"
