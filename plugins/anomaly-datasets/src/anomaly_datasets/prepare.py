"""From an archive or the publisher's address to a tree under the root, and the comparison of a tree with what is published."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlparse

from anomaly_core import ANOMALOUS, NORMAL, BaseDataModule, DataError, Sample, exclusive, registry
from anomaly_datasets.archives import unpack
from anomaly_datasets.facts import FACTS, Facts

TOGETHER = "in all"  # the row of all categories, where only the totals are published


@dataclass(frozen=True)
class Comparison:
    """One category's images, on disk and published: (train, good, bad, masks). ``problem`` says why they cannot be counted."""

    category: str
    on_disk: tuple[int, int, int, int]
    published: tuple[int, int, int, int]
    problem: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the copy is complete."""
        return not self.problem and self.on_disk == self.published


def data_module(name: str, root: Path | None) -> BaseDataModule:
    """The data set's module with its default options."""
    component = registry.datasets[name]
    settings = component.config_class()(name=name, root=None if root is None else str(root))
    data: BaseDataModule = component.build(settings, spec=component.spec)
    return data


def compare(name: str, root: Path | None) -> list[Comparison]:
    """Every published category against the tree under a root, and categories that nobody published.

    Raises:
        DataError: there is no such data set under the root.
    """
    data, facts = data_module(name, root), FACTS[name]
    names = data.categories()
    rows = []
    for category in [*facts.categories, *(extra for extra in names if extra not in facts.categories)]:
        train, good, bad = facts.per_category.get(category, (0, 0, 0))
        published = (train, good, bad, bad if facts.masked else 0)
        if category not in names:
            rows.append(Comparison(category, (0, 0, 0, 0), published, "not there"))
            continue
        try:
            count = _count(data, category)
            if not facts.per_category and category in facts.categories:
                published = count  # judged in all
            problem = getattr(data, "shortfall", str)() or _validation(data, category, facts)
            rows.append(Comparison(category, count, published, problem))
        except DataError as error:
            rows.append(Comparison(category, (0, 0, 0, 0), published, str(error)))
    if not facts.per_category:
        train, good, bad, masks = (sum(row.on_disk[part] for row in rows) for part in range(4))
        totals = (*facts.totals, facts.totals[2] if facts.masked else 0)
        rows.append(Comparison(TOGETHER, (train, good, bad, masks), totals))
    return rows


def _count(data: BaseDataModule, category: str) -> tuple[int, int, int, int]:
    test = data.test_samples(category)
    bad = [sample for sample in test if sample.label == ANOMALOUS]
    masks = sum(bool(sample.mask_files) and all(path.is_file() for path in sample.mask_files) for sample in bad)
    return _files(data.train_samples(category)), _files(sample for sample in test if sample.label == NORMAL), _files(bad), masks


def _validation(data: BaseDataModule, category: str, facts: Facts) -> str:
    """What is wrong with the images that the publisher set aside for validation; empty if nothing is."""
    published = facts.validation.get(category)
    if published is None:
        return ""
    found = len(data.split(category, 0)[1])
    return "" if found == published else f"{found} of {published} images for validation"


def _files(samples: Iterable[Sample]) -> int:
    """How many are files: a link that leads nowhere is none, nor is a pipe."""
    return sum(sample.path.is_file() for sample in samples)


def install(name: str, archive: Path, root: Path) -> None:
    """Unpack an archive beside the root, find the data set in it, and move it into the root.

    Raises:
        DataError: the archive is refused or holds no such data set, or one of its folders exists under the root already.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        refusal = f"another process is preparing a data set in {str(root)!r}. Wait until it is done."
        with exclusive(root, refusal, "Name another folder with --root."):
            for leftover in root.glob(".unpack-*"):  # of a process that was killed
                shutil.rmtree(leftover)
            incoming = root / f".incoming-{name}"
            if incoming.is_dir():  # unpacked whole, and killed while it was moved
                _move_in(incoming, root)
                return
            with tempfile.TemporaryDirectory(prefix=".unpack-", dir=root, ignore_cleanup_errors=True) as temporary:
                unpack(archive, Path(temporary))
                tree = _find_tree(name, archive, Path(temporary))
                taken = sorted(item.name for item in tree.iterdir() if (root / item.name).exists())
                if taken:
                    raise DataError(
                        f"{str(root)!r} holds {', '.join(taken)} already; nothing was changed. "
                        f"Check it with `anomaly data verify {name} --root {root}`, remove it, or name another folder with "
                        "--root."
                    )
                tree.rename(incoming)
                if tree == Path(temporary):
                    tree.mkdir()  # for the clean-up, which expects it
            _move_in(incoming, root)
    except OSError as error:
        raise DataError(f"cannot write to {str(root)!r}: {error}. Name another folder with --root.") from error


def _move_in(incoming: Path, root: Path) -> None:
    """Move a whole tree's items into the root. Killed on the way, the next call goes on: what was moved is no longer in it."""
    for item in sorted(incoming.iterdir()):
        item.rename(root / item.name)
    incoming.rmdir()


def _find_tree(name: str, archive: Path, folder: Path) -> Path:
    """The unpacked folder, or the one that the archive wraps everything in."""
    while True:
        with contextlib.suppress(DataError):  # not here: perhaps one folder further in
            if set(data_module(name, folder).categories()) & set(FACTS[name].categories):
                return folder
        inside = [item for item in folder.iterdir() if item.is_dir() and not item.name.startswith(("__MACOSX", "."))]
        if len(inside) != 1:
            raise DataError(
                f"the archive {str(archive)!r} holds no {name} data set. Expected in it: {FACTS[name].layout}. "
                f"Download it from {registry.datasets[name].spec.homepage}."
            )
        folder = inside[0]


def download(name: str, folder: Path, url: str | None = None) -> Path:
    """The publisher's archive, or another copy of it at ``url``, in a folder; with a progress bar on a terminal.

    Raises:
        DataError: there is no direct address, no connection, or the file is not the published one.
    """
    facts, spec = FACTS[name], registry.datasets[name].spec
    by_hand = f"Download it by hand from {spec.homepage} (licence {spec.license}), then run again with --archive FILE."
    address = url or facts.archive
    if not address:
        raise DataError(f"the data set {name!r} has no archive that can be downloaded directly. {by_hand}")
    from torchvision.datasets.utils import download_url

    file = Path(urlparse(address).path).name or f"{name}.archive"
    silent = contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with silent:
            download_url(address, str(folder), file)
    except (OSError, RuntimeError, ValueError) as error:  # URLError is an OSError
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        raise DataError(f"the download of {name!r} from {address} failed: {error}. {by_hand}") from error
    kind, published = ("SHA-256", facts.sha256) if facts.sha256 else ("MD5", facts.md5)
    if url is None and _digest(folder / file, kind) != published:
        raise DataError(f"the file at {address} is not the archive that was published: its {kind} differs. {by_hand}")
    return folder / file


def download_and_install(name: str, root: Path, url: str | None = None) -> None:
    """Download into a folder that is gone afterwards, then :func:`install`."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".download-", dir=root))
    except OSError as error:
        raise DataError(f"cannot write to {str(root)!r}: {error}. Name another folder with --root.") from error
    try:
        install(name, download(name, scratch, url), root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _digest(file: Path, kind: str) -> str:
    digest = hashlib.new(kind.replace("-", "").lower(), usedforsecurity=False)
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
