"""Real-IAD (Wang et al., CVPR 2024): 30 categories of small parts, five views an object, splits in JSON files.

Camera 1 looks from above, 2 to 5 from the sides; a defect may show in some of the views, and ``object_auroc`` judges objects
by their worst view. ``realiad_jsons`` holds the published split, ``realiad_jsons_sv`` that of the view from above, and
``realiad_jsons_fuiad_0.0`` to ``0.4`` training images of which that share is anomalous: they train without a label. The totals
are those that papers on it state, and the layout and the keys of the JSON files those of public descriptions; no copy was at
hand to check them, nor did we find the numbers of each category.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import cast

from pydantic import TypeAdapter, ValidationError

from anomaly_core import ANOMALOUS, NORMAL, BaseDataModule, DataError, Sample, fault, read_untrusted
from anomaly_datasets.config import RealIADConfig
from anomaly_datasets.facts import REAL_IAD
from anomaly_datasets.files import missing_root

_JSONS = {"multi_view": "realiad_jsons", "single_view": "realiad_jsons_sv"}
_VIEW = re.compile(r"_C([1-5])(?=_|\.)")


@dataclass(frozen=True)
class _Meta:
    normal_class: str = "OK"
    prefix: str | None = None


@dataclass(frozen=True)
class _Entry:
    image_path: str
    anomaly_class: str
    mask_path: str | None = None


@dataclass(frozen=True)
class _Split:
    train: list[_Entry]
    test: list[_Entry]
    meta: _Meta = field(default_factory=_Meta)


_SPLIT = TypeAdapter(_Split)


class RealIADData(BaseDataModule):
    """``Sample.extra`` holds the ``object`` that an image shows and its ``view``; no object is divided for the threshold."""

    @property
    def options(self) -> RealIADConfig:
        return cast(RealIADConfig, self.config)

    @property
    def image_folder(self) -> Path:
        """The folder of the images: ``data.resolution``, or the finest that is there."""
        sides = [self.options.resolution] if self.options.resolution else [1024, 512, 256]
        folders = [self.root / f"realiad_{side}" for side in sides]
        return next((folder for folder in folders if folder.is_dir()), folders[0])

    @property
    def json_folder(self) -> Path:
        """The folder of the split's JSON files; the archive of all splits is unpacked into a folder of the first one's name."""
        name = _JSONS.get(self.options.protocol, f"realiad_jsons_{self.options.protocol}")
        nested = self.root / "realiad_jsons" / name
        return nested if nested.is_dir() else self.root / name

    def categories(self) -> list[str]:
        listed = {file.stem for file in self.json_folder.glob("*.json") if (self.image_folder / file.stem).is_dir()}
        names = [name for name in REAL_IAD.categories if name in listed]
        names += sorted(listed - set(names))
        if not names:
            looked = (
                f"{self.json_folder.relative_to(self.root)}/<category>.json and {self.image_folder.name}/<category>, unpacked"
            )
            raise missing_root(self, f"{REAL_IAD.layout}; looked for {looked}")
        return names

    def train_samples(self, category: str) -> list[Sample]:
        """Normal images; with a noisy protocol without labels, as some are anomalous."""
        return self._samples(category, "train")

    def test_samples(self, category: str) -> list[Sample]:
        return self._samples(category, "test")

    def _samples(self, category: str, part: str) -> list[Sample]:
        file = self.json_folder / f"{category}.json"
        try:
            split = _SPLIT.validate_json(read_untrusted(file))
        except (OSError, ValidationError) as error:
            raise DataError(
                f"cannot read the split {str(file)!r}: {fault(error)}. It must hold meta, train and test, and each image its "
                "image_path and anomaly_class. Unpack the data set again."
            ) from error
        folder = _below(self.image_folder, split.meta.prefix or category, file)
        views = self.options.views
        unlabelled = part == "train" and self.options.protocol.startswith("fuiad")
        samples = []
        for entry in split.train if part == "train" else split.test:
            whole, view = object_and_view(entry.image_path)
            if views and view not in views:
                continue
            normal = entry.anomaly_class == split.meta.normal_class
            mask = _below(folder, entry.mask_path, file) if entry.mask_path and not unlabelled else None
            samples.append(
                Sample(
                    path=_below(folder, entry.image_path, file),
                    label=None if unlabelled else NORMAL if normal else ANOMALOUS,
                    mask_path=mask if mask and os.path.lexists(mask) else None,
                    category=category,
                    defect="" if unlabelled else "good" if normal else entry.anomaly_class,
                    extra={"object": whole, "view": view, "group": whole},
                )
            )
        missing = [sample.path for sample in samples if not os.path.lexists(sample.path)]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(samples)} images of {str(file)!r} are not there, such as {str(missing[0])!r}. Unpack "
                f"the archive of {category!r} again, or choose another data.resolution."
            )
        return samples


def object_and_view(image_path: str) -> tuple[str, int]:
    """The object that an image shows, and its camera: of ``OK/S0001/toy_0001_OK_C2_2023.jpg``, ``OK/S0001/toy_0001_OK`` and 2.

    An image whose name says no camera is an object of its own, of view 0.
    """
    path = PurePosixPath(image_path)
    found = _VIEW.search(path.name)
    if found is None:
        return str(path), 0
    return str(path.with_name(path.name[: found.start()] or "_")), int(found[1])


def _below(folder: Path, name: str, file: Path) -> Path:
    """The path below a folder that a JSON file names; DataError if it leads out of it."""
    written = PureWindowsPath(name)  # on every system: a drive or a network share must not even be asked
    if written.anchor or ".." in written.parts or "\0" in name:
        raise DataError(f"{str(file)!r} names {name!r}, which leads out of the data set. Get the split from its publisher.")
    return folder / name
