"""Every kind of mask, from a folder as users have it to what the metrics of a run see."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from marking import MARKED
from PIL import Image, ImageFilter
from seams import added
from seams import run as unobserved

from anomaly_core import RunConfig
from tiny.data import draw, write_image
from tiny.plugin import PALETTE
from tiny.runs import log_of

WIDTH, HEIGHT = 60, 48
CORNERS = [(10.0, 8.0), (31.0, 12.5), (28.0, 33.0), (12.0, 30.0)]  # clockwise
BOX = (36.0, 20.0, 50.0, 41.0)
WHOLE = {"data.evaluate_at": "native"}


@pytest.fixture(autouse=True)
def components() -> Iterator[None]:
    with added(palette=PALETTE, marked=MARKED):
        yield


def quadrangle() -> np.ndarray:
    """The pixels whose centres lie inside of the corners, by the side of each edge on which they are."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    edges = zip(CORNERS, [*CORNERS[1:], CORNERS[0]], strict=True)
    return np.all([(x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) >= 0 for (x0, y0), (x1, y1) in edges], axis=0)


def box() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[20:41, 36:50] = True
    return mask


DEFECT = quadrangle() | box()
ALL = 3 * int(DEFECT.sum())


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Six good images, three bad ones called image1 to image3; good/, bad/ and an empty masks/."""
    for number in range(6):
        write_image(tmp_path / "good" / f"{number}.png", draw(number, 64)[0][:HEIGHT, :WIDTH])
    for number in (1, 2, 3):
        picture = draw(10 + number, 64)[0][:HEIGHT, :WIDTH].copy()
        picture[DEFECT] = 255
        write_image(tmp_path / "bad" / f"image{number}.png", picture)
    (tmp_path / "masks").mkdir()
    return tmp_path


def run(folders: Path, masks: str | None = "masks", **options: Any) -> tuple[float | None, str]:
    """(pixels that the metrics saw marked, the log)."""
    named = {"data.normal": "good", "data.abnormal": "bad"} | ({"data.masks": masks} if masks else {})
    settings = {key: str(folders / value) for key, value in named.items()} | {
        "base.output": str(folders / "runs"),
        "base.metrics": ["marked"],
        "train.name": "memory",
        **WHOLE,
        **options,
    }
    result = unobserved(RunConfig.create(model="palette", data="folder", overrides=settings))
    return result.metrics.get("marked"), log_of(result)


def white(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255)


def strokes() -> Image.Image:
    image = Image.new("RGBA", (WIDTH, HEIGHT), (255, 0, 0, 0))
    image.paste((255, 0, 0, 255), mask=white(DEFECT))
    return image


def palette() -> Image.Image:
    image = Image.fromarray(DEFECT.astype(np.uint8), "P")
    image.putpalette([60, 60, 60, 0, 90, 0])
    return image


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "white": lambda: white(DEFECT),
    "one bit": lambda: white(DEFECT).convert("1"),
    "sixteen bits": lambda: Image.fromarray(DEFECT.astype(np.uint16) * 65535),
    "classes": lambda: Image.fromarray((quadrangle() + 2 * (box() & ~quadrangle())).astype(np.uint8)),
    "opacity": strokes,
    "palette": palette,
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_marks_what_was_drawn(folders: Path, kind: str) -> None:
    for number in (1, 2, 3):
        PICTURES[kind]().save(folders / "masks" / f"image{number}.png")
    marked, log = run(folders)
    assert marked == ALL
    assert "masks" not in log


def test_jpeg_and_blurred_masks_mark_what_was_drawn_and_are_told(folders: Path) -> None:
    white(DEFECT).save(folders / "masks" / "image1.jpg", quality=75)
    white(DEFECT).filter(ImageFilter.GaussianBlur(2)).save(folders / "masks" / "image2.png")
    white(DEFECT).save(folders / "masks" / "image3.png")
    marked, log = run(folders)
    assert marked == pytest.approx(ALL, rel=0.02)
    assert "2 masks, such as" in log and "image1.jpg" in log
    any_value, log = run(folders, **{"data.mask_threshold": 1})
    assert any_value is not None and any_value > 1.3 * ALL and "are noisy" not in log
    half, log = run(folders, **{"data.mask_threshold": 0.5})
    assert half == marked and "are noisy" not in log


def labelme(shapes: list[dict[str, Any]]) -> str:
    return json.dumps({"version": "5.4.1", "shapes": shapes, "imagePath": "x.png", "imageHeight": HEIGHT, "imageWidth": WIDTH})


def flat(points: list[tuple[float, float]]) -> list[float]:
    return [number for point in points for number in point]


def runs(mask: np.ndarray) -> list[int]:
    """Lengths of zeros and ones in turn, down the columns."""
    values = mask.T.ravel().astype(int)
    ends = [*np.flatnonzero(np.diff(values)) + 1, values.size]
    return [int(n) for n in ([0] if values[0] else []) + list(np.diff([0, *ends]))]


def test_labelme_files_are_drawn(folders: Path) -> None:
    shapes = [
        {"label": "scratch", "points": CORNERS, "shape_type": "polygon"},
        {"label": "hole", "points": [BOX[:2], BOX[2:]], "shape_type": "rectangle"},
    ]
    for number in (1, 2, 3):
        (folders / "masks" / f"image{number}.json").write_text(labelme(shapes))
    marked, log = run(folders)
    assert marked == ALL
    assert "masks" not in log


def test_labelme_files_may_lie_beside_the_images(folders: Path) -> None:
    circle = {"label": "blot", "points": [(30.0, 24.0), (30.0, 34.0)], "shape_type": "circle"}
    for number in (1, 2, 3):
        (folders / "bad" / f"image{number}.json").write_text(labelme([circle]))
    marked, _ = run(folders, "bad")
    assert marked == pytest.approx(3 * np.pi * 100, rel=0.02)


@pytest.mark.parametrize("kind", ["boxes", "polygons"])
def test_yolo_files_are_drawn(folders: Path, kind: str) -> None:
    left, top, right, bottom = BOX
    centre = [(left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT, (right - left) / WIDTH, (bottom - top) / HEIGHT]
    lines = {
        "boxes": [[0, *centre], [1, 0.5 / WIDTH, 0.5 / HEIGHT, 1 / WIDTH, 1 / HEIGHT]],
        "polygons": [[0, *(c / s for point in CORNERS for c, s in zip(point, (WIDTH, HEIGHT), strict=True))]],
    }[kind]
    text = "\n".join(" ".join(map(repr, line)) for line in lines) + "\n"
    for number in (1, 2, 3):
        (folders / "masks" / f"image{number}.txt").write_text(text)
    (folders / "masks" / "classes.txt").write_text("scratch\nhole\n")
    marked, log = run(folders)
    assert marked == (3 * (14 * 21 + 1) if kind == "boxes" else 3 * quadrangle().sum())
    assert "masks" not in log


@pytest.mark.parametrize("kind", ["polygons", "boxes", "runs"])
def test_a_coco_file_is_drawn(folders: Path, kind: str) -> None:
    left, top, right, bottom = BOX
    first = {
        "polygons": [{"segmentation": [flat(CORNERS), flat([(left, top), (right, top), (right, bottom), (left, bottom)])]}],
        "boxes": [{"bbox": [left, top, right - left, bottom - top]}, {"bbox": [0, 0, 4, 5], "segmentation": []}],
        "runs": [{"segmentation": {"size": [HEIGHT, WIDTH], "counts": runs(DEFECT)}, "iscrowd": 1}],
    }[kind]
    images = [{"id": n, "file_name": f"set/image{n}.png", "width": WIDTH, "height": HEIGHT} for n in (1, 2, 3, 4)]
    annotations = [{"id": 10 * n, "image_id": n, "category_id": 1, **item} for n in (1, 2, 3, 4) for item in first]
    content = {"images": images, "annotations": annotations, "categories": []}
    (folders / "masks" / "_annotations.coco.json").write_text(json.dumps(content))
    for masks in ("masks", "masks/_annotations.coco.json"):
        marked, log = run(folders, masks)
        assert marked == (3 * (14 * 21 + 20) if kind == "boxes" else ALL)
        assert "1 images annotated in" in log and "image4.png" in log


def test_several_masks_of_an_image_are_united(folders: Path) -> None:
    for number in (1, 2):
        white(quadrangle()).save(folders / "masks" / f"image{number}_mask_1.png")
        white(box()).save(folders / "masks" / f"image{number}_mask_2.png")
    (folders / "masks" / "image3").mkdir()
    white(quadrangle()).save(folders / "masks" / "image3" / "000.png")
    white(box()).save(folders / "masks" / "image3" / "001.png")
    marked, log = run(folders)
    assert marked == ALL
    assert "3 images have several masks" in log and "a folder for each image" in log


def test_masks_among_the_images_are_no_images(folders: Path) -> None:
    for number in (1, 2, 3):
        white(DEFECT).save(folders / "bad" / f"image{number}_mask.png")
    white(DEFECT).save(folders / "good" / "0_mask.png")
    for masks in (None, "bad"):
        marked, log = run(folders, masks)
        assert marked == ALL
        assert "4 files that lie among the images are masks" in log


def test_a_mask_pattern_names_masks_among_the_images(folders: Path) -> None:
    for number in (1, 2, 3):
        white(DEFECT).save(folders / "bad" / f"image{number}_defects.png")
    marked, _ = run(folders, None, **{"data.mask_pattern": "{stem}_defects"})
    assert marked == ALL


def test_a_list_may_name_annotations(folders: Path) -> None:
    (folders / "a.json").write_text(labelme([{"points": CORNERS}, {"points": [BOX[:2], BOX[2:]], "shape_type": "rectangle"}]))
    white(quadrangle()).filter(ImageFilter.GaussianBlur(1)).save(folders / "b.png")
    rows = [f"good/{number}.png,good," for number in range(6)]
    rows += ["bad/image1.png,bad,a.json", "bad/image2.png,bad,b.png", "bad/image2.png,bad,a.json"]
    (folders / "list.csv").write_text("\n".join(["path,label,mask", *rows]) + "\n")
    settings = {"data.list": str(folders / "list.csv"), "data.normal": None, "data.abnormal": None, "data.product": "bolt"}
    marked, _ = run(folders, None, **settings)
    assert marked == 2 / 3 * ALL
    at_one, _ = run(folders, None, **settings, **{"data.mask_threshold": 1})
    assert at_one is not None and 1.05 < at_one / (2 / 3 * ALL) < 1.3


def test_images_without_a_mask_are_left_out_by_name(folders: Path) -> None:
    for number in (1, 2):
        white(DEFECT).save(folders / "masks" / f"image{number}.png")
    marked, log = run(folders)
    assert marked == ALL * 2 / 3
    assert "1 of the 3 anomalous test images have no mask" in log and "image3.png" in log
    (manifest,) = (folders / "runs").rglob("manifest.json")
    assert json.loads(manifest.read_text())["without_mask"] == [str(folders / "bad" / "image3.png")]
