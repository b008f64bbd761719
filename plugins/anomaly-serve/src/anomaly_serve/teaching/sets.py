"""The sets of images that products are taught from: ``<product>/<set>`` below one folder."""

from __future__ import annotations

import shutil
import threading
from contextlib import suppress
from pathlib import Path

from anomaly_core import RunError, folder_name, inside
from anomaly_serve.teaching.image_set import ImageSet
from anomaly_serve.teaching.members import Limits, Used

DRAFT = "draft"


class Sets:
    """The sets of all products below a folder; partial files of a process that was killed are removed."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder = folder
        self.limits = limits or Limits()
        self.used = Used(folder)
        self._sets: dict[tuple[str, str], ImageSet] = {}
        self._lock = threading.Lock()
        for part in folder.glob("*/*/.*.part"):
            with suppress(OSError):
                part.unlink()

    def place(self, product: str) -> Path:
        """The folder of a product."""
        return self.folder / folder_name(product)

    def get(self, product: str, name: str = DRAFT) -> ImageSet:
        """A set of a product, which may be empty; RunError if the name is no name of a set."""
        with self._lock:
            if (product, name) not in self._sets:
                try:
                    folder = inside(self.place(product), name)
                except OSError as error:
                    raise RunError(f"{name!r} is no name of a set: {error}.") from error
                self._sets[product, name] = ImageSet(folder, self.limits, self.used)
            return self._sets[product, name]

    def remove(self, product: str, name: str) -> None:
        """Remove a set and its files."""
        with self._lock:
            self._sets.pop((product, name), None)
            shutil.rmtree(inside(self.place(product), name), ignore_errors=True)
        self.used.forget()
