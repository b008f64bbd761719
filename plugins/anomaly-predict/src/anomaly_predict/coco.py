"""Regions in the format of COCO, which annotation tools and evaluation libraries read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anomaly_core import ConfigError, RunError, write_whole
from anomaly_predict.regions import Region
from anomaly_predict.stream import NO_REGIONS, Verdict

CATEGORY = {"id": 1, "name": "anomaly", "supercategory": ""}
_ELSEWHERE = "Free some space, or choose another file with --coco."


class CocoFile:
    """Collects verdicts; :meth:`write` writes the file, whole or not at all.

    Images that could not be read are left out. Source: the format of annotations at https://cocodataset.org/#format-data.

    Raises:
        RunError: the folder is missing.
    """

    def __init__(self, path: Path) -> None:
        if not path.absolute().parent.is_dir():
            raise RunError(f"there is no folder {str(path.absolute().parent)!r} for {str(path)!r}. Make it, or check the path.")
        self._path = path
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, verdict: Verdict) -> None:
        """Add an image and its regions; ConfigError if the detector finds none, whatever the image: a file would mislead."""
        if verdict.size is None or verdict.error:
            return
        if verdict.regions is None:
            raise ConfigError(f"--coco would hold no region of any image: {NO_REGIONS} Leave it out.")
        height, width = verdict.size
        number = len(self._images) + 1
        self._images.append({"id": number, "file_name": verdict.path, "width": width, "height": height})
        for region in verdict.regions or ():
            self._annotations.append({"id": len(self._annotations) + 1, "image_id": number, **_annotation(region)})

    def write(self) -> None:
        """Write what was added; RunError if that is not possible, and a file that is there stays as it is."""
        info = {"description": "regions above the map threshold of a detector, by anomaly predict"}
        content = {"info": info, "images": self._images, "annotations": self._annotations, "categories": [CATEGORY]}
        write_whole(self._path, json.dumps(content, allow_nan=False).encode(), _ELSEWHERE)


def _annotation(region: Region) -> dict[str, Any]:
    left, top, right, bottom = region.box
    return {
        "category_id": CATEGORY["id"],
        "bbox": [left, top, right - left, bottom - top],
        "area": region.area,
        "segmentation": [[number for point in region.polygon for number in point]],
        "iscrowd": 0,
        "score": region.peak,
    }
