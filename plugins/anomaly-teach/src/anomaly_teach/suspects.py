"""The odd images among a run's normal ones: read from the run, and listed in a file for ``data.exclude``. Torch-free."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from anomaly_core import (
    CONFIG,
    NORMALS,
    NormalImage,
    RunError,
    RunFolder,
    marked_encoding,
    printable,
    quoted,
    read_untrusted,
    robust_deviations,
    write_whole,
)

RULE = (
    "An image stands out when its score lies more than 3.5 robust standard deviations above the median of all scores; of clean "
    "normal images, about one in a hundred does."
)


@dataclass(frozen=True)
class Ranked:
    """A normal image, how far its score lies above the median, in robust standard deviations, and the share of the normal
    images that score as high."""

    image: NormalImage
    deviations: float
    p_value: float

    @property
    def is_odd(self) -> bool:
        """Whether it stands out, or did before the run was fitted without it."""
        return self.image.suspect or self.image.dropped


def ranked(run: RunFolder) -> list[Ranked]:
    """The normal images that set the run's threshold, the highest score first.

    Raises:
        RunError: the run has no list of them.
    """
    again = f"Fit again with `anomaly run --config {quoted(run.folder / CONFIG)}`"
    if not (run.folder / NORMALS).exists():
        manifest = run.manifest()
        if "evaluates" in manifest:
            raise RunError(
                f"{str(run.folder)!r} is a test of a finished run, and fitted nothing. Give that run: {manifest['evaluates']}"
            )
        raise RunError(
            f"the run in {str(run.folder)!r} has no {NORMALS}: it is older than that list, or no normal image was left for its "
            f"threshold. {again}."
        )
    images = run.normals()
    if not images:
        raise RunError(
            f"{NORMALS} in {str(run.folder)!r} lists no image: the run has no threshold. {again} and more normal images."
        )
    rows = []
    for category in dict.fromkeys(image.category for image in images):
        part = [image for image in images if image.category == category]
        kept = [image.score for image in part if not image.dropped]
        inside = iter(robust_deviations(kept))
        for image in part:  # what was dropped is compared with the others, each by itself
            scores = [*kept, image.score] if image.dropped else kept
            deviations = robust_deviations(scores)[-1] if image.dropped else next(inside)
            rows.append(Ranked(image, deviations, sum(score >= image.score for score in scores) / len(scores)))
    return sorted(rows, key=lambda row: (-row.image.dropped, -row.image.score))


def add_to_list(file: Path, rows: Iterable[Ranked], source: Path) -> tuple[int, int]:
    """Write images into a list for ``data.exclude``, with the paths that the run knew them by; what it holds already stays.

    Args:
        file: the list, made where it is not there.
        rows: the images.
        source: the run's folder, named in a comment.

    Returns:
        How many images were added, and how many it named before.

    Raises:
        RunError: the file cannot be read or written, or a path has a line break, which no list can hold.
    """
    try:
        content = read_untrusted(file) if file.exists() else b""
        before = re.split("\r?\n", content.decode(marked_encoding(content) or "utf-8", "surrogateescape"))
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read the list {str(file)!r}: {error}. Name another file.") from error
    named = {line.strip() for line in before if line.strip() and not line.startswith("#")}
    paths = dict.fromkeys(row.image.path for row in rows)
    if broken := next((path for path in paths if "\n" in path or "\r" in path), None):
        raise RunError(f"a list has a path a line, and {broken!r} has a line break: rename the image, and fit again.")
    added = [path for path in (f"./{path}" if path.startswith("#") else path for path in paths) if path.strip() not in named]
    if added:
        said = printable(os.fspath(source))
        comment = f"# normal images that stand out in {said}; remove the lines of those that are good"
        text = "".join(f"{line}\n" for line in [*(before if before[-1] else before[:-1]), comment, *added])
        write_whole(file, text.encode("utf-8", "surrogateescape"), "Name another file.")
    return len(added), len(named)
