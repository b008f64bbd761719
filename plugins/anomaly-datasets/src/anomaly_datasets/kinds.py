"""Images in a folder and in all folders below it; a folder's name is the kind of defect that its images show."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anomaly_core import ConfigError, DataError, Sample, expanded, is_clutter
from anomaly_datasets.archives import unpacked
from anomaly_datasets.files import image_files, images_in, natural_key, tell_left_out
from anomaly_datasets.words import is_archive, is_otherwise, own_name

Extra = Callable[[str], Mapping[str, Any]]  # an image's path relative to its folder -> what is kept of it


def located(place: str | Path) -> Path:
    """The folder that an option names; of an archive the folder into which it was unpacked."""
    path = expanded(place)
    if path.is_file():
        if not is_archive(path):
            raise DataError(
                f"{str(path)!r} is a file, and a folder or a zip archive of images is needed. Name the folder that holds it; "
                "a list of images goes with --set data.list=FILE."
            )
        return unpacked(path)
    return path


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, in natural order, but for those of other programs."""
    if not folder.is_dir():
        return []
    return sorted((item for item in folder.iterdir() if item.is_dir() and not is_clutter(item.name)), key=natural_key)


def folders_below(folder: Path, entered: Iterable[str] = ()) -> Iterator[Path]:
    """The folder and all below it; each once, however many links lead to it, and none of the real paths ``entered``."""
    known, waiting = set(entered), [folder]
    while waiting:
        place = waiting.pop()
        real = os.path.realpath(place)
        if real not in known:
            known.add(real)
            yield place
            waiting += reversed(subfolders(place))


def samples_below(
    folders: Sequence[Path], label: int | None, category: str, defect: str, extra: Extra, others: Sequence[Path] = ()
) -> list[Sample]:
    """The images in folders and below them, as samples of one label.

    Args:
        defect: the kind; where it is empty, the name of the folder in one of ``folders`` that holds the image, and for the
            images in ``folders`` themselves its own name.
        others: folders that are something else, in case they lie below; so are those whose names say it, with a warning.

    Raises:
        DataError: there is no such folder, or no image in it and below it.
    """
    images: dict[Path, tuple[Path, list[Path]]] = {}  # where images lie -> the folder in which that is, and the images
    for folder in folders:
        entered = set(map(os.path.realpath, others))
        if os.path.realpath(folder) in entered:
            raise ConfigError(f"{str(folder)!r} is named twice, and its images cannot be both. Name another folder.")
        places = _images_below(folder, entered)
        strange = [place for place in places if any(is_otherwise(name, label) for name in place.relative_to(folder).parts)]
        places = {place: paths for place, paths in places.items() if place not in strange}
        if not any(places.values()):
            images_in(folder)  # which says what is wrong
        _tell_strange([place for place in strange if image_files(place)], folder)
        images |= {place: (folder, paths) for place, paths in places.items()}
    samples = []
    for place, (folder, paths) in images.items():
        tell_left_out(place)
        samples += [_finished(Sample(path, label, None, category, ""), folder, defect, extra) for path in paths]
    return samples


def _images_below(folder: Path, entered: set[str]) -> dict[Path, list[Path]]:
    try:
        return {place: image_files(place) for place in folders_below(folder, entered)} if folder.is_dir() else {}
    except OSError as error:
        raise DataError(
            f"cannot read the folder {str(error.filename)!r} below {str(folder)!r}: {error.strerror}. Check its rights, or "
            "move it elsewhere."
        ) from error


def _finished(sample: Sample, folder: Path, defect: str, extra: Extra) -> Sample:
    place = sample.path.relative_to(folder)
    kind = place.parts[0] if len(place.parts) > 1 else own_name(folder)
    return replace(sample, defect=defect or kind, extra={**sample.extra, **extra(place.as_posix())})


def _tell_strange(strange: Sequence[Path], folder: Path) -> None:
    if strange:
        warnings.warn(
            f"below {str(folder)!r}, the images of {len(strange)} folders, such as {str(strange[0])!r}, are left out: their "
            "names say that they show something else. Name them with data.normal, data.abnormal or data.masks, or rename them.",
            stacklevel=3,
        )
