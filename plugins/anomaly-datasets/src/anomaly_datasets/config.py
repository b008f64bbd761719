"""The data sets' options. Torch-free."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from anomaly_core import DataConfig, Needs

Folders = str | list[str] | None  # an alias, as FolderConfig has an option called list


def _as_number(value: Any) -> Any:
    """Text that is a number and no folder."""
    if isinstance(value, str) and re.fullmatch(r"\d+|0?\.\d+", value) and not os.path.lexists(value):
        return float(value) if "." in value else int(value)
    return value


@dataclass(kw_only=True)
class MVTecConfig(DataConfig):
    """MVTec AD needs no option of its own."""


@dataclass(kw_only=True)
class VisAConfig(DataConfig):
    """VisA needs no option of its own: the original tree and the MVTec-style one are told apart by what is there."""


@dataclass(kw_only=True)
class BTADConfig(DataConfig):
    """BTAD needs no option of its own."""


@dataclass(kw_only=True)
class ValidationConfig(DataConfig):
    """For data sets that come with normal images for validation."""

    validation: Annotated[
        bool,
        Field(
            description="hold out the images of validation/good, whatever data.holdout is, as the publisher does; "
            "false: a share data.holdout of the training images"
        ),
        Needs(fitting=True),
    ] = True
    holdout: Annotated[
        float | None,
        Field(ge=0, lt=1, description="share of the normal training images kept for threshold and validation"),
        Needs("data.validation=false", fitting=True),
    ] = None


@dataclass(kw_only=True)
class MVTecLOCOConfig(ValidationConfig):
    """Logical anomalies can be judged apart from structural ones."""

    kinds: Annotated[
        tuple[Literal["logical", "structural"], ...],
        Field(min_length=1, description="kinds of anomaly that are tested, beside the normal images"),
    ] = ("logical", "structural")


@dataclass(kw_only=True)
class MVTecAD2Config(ValidationConfig):
    """Which of the three test sets, and under which light."""

    part: Annotated[
        Literal["test_public", "test_private", "test_private_mixed"],
        Field(description="the test images; the private ones have no labels (`anomaly submit` is for them)"),
    ] = "test_public"
    lighting: Annotated[
        tuple[str, ...] | None,
        Field(min_length=1, description="light of the test images, as their names say it, such as regular,shift_1; none: all"),
    ] = None


@dataclass(kw_only=True)
class RealIADConfig(DataConfig):
    """Which views, which of the published splits, and which size of the images."""

    views: Annotated[
        tuple[Annotated[int, Field(ge=1, le=5)], ...] | None,
        Field(min_length=1, description="cameras that train and test: 1 from above, 2 to 5 from the sides; none: all"),
    ] = None
    protocol: Annotated[
        Literal["multi_view", "single_view", "fuiad_0.0", "fuiad_0.1", "fuiad_0.2", "fuiad_0.4"],
        Field(description="published split: all views, the view from above, or that share of anomalous training images"),
    ] = "multi_view"
    resolution: Annotated[
        int | None, Field(ge=1, description="side of the images in pixels, 256, 512 or 1024; none: the largest that is there")
    ] = None


@dataclass(kw_only=True)
class ELPVConfig(DataConfig):
    """ELPV publishes no split: normal cells are divided once, by a number of its own, so that seeds share one test set."""

    train_share: Annotated[float, Field(gt=0, lt=1, description="share of the normal cells that train; the rest test")] = 0.7
    split_seed: Annotated[int, Field(ge=0, description="divides the normal cells; apart from base.seed")] = 0
    ambiguous: Annotated[bool, Field(description="test on cells of probability 1/3 and 2/3 too, as anomalous")] = False


@dataclass(kw_only=True)
class MagneticTileConfig(DataConfig):
    """No split is published: good images are divided once, by a number of its own. Exposures can be chosen."""

    exposures: Annotated[
        list[int] | None, Field(description="exposures, 1 to 6, whose good images train; they test too; none: all of them")
    ] = None
    test_exposures: Annotated[
        list[int] | None, Field(description="exposures of the test images, if others than data.exposures: a shift in lighting")
    ] = None
    train_count: Annotated[
        int | None, Field(ge=1, description="good images that train; none: 650 of all 952, that share of the chosen exposures")
    ] = None
    by_tile: Annotated[
        bool, Field(description="draw whole tiles, so that no tile trains under one exposure and tests under another")
    ] = False
    split_seed: Annotated[int, Field(ge=0, description="draws the good images that train; apart from base.seed")] = 0


@dataclass(kw_only=True)
class DeepPCBConfig(DataConfig):
    """DeepPCB: the published lists of pairs divide it where they are there, else a draw by a number of its own."""

    split_seed: Annotated[
        int, Field(ge=0, description="draws the pairs that train where trainval.txt and test.txt are missing")
    ] = 0


@dataclass(kw_only=True)
class MPDDConfig(DataConfig):
    """MPDD needs no option of its own."""


@dataclass(kw_only=True)
class DAGMConfig(DataConfig):
    """DAGM 2007 needs no option of its own."""


@dataclass(kw_only=True)
class KSDD2Config(DataConfig):
    """Kolektor SDD2 needs no option of its own."""


@dataclass(kw_only=True)
class DTDConfig(DataConfig):
    """One of the ten published splits."""

    split: Annotated[int, Field(ge=1, le=10, description="number of the published split")] = 1


@dataclass(kw_only=True)
class FolderConfig(DataConfig):
    """``root`` with train and test, or ``normal`` and its siblings, or ``images``, or ``list``."""

    normal: Annotated[Folders, Field(description="folder or folders of normal images, or a zip; a share of them tests")] = None
    normal_test: Annotated[
        Folders,
        Field(description="folder or folders of normal images that test; else a share of data.normal"),
        Needs("data.list=null and data.images=null"),
    ] = None
    abnormal: Annotated[
        Folders,
        Field(description="folder or folders of abnormal images; a folder in it is a kind of defect"),
        Needs("data.list=null and data.images=null"),
    ] = None
    abnormal_train: Annotated[
        int | float | Folders,
        BeforeValidator(_as_number),
        Field(
            description="known defects to learn from: a folder or folders of abnormal images, which do not test; or how many "
            "of the abnormal images that test, or what share of them, train instead: base.seed draws them"
        ),
        Needs(fitting=True),
    ] = None  # type: ignore[assignment]  # wider than the core's: it takes folders too
    masks: Annotated[
        str | None,
        Field(
            description="the abnormal images' masks: a folder of images, LabelMe JSON or YOLO text files, or a COCO JSON file"
        ),
        Needs("data.list=null and data.images=null"),
    ] = None
    mask_format: Annotated[
        Literal["auto", "image", "labelme", "coco", "yolo"],
        Field(description="what data.masks holds; auto looks"),
        Needs("data.list=null and data.images=null and data.masks or data.normal=null"),
    ] = "auto"
    mask_pattern: Annotated[
        str | None,
        Field(
            pattern=r"\{stem\}",
            description="a mask's name where {stem} is its image's and * anything, such as {stem}_defects or {stem}/*; "
            "none: {stem}, {stem}_mask and other usual ones",
        ),
        Needs("data.list=null"),
    ] = None
    mask_threshold: Annotated[
        float | None,
        Field(
            gt=0,
            le=65535,
            description="least value of a defective pixel in a mask; below 1: share of the mask's largest; "
            "none: any but 0, and half of the largest in JPEG, blurred and anti-aliased masks",
        ),
        Needs("data.images=null"),
    ] = None
    images: Annotated[
        Folders, Field(description="folder or folders of images of which nothing is known; they train, a share of them tests")
    ] = None
    list: Annotated[
        str | None,
        Field(description="CSV or JSON file that lists images: path, and as known label, mask, split, category, group"),
    ] = None
    product: Annotated[str | None, Field(description="the name of what the images show; else their folder's name")] = None
    group: Annotated[
        str | None,
        Field(description="regular expression that finds an image's part, say, in its path; a part's images stay together"),
    ] = None
    normal_test_share: Annotated[
        float,
        Field(gt=0, le=1, description="share of the normal images that tests, where no folder or list says which; 1: all"),
        Needs("data.normal_test=null"),
    ] = 0.2
    split_seed: Annotated[
        int,
        Field(ge=0, description="draws that share; apart from base.seed"),
        Needs("data.normal_test=null and data.normal_test_share!=1"),
    ] = 0

    @classmethod
    def of_new_images(cls, options: Mapping[str, Any], fitted: Mapping[str, Any]) -> dict[str, Any]:
        places = ("root", "normal", "normal_test", "abnormal", "images", "list")
        if not any(name in options for name in places):
            return {}
        divided = [name for name in ("root", "normal", "images", "list") if options.get(name)]
        as_fitted = divided and all(_absolute(options[name]) == _absolute(fitted.get(name)) for name in divided)
        forgotten: dict[str, Any] = dict.fromkeys((*places, "masks", "abnormal_train"))
        if as_fitted:  # images that the run was fitted on are not judged: of these folders those that tested are
            taught = fitted.get("abnormal_train") if "abnormal" not in options else None
            return {**forgotten, "normal_test": fitted.get("normal_test"), "abnormal_train": taught}
        return {**forgotten, "normal_test_share": 1.0}


def _absolute(folders: Any) -> list[str]:
    """Paths to compare, as an option names them."""
    named = folders.split(",") if isinstance(folders, str) else folders or []
    return [os.path.realpath(Path(str(folder).strip()).expanduser()) for folder in named]


@dataclass(kw_only=True)
class SampleConfig(DataConfig):
    """How much is generated, and from which number."""

    sample_seed: Annotated[int, Field(ge=0, description="governs the generated images; apart from base.seed")] = 0
    size: Annotated[int, Field(ge=64, le=1024, description="side of an image in pixels")] = 256
    train_count: Annotated[int, Field(ge=2, le=10000, description="normal training images a category")] = 60
    good_count: Annotated[int, Field(ge=1, le=10000, description="normal test images a category")] = 20
    bad_count: Annotated[
        int, Field(ge=5, le=10000, description="defective test images a category, over its kinds of defect")
    ] = 40
