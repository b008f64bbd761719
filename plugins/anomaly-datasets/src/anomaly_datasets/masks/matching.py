"""Gives images their masks, whatever these are, and says what is unclear."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anomaly_core import ANOMALOUS, DataError, MaskSource, Sample, fault, is_clutter, parse_json, read_untrusted
from anomaly_datasets.config import FolderConfig
from anomaly_datasets.files import image_files
from anomaly_datasets.kinds import folders_below
from anomaly_datasets.masks.coco import Coco
from anomaly_datasets.masks.labelme import LabelMeMask
from anomaly_datasets.masks.names import PLAIN, Matches, beside, matched, meanings
from anomaly_datasets.masks.sources import FileMask, UnitedMask
from anomaly_datasets.masks.yolo import YoloMask
from anomaly_datasets.words import is_normal

LISTS = ("classes.txt", "labels.txt", "notes.txt", "readme.txt", "train.txt", "val.txt", "test.txt")  # beside YOLO's files
SUFFIXES = {".json": "labelme", ".txt": "yolo"}


Mask = Path | tuple[Path, ...] | MaskSource


def with_masks(samples: Sequence[Sample], place: Path | None, options: FolderConfig, *, named: bool = True) -> list[Sample]:
    """The samples without the files that are masks of others; anomalous ones have their masks, if there are any.

    Args:
        place: a folder of masks or annotations, or one COCO or LabelMe file; None: only those beside their images.
        named: whether the user named it, so that it is an error if nothing in it fits.

    Raises:
        DataError: there is nothing in the place, nothing that fits, or an annotation file that is none.
    """
    paths = [sample.path for sample in samples]
    near = set(beside(paths, options.mask_pattern))
    images = [sample.path for sample in samples if sample.path not in near]
    bad = [s.path for s in samples if s.label == ANOMALOUS and s.mask_path is None and s.path not in near]
    masks: dict[Path, Mask] = {}
    if place is not None and bad:
        masks = _placed(bad, place, set(images), options, named)
    elif near:
        for folder in dict.fromkeys(file.parent for file in near):
            own = [image for image in bad if image.parent == folder]
            found = matched(
                own, [file for file in paths if file in near and file.parent == folder], folder, options.mask_pattern
            )
            masks |= _told(found, folder, "image", options)
    if near:
        warnings.warn(
            f"{len(near)} files that lie among the images are masks by their names, such as {str(min(near))!r}, and no images.",
            stacklevel=2,
        )
    if place is None and not near:
        _tell_annotations(bad)
    return [replace(s, mask_path=masks.get(s.path, s.mask_path)) for s in samples if s.path not in near]


def _tell_annotations(bad: Sequence[Path]) -> None:
    noted = [image for image in bad if image.with_suffix(".json").is_file()]
    if noted:
        warnings.warn(
            f"beside {len(noted)} anomalous images lie JSON files, such as {str(noted[0].with_suffix('.json'))!r}, which are "
            f"not used. If they are LabelMe's, add --set data.masks={noted[0].parent}",
            stacklevel=3,
        )


def with_source(sample: Sample, options: FolderConfig) -> Sample:
    """A sample whose mask is named by file, at the threshold of the options, or drawn from annotations."""
    if not sample.mask_files:
        return sample
    kinds = {file: SUFFIXES.get(file.suffix.lower(), "image") for file in sample.mask_files}
    if options.mask_threshold is None and set(kinds.values()) == {"image"}:
        return sample
    return replace(sample, mask_path=_united([_source(file, sample.path, kind, options) for file, kind in kinds.items()]))


def _source(file: Path, image: Path, kind: str, options: FolderConfig) -> Path | MaskSource:
    if kind == "labelme":
        return LabelMeMask(file, image)
    if kind == "yolo":
        return YoloMask(file, image)
    return file if options.mask_threshold is None else FileMask(file, options.mask_threshold)


def _united(parts: Sequence[Path | MaskSource]) -> Mask:
    """One mask from those of an image."""
    files = tuple(part for part in parts if isinstance(part, Path))
    if len(parts) == 1:
        return parts[0]
    first = parts[0] if isinstance(parts[0], Path) else parts[0].path
    return files if len(files) == len(parts) else UnitedMask(first, tuple(parts))


def _placed(bad: Sequence[Path], place: Path, images: set[Path], options: FolderConfig, named: bool) -> dict[Path, Mask]:
    """Image -> mask from a folder or a file of annotations."""
    kind, files = _files(place, bad, images, options.mask_format)
    if kind == "coco":
        return _from_coco(bad, files)
    root = place if place.is_dir() else place.parent
    found = matched(bad, files, root, options.mask_pattern)
    found.lonely = [file for file in found.lonely if not any(map(is_normal, file.parent.relative_to(root).parts))]  # black
    if named and not found.masks and not found.disputed:
        if not files:
            raise DataError(
                f"{str(place)!r} holds no mask: no image, JSON or YOLO text file. Check data.masks and data.mask_format."
            )
        raise DataError(
            f"none of the {len(files)} masks in {str(place)!r} fits one of the {len(bad)} anomalous images by its name: "
            f"{files[0].name!r} and {bad[0].name!r}, for example. Say how a mask is called, such as "
            "--set 'data.mask_pattern={stem}_defects'."
        )
    return _told(found, place, kind, options)


def _files(place: Path, bad: Sequence[Path], images: set[Path], wanted: str) -> tuple[str, list[Path]]:
    """The kind of masks in a place, and their files.

    Where there are several kinds, that of a COCO file, else that of which most fit the images by name: pictures beside
    annotations are mostly copies of the images.
    """
    if not place.exists():
        raise DataError(f"there are no masks at {str(place)!r}. Check data.masks.")
    known = {image.absolute() for image in images}
    by_kind: dict[str, list[Path]] = {"labelme": [], "yolo": [], "image": []}
    try:
        below = [place] if place.is_file() else [file for folder in folders_below(place) for file in _in(folder)]
    except OSError as error:
        raise DataError(f"cannot look for masks in {str(place)!r}: {error}. Check the rights of its folders.") from error
    for file in below:
        if kind := SUFFIXES.get(file.suffix.lower(), "image" if file.absolute() not in known else ""):
            by_kind[kind].append(file)
    if wanted != "auto":
        return wanted, by_kind["labelme" if wanted == "coco" else wanted]
    stems = {image.stem.casefold() for image in bad}
    fitting = {kind: [file for file in files if _fits(file, stems)] for kind, files in by_kind.items()}
    strangers = [file for file in by_kind["labelme"] if file not in fitting["labelme"]]
    if strangers and "annotations" in _json(strangers[0], must=len(by_kind["labelme"]) == 1 and not by_kind["image"]):
        return "coco", strangers
    kinds = sorted((kind for kind in by_kind if by_kind[kind]), key=lambda kind: -len(fitting[kind]))  # stable
    if len(kinds) > 1 and fitting[kinds[1]]:
        counts = " and ".join(f"{len(by_kind[kind])} of the kind {kind}" for kind in kinds)
        warnings.warn(
            f"{str(place)!r} holds masks of several kinds, {counts}: those of the kind {kinds[0]} are used. Choose with "
            "data.mask_format.",
            stacklevel=2,
        )
    kind = kinds[0] if kinds else "image"
    return kind, by_kind[kind]


def _in(folder: Path) -> list[Path]:
    others = [item for item in sorted(folder.iterdir()) if item.suffix.lower() in SUFFIXES and not is_clutter(item.name)]
    return [*image_files(folder), *(item for item in others if item.name.lower() not in LISTS)]


def _fits(file: Path, stems: set[str]) -> bool:
    return any(base.casefold() in stems for _, _, base in meanings(file.stem))


def _json(file: Path, *, must: bool) -> dict[str, Any]:
    """The object in a file, to see what it is; where it need not be one, what cannot be read is empty."""
    try:
        return parse_json(read_untrusted(file))
    except (OSError, ValueError) as error:
        if not must:
            return {}
        raise DataError(f"cannot read the annotations {str(file)!r}: {fault(error)}. Export them again.") from error


def _from_coco(bad: Sequence[Path], files: Sequence[Path]) -> dict[Path, Mask]:
    masks: dict[Path, list[MaskSource]] = defaultdict(list)
    for file in files:
        coco = Coco(file)
        found, absent = coco.masks(bad)
        for image, mask in found.items():
            masks[image].append(mask)
        if coco.unknown:
            warnings.warn(f"{coco.unknown} annotations in {str(file)!r} are of images that it does not list.", stacklevel=2)
        if absent:
            warnings.warn(
                f"{len(absent)} images annotated in {str(file)!r} are not among the anomalous ones, such as {absent[0]!r}.",
                stacklevel=2,
            )
    if not masks:
        raise DataError(
            f"none of the images annotated in {str(files[0])!r} is among the {len(bad)} anomalous ones, such as "
            f"{bad[0].name!r}. Check data.masks and data.abnormal."
        )
    return {image: _united(some) for image, some in masks.items()}


def _told(found: Matches, place: Path, kind: str, options: FolderConfig) -> dict[Path, Mask]:
    """Image -> mask, with warnings of what is unclear."""
    rules = Counter(rule for rule in found.rules.values() if rule not in PLAIN)
    examples = {rule: image for image, rule in reversed(found.rules.items())}
    for rule, count in rules.items():
        mask = found.masks[examples[rule]][0]
        warnings.warn(
            f"{count} image{'s have masks' if count > 1 else ' has its mask'} in {str(place)!r} by the rule {rule!r}: "
            f"{mask.relative_to(place if place.is_dir() else place.parent).as_posix()!r} for {examples[rule].name!r}, say.",
            stacklevel=2,
        )
    if several := sum(len(files) > 1 for files in found.masks.values()):
        warnings.warn(f"{several} images have several masks in {str(place)!r}, which are united.", stacklevel=2)
    if found.disputed:
        warnings.warn(
            f"{len(found.disputed)} images of the same name in several folders have one mask, such as "
            f"{str(found.disputed[0])!r} and {str(found.disputed[-1])!r}: none of them gets it. Put the masks into folders "
            "named as those of the images.",
            stacklevel=2,
        )
    if found.lonely:
        warnings.warn(
            f"{len(found.lonely)} mask{'s have' if len(found.lonely) > 1 else ' has'} no image, "
            f"such as {str(found.lonely[0])!r}. A mask has the name of its image, or "
            "that and _mask; say with data.mask_pattern if it is otherwise.",
            stacklevel=2,
        )
    return {image: _united([_source(file, image, kind, options) for file in files]) for image, files in found.masks.items()}
