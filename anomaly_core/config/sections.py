"""The config sections that components extend: stdlib dataclasses with ranges and meanings in annotations. Torch-free.

A component's options are fields ``name: Annotated[type, Field(gt=0, description="meaning")] = default`` (pydantic's ``Field``);
values are coerced and validated by annotation, and ``anomaly show`` prints the options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ByteSize, Field

from anomaly_core.config.needs import Needs

Side = Annotated[int, Field(ge=8, le=65536)]
Size = Side | tuple[Side, Side]
Number = Annotated[float, Field(allow_inf_nan=False)]
DEVICES = r"(auto|cpu|mps|cuda(:\d+)?)"
ONE_GIB = ByteSize(1024**3)


def _as_text(value: Any) -> Any:
    """Lists, as Python and YAML write them, as on the command line: ``[[1, 2, 3, 4], "a.png"]`` is ``1,2,3,4;a.png``."""
    if isinstance(value, list | tuple):
        parts = [str(_as_text(item)) for item in value]
        return ("," if all(re.fullmatch(r"-?[\d.]+", part) for part in parts) else ";").join(parts)
    return str(value) if isinstance(value, PurePath) else value


Areas = Annotated[str, BeforeValidator(_as_text)]


@dataclass(kw_only=True)
class BaseConfig:
    """Section ``base``: options of the run itself, not of a component."""

    output: Annotated[str, Field(description="folder under which runs are written")] = "experiments"
    preset: Annotated[str | None, Field(description="the model's preset that lies beneath the other options")] = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="governs everything that is random"), Needs(fitting=True)] = 0
    device: Annotated[str, Field(pattern=f"^{DEVICES}$", description="auto, cpu, cuda, cuda:N or mps")] = "auto"
    false_alarm_rate: Annotated[
        float,
        Field(gt=0, lt=1, description="share of normal images that may exceed the threshold"),
        Needs("data.holdout!=0 or base.calibration=cross"),
    ] = 0.01
    calibration: Annotated[
        Literal["auto", "cross", "holdout"],
        Field(
            description="how normal images set the threshold: cross scores each by a detector that did not see it, and the "
            "run's own is fitted on all; holdout keeps a share out; auto: cross for methods with a memory, without data.holdout"
        ),
        Needs(fitting=True),
    ] = "auto"
    folds: Annotated[
        int,
        Field(ge=2, le=1000, description="detectors that cross-fitting fits, for methods that cannot leave an image out"),
        Needs("base.calibration!=holdout and data.holdout=null or base.calibration=cross", fitting=True),
    ] = 5
    metrics: Annotated[list[str] | None, Field(description="names of the metrics; none means the defaults")] = None
    pictures: Annotated[
        int | Literal["all"],
        Field(description="how many test images are saved as pictures: wrong verdicts first, then near, high and low scores"),
    ] = 24


@dataclass(kw_only=True)
class DataConfig:
    """Section ``data``: the options of every data set. A data set's own config extends it."""

    name: Annotated[str, Field(description="the data set, as `anomaly list-plugins` names it")] = ""
    root: Annotated[str | None, Field(description="its folder; else $ANOMALY_DATA/<name>, else data/<name>")] = None
    category: Annotated[list[str] | None, Field(description="one or more categories; none means all of them")] = None
    unified: Annotated[bool, Field(description="one model on all categories instead of one each"), Needs(fitting=True)] = False
    holdout: Annotated[
        float | None,
        Field(
            ge=0,
            lt=1,
            description="share of the normal training images kept for threshold and validation; none: a tenth, or with "
            "base.calibration=cross none",
        ),
        Needs(fitting=True),
    ] = None
    exclude: Annotated[
        str | None, Field(description="a text file of images, a path a line, that are neither learnt nor tested")
    ] = None
    drop_suspects: Annotated[
        bool,
        Field(description="fit again without the normal images whose scores stand out (`anomaly suspects`)"),
        Needs(fitting=True),
    ] = False
    abnormal_train: Annotated[
        Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)] | None,
        Field(
            description="known defects to learn from: how many images labelled anomalous, or what share of them, train instead "
            "of testing; base.seed draws them"
        ),
        Needs(fitting=True),
    ] = None
    evaluate_at: Annotated[
        Literal["input", "native"],
        Field(
            description="resolution of the pixel metrics: maps and masks at the model's input size, or at each image's own, "
            "where a crop leaves the cropped region"
        ),
    ] = "input"
    batch_size: Annotated[int, Field(ge=1, description="images a batch")] = 32
    image_cache: Annotated[
        ByteSize,
        Field(ge=0, description="bytes of decoded images that a run keeps, so as to decode each file once; 0: none"),
        Needs(fitting=True),
    ] = ONE_GIB
    num_workers: Annotated[
        int | None, Field(ge=0, description="processes that decode; none chooses by the machine, 0 is the main process")
    ] = None
    tile: Annotated[
        Size | None,
        Field(description="pixels of the tiles that large images are cut into: one number, or height,width; none: no tiles"),
    ] = None
    tile_overlap: Annotated[
        int | None,
        Field(ge=0, description="pixels that neighbouring tiles share, at most half a tile; none: an eighth of it"),
        Needs("data.tile"),
    ] = None
    roi: Annotated[
        Areas | None,
        Field(
            description="the region of interest, all that is learnt and scored: left,top,right,bottom in pixels, a polygon "
            "x1,y1,x2,y2,x3,y3,... or a mask image; none: the whole image"
        ),
    ] = None
    ignore: Annotated[
        Areas | None,
        Field(description="regions that are neither learnt nor scored, in the same forms, separated by semicolons"),
    ] = None
    augment: Annotated[
        list[Annotated[str, Field(pattern=r"^(brightness|rotate|shift)(:\d*\.?\d+)?$")]] | None,
        Field(
            description="how copies of training images that enter a memory too differ: brightness:0.2,rotate:5,shift:0.02, "
            "or some of these (up to 1.2 times brighter or darker, degrees, share of a side)"
        ),
        Needs(fitting=True),
    ] = None
    augment_copies: Annotated[
        int,
        Field(ge=1, le=100, description="copies of each training image with data.augment"),
        Needs("data.augment", fitting=True),
    ] = 1
    least_area: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="pixels of an image that a region must have to be listed")
    ] = 0.0
    mm_per_px: Annotated[
        float | None,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="millimetres that a pixel of the images spans, for areas in square millimetres",
        ),
    ] = None
    prompt: Annotated[
        str,
        Field(description="what the images show, in words, for methods that read text; empty: the category's name"),
        Needs(fitting=True),
    ] = ""
    bit_depth: Annotated[
        int | None,
        Field(
            ge=1,
            le=16,
            description="bits in use, such as 12, in images of more than 8; none: found in the training images",
        ),
    ] = None
    range: Annotated[
        tuple[Number, Number] | None,
        Field(description="low,high: values that are black and white in images of more than 8 bits; none: found likewise"),
    ] = None
    page: Annotated[int, Field(ge=1, description="page of a file of several that is read")] = 1
    largest_image: Annotated[int, Field(ge=1, description="pixels that one image may have; more are refused")] = 200_000_000
    on_bad_image: Annotated[
        Literal["error", "skip"],
        Field(description="an image that cannot be read: stop before training, or leave it out and list it in manifest.json"),
    ] = "error"

    @classmethod
    def of_new_images(cls, options: Mapping[str, Any], fitted: Mapping[str, Any]) -> dict[str, Any]:
        """What an evaluation changes in a finished run's section, ``fitted``, before it sets ``options``. A data set whose
        options name images forgets the run's where they name others, and judges all of them."""
        return {}


@dataclass(kw_only=True)
class ModelConfig:
    """Section ``model``: the input geometry that every method supports. A method's own config extends it."""

    name: Annotated[str, Field(description="the method, as `anomaly list-plugins` names it")] = ""
    image_size: Annotated[Size, Field(description="pixels after resizing: one number, or height,width")] = 256
    resize: Annotated[
        Literal["stretch", "keep", "pad"],
        Field(description="stretch to the size; keep the aspect and cover it; keep the aspect and pad it with grey"),
    ] = "stretch"
    center_crop: Annotated[Size | None, Field(description="pixels cut from the centre after resizing; none keeps all")] = None


@dataclass(kw_only=True)
class TrainConfig:
    """Section ``train``: the options of every trainer. A trainer's own config extends it."""

    name: Annotated[str, Field(description="the trainer; empty means the one that the method names")] = ""
