"""What the names of folders and the labels of lists mean: normal, anomalous or unknown; and what a product is called."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from anomaly_core import ANOMALOUS, NORMAL

NORMAL_WORDS = ("good", "ok", "okay", "normal", "pass", "passed", "io", "defectfree", "nodefect", "anomalyfree")
ANOMALOUS_WORDS = ("bad", "nok", "ng", "ko", "nio", "notok", "notgood", "defect", "defects", "defective", "anomaly",
                   "anomalies", "anomalous", "abnormal", "fail", "failed", "reject", "rejected", "faulty")  # fmt: skip
UNKNOWN_WORDS = ("", "unlabelled", "unlabeled", "unknown", "none", "null", "nan", "na", "?")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz")
MASK_WORDS = ("mask", "masks", "groundtruth", "gt", "annotation", "annotations")
KIND_WORDS = (*NORMAL_WORDS, *ANOMALOUS_WORDS, "train", "training", "test", "images", "image", "img", "new")
UNCLEAR_WORDS = ("true", "false", "yes", "no", "y", "n", "-1", "-1.0")  # normal for some lists, anomalous for others
_NUMBERS = {"0": NORMAL, "0.0": NORMAL, "1": ANOMALOUS, "1.0": ANOMALOUS}


def plain(word: str) -> str:
    """In lower case, without blanks, dots, dashes and underscores: ``I.O.`` and ``Not_OK`` are words too."""
    return re.sub(r"[\s_.-]+", "", word).lower()


def is_normal(folder: str) -> bool:
    """Whether a folder of that name holds normal images."""
    return plain(folder) in NORMAL_WORDS


def is_unlabelled(folder: str) -> bool:
    """Whether a folder of that name holds images of which nothing is known."""
    return plain(folder) in UNKNOWN_WORDS


def is_otherwise(folder: str, label: int | None) -> bool:
    """Whether a folder's name says that it holds no images of that label: normal or anomalous ones, or masks."""
    word = plain(folder)
    return word in MASK_WORDS or (label == NORMAL and word in ANOMALOUS_WORDS) or (label == ANOMALOUS and word in NORMAL_WORDS)


def meaning(label: str) -> tuple[int | None, str]:
    """(label, kind of defect) of a list's cell: a word of those above, 0 or 1, else a kind of defect.

    Raises:
        ValueError: it may mean either.
    """
    label = label.strip()
    if label.lower() in UNCLEAR_WORDS:
        raise ValueError(f"the label {label!r} does not say whether the image is normal")
    word = plain(label)
    if word in NORMAL_WORDS or _NUMBERS.get(label) == NORMAL:
        return NORMAL, "good"
    if word in UNKNOWN_WORDS:
        return None, ""
    return ANOMALOUS, "anomaly" if _NUMBERS.get(label) == ANOMALOUS else label


def is_archive(path: Path) -> bool:
    """Whether the name is an archive's."""
    return path.name.lower().endswith(ARCHIVES)


def stem(archive: Path) -> str:
    """An archive's name without its suffixes."""
    suffix = max((suffix for suffix in ARCHIVES if archive.name.lower().endswith(suffix)), key=len, default="")
    return archive.name[: len(archive.name) - len(suffix)]


def own_name(folder: Path) -> str:
    """A folder's own name, a symlink's included; ``.`` and ``..`` are resolved first; of an archive without its suffixes."""
    if folder.name in ("", ".."):
        return folder.resolve().name
    return stem(folder) if folder.is_file() else folder.name


def product_name(folders: Sequence[Path]) -> str:
    """What images in these folders show: their folder's name, and that of the one above where it only says what kind of images
    they are, as ``good`` and ``train_ok`` do. Of several folders the name that all of them give, as ``line1/caps/good`` and
    ``line2/caps/good`` do; else that of the folder that holds them all, and where that has no name, the first one's."""
    names = {_product_name(folder) for folder in folders}
    if len(names) > 1 and len({path.absolute().drive for path in folders}) == 1:
        common = Path(os.path.commonpath([path.absolute() for path in folders]))
        names = {_product_name(common)} if common.name else names
    return names.pop() if len(names) == 1 else _product_name(folders[0])


def _product_name(folder: Path) -> str:
    while True:
        name = own_name(folder)
        above = folder.absolute().parent if folder.name not in ("", "..") else folder.resolve().parent
        if not _says_kind(name) or not own_name(above):
            return name or "folder"
        folder = above


def _says_kind(folder: str) -> bool:
    """Whether a folder's name says no more than what kind of images it holds."""
    parts = [part for part in re.split(r"[\s_.-]+", folder.lower()) if part]
    only = all(part in KIND_WORDS or part.isdigit() for part in parts) and not all(map(str.isdigit, parts))
    return plain(folder) in KIND_WORDS or only
