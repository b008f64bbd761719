"""Which image a mask's name means: ``000.png``, ``000_mask.png``, ``000_GT_2.png``, ``mask_000.png``, ``000/1.png``."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from glob import escape
from itertools import takewhile
from pathlib import Path

from anomaly_core import IMAGE_SUFFIXES

Place = tuple[str, ...]  # folders below the masks' root
Claim = tuple[int, str, list[Path]]  # the rule's rank, the lower the likelier; the rule; the masks that it finds

_WORD = r"(?:masks?|msk|gt|ground_?truth|labels?|seg|segmentation|annotations?)"
_ENDING = re.compile(rf"(?P<base>.+?)(?P<mark>[ _.-]{_WORD})(?:[ _.-]?\d+)?", re.IGNORECASE)
_BEGINNING = re.compile(rf"(?P<mark>{_WORD}[ _.-])(?P<base>.+)", re.IGNORECASE)
_NUMBERED = re.compile(r"(?P<base>.+?)[ _.-]\d+")
PATTERN = "the pattern"
PLAIN = ("", "_mask", PATTERN)  # rules that are not told: the image's own name, that with _mask, and what the user says
ANOTHER_CASE = "letters of another case"


@dataclass
class Matches:
    """Image -> its masks; image -> the rule that found them; masks of no image; and images that have one mask together."""

    masks: dict[Path, list[Path]] = field(default_factory=dict)
    rules: dict[Path, str] = field(default_factory=dict)
    lonely: list[Path] = field(default_factory=list)
    disputed: list[Path] = field(default_factory=list)


def meanings(stem: str) -> Iterator[tuple[int, str, str]]:
    """(rank, rule, stem of the image) for a mask's stem."""
    if Path(stem).suffix.lower() in IMAGE_SUFFIXES:  # 000.png.json
        stem = stem[: -len(Path(stem).suffix)]
    yield 0, "", stem
    if match := _ENDING.fullmatch(stem):
        yield (1 if match["mark"] == "_mask" else 2), match["mark"], match["base"]
        if number := _NUMBERED.fullmatch(match["base"]):  # 000_1_mask
            yield 5, "a number at the end", number["base"]
    if match := _BEGINNING.fullmatch(stem):
        yield 3, match["mark"], match["base"]
    if number := _NUMBERED.fullmatch(stem):
        yield 5, "a number at the end", number["base"]


def beside(files: Sequence[Path], pattern: str | None) -> list[Path]:
    """Those of some files that are masks of others in the same folder, by the pattern or a word such as ``_mask``."""
    if pattern:
        folders = defaultdict(list)
        for file in files:
            folders[file.parent].append(file)
        found = [matched(some, some, folder, pattern).masks.values() for folder, some in folders.items()]
        chosen = {mask for masks in found for several in masks for mask in several}
    else:
        stems = {(file.parent, file.stem.casefold()) for file in files}
        chosen = {
            file
            for file in files
            if any(0 < rank < 4 and (file.parent, base.casefold()) in stems for rank, _, base in meanings(file.stem))
        }
    return [file for file in files if file in chosen]


def matched(images: Sequence[Path], files: Sequence[Path], root: Path, pattern: str | None) -> Matches:
    """The masks of images among files below a folder.

    A file in a folder below the root is for images in a folder of that name, or for the image of that name. Where several
    rules find masks for an image, the likeliest counts. A file that two images claim alike is no one's.

    Args:
        root: the folder of the masks.
        pattern: a mask's name with ``{stem}`` in the place of its image's and ``*`` for anything; with a ``/`` the end of its
            path, with a suffix that too.
    """
    if not images:
        return Matches(lonely=list(files))
    places = {file: file.parent.relative_to(root).parts for file in files}
    homes = {image: image.parent.absolute().parts[1:] for image in images}
    levels = zip(*homes.values(), strict=False)  # and not os.path.commonpath: Windows has several drives
    common = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
    below = {image: parts[max(common - 1, 0) :] for image, parts in homes.items()}
    if pattern:
        return _settled(images, files, _by_pattern(below, places, pattern))
    result = _settled(images, files, _likeliest(_by_name(below, places)))
    _by_number(below, places, result)
    return result


def _by_pattern(below: dict[Path, Place], places: dict[Path, Place], pattern: str) -> dict[Path, Claim]:
    names: dict[Place, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file, place in places.items():
        within = len(place) - pattern.count("/")
        if within >= 0:
            name = file.name if Path(pattern).suffix.lower() == file.suffix.lower() else file.stem
            names[place[:within]]["/".join((*place[within:], name))].append(file)
    claims: dict[Path, Claim] = {}
    for image, folders in below.items():
        glob = "*".join(escape(part.replace("{stem}", image.stem)) for part in pattern.split("*"))
        shape = re.compile(translate(glob))
        for place in _places(folders, names):
            hits = (
                names[place].get(pattern.replace("{stem}", image.stem), [])
                if "*" not in pattern
                else [file for name, some in names[place].items() if shape.match(name) for file in some]
            )
            if hits := [file for file in hits if file != image]:
                claims[image] = 0, PATTERN, hits
                break
    return claims


def _by_name(below: dict[Path, Place], places: dict[Path, Place]) -> dict[Path, list[Claim]]:
    index: dict[tuple[Place, str], list[tuple[int, str, str, Path]]] = defaultdict(list)
    inside: dict[Place, list[Path]] = defaultdict(list)
    for file, place in places.items():
        inside[place].append(file)
        for rank, rule, base in meanings(file.stem):
            index[place, base.casefold()].append((rank, rule, base, file))
    known = {*inside, *(place[:-1] for place in inside if place)}
    namesakes = Counter((image.parent, image.stem.casefold()) for image in below)
    claims: dict[Path, list[Claim]] = {}
    for image, folders in below.items():
        for place in _places(folders, known):
            hits = [hit for hit in index.get((place, image.stem.casefold()), []) if hit[3] != image]
            exact = [hit for hit in hits if hit[2] == image.stem]
            if not exact and namesakes[image.parent, image.stem.casefold()] > 1:
                hits = []
            found: dict[tuple[int, str], list[Path]] = defaultdict(list)
            for rank, rule, _, file in exact or hits:
                found[rank, rule if exact or rule not in PLAIN else ANOTHER_CASE].append(file)
            if inner := inside.get((*place, image.stem)):
                found[4, "a folder for each image"] += inner
            if found:
                claims[image] = [(rank, rule, files) for (rank, rule), files in sorted(found.items())]
                break
    return claims


def _likeliest(claims: dict[Path, list[Claim]]) -> dict[Path, Claim]:
    """Each image's likeliest masks, but for those that another image claims by a likelier rule."""
    best: dict[Path, int] = {}
    for options in claims.values():
        for rank, _, files in options:
            best |= {file: min(rank, best.get(file, rank)) for file in files}
    chosen: dict[Path, Claim] = {}
    for image, options in claims.items():
        own = [(rank, rule, [file for file in files if best[file] == rank]) for rank, rule, files in options]
        if left := [claim for claim in own if claim[2]]:
            chosen[image] = left[0]
    return chosen


def _settled(images: Sequence[Path], files: Sequence[Path], claims: dict[Path, Claim]) -> Matches:
    claimants = Counter(file for _, _, found in claims.values() for file in found)
    result = Matches(lonely=[file for file in files if file not in claimants])
    for image in images:
        if image in claims:
            _, rule, found = claims[image]
            if any(claimants[file] > 1 for file in found):
                result.disputed.append(image)
            else:
                result.masks[image], result.rules[image] = sorted(found), rule
    return result


def _by_number(below: dict[Path, Place], places: dict[Path, Place], so_far: Matches) -> None:
    """``image3`` and ``mask3``: names that differ in the same words everywhere, and each mask has the numbers of one image."""
    left = [image for image in below if image not in so_far.masks and image not in so_far.disputed]
    for place in dict.fromkeys(places[file] for file in so_far.lonely):
        masks = [file for file in so_far.lonely if places[file] == place]
        own = [image for image in left if image not in so_far.masks and place in _places(below[image], [place])]
        by_numbers = {_numbers(image): image for image in own}
        wanted = [_numbers(file) for file in masks]
        words = {_words(image) for image in own}, {_words(file) for file in masks}
        clear = len(by_numbers) == len(own) and len(set(wanted)) == len(wanted) and all(len(some) == 1 for some in words)
        if clear and () not in wanted and set(wanted) <= set(by_numbers):
            for numbers, file in zip(wanted, masks, strict=True):
                so_far.masks[by_numbers[numbers]] = [file]
                so_far.rules[by_numbers[numbers]] = "the same number"
            so_far.lonely = [file for file in so_far.lonely if file not in masks]


def _numbers(file: Path) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"[0-9]{1,18}", file.stem))


def _words(file: Path) -> str:
    return re.sub(r"[0-9]{1,18}", "#", file.stem)


def _places(folders: Place, known: Container[Place]) -> list[Place]:
    """The known folders of masks that are called as some of an image's own: the most folders first, then the innermost."""
    count = len(folders)
    runs = ((at, at + length) for length in range(count, -1, -1) for at in range(count - length, -1, -1))
    return list(dict.fromkeys(folders[start:end] for start, end in runs if folders[start:end] in known))
