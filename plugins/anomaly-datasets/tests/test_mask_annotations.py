"""Annotation files: what is drawn from each shape, and what is refused by name."""

from __future__ import annotations

import base64
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly_core import DataError, read_mask
from anomaly_datasets.masks.canvas import Drawing
from anomaly_datasets.masks.coco import Coco, decoded
from anomaly_datasets.masks.labelme import LabelMeMask
from anomaly_datasets.masks.yolo import YoloMask

pytestmark = pytest.mark.reliability("input")

WIDTH, HEIGHT = 60, 48
SQUARE = [[10, 10], [20, 10], [20, 20], [10, 20]]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def marked(source: Any) -> np.ndarray:
    mask = read_mask(pickle.loads(pickle.dumps(source)))
    assert mask.mode == "L" and mask.size == (WIDTH, HEIGHT)
    return np.asarray(mask) == 255


def labelme(image: Path, *shapes: dict[str, Any], **more: Any) -> LabelMeMask:
    content = {"shapes": list(shapes), "imageWidth": WIDTH, "imageHeight": HEIGHT, **more}
    image.with_suffix(".json").write_text(json.dumps(content))
    return LabelMeMask(image.with_suffix(".json"), image)


def png(mask: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_a_polygon_has_its_area_and_not_its_outline_too() -> None:
    canvas = Drawing(WIDTH, HEIGHT)
    canvas.polygon(SQUARE)
    expected = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    expected[10:20, 10:20] = 255
    np.testing.assert_array_equal(np.asarray(canvas.image()), expected)


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ({"points": SQUARE}, 100),
        ({"points": SQUARE[::2], "shape_type": "rectangle"}, 100),
        ({"points": [SQUARE[2], SQUARE[0]], "shape_type": "rectangle"}, 100),
        ({"points": [[30, 24], [40, 24]], "shape_type": "circle"}, 316),  # centres within 10 pixels of a corner
        ({"points": [[5.5, 5.5], [15.5, 5.5]], "shape_type": "line"}, 11),
        ({"points": [[5.5, 5.5], [9.5, 5.5], [9.5, 8.5]], "shape_type": "linestrip"}, 8),
        ({"points": [[5.2, 5.8]], "shape_type": "point"}, 1),
        ({"points": [[3, 4], [8, 8]], "shape_type": "mask", "mask": png(np.eye(5, 6, dtype=bool))}, 5),
        ({"points": [[10.2, 10.6], [30.2, 10.6], [30.2, 10.9], [10.2, 10.9]]}, 21),  # thinner than a pixel
        ({"points": [[-0.6, 40], [60.4, 40], [60.4, 48.3], [-0.6, 48.3]]}, 60 * 8),  # a little over the border
    ],
)
def test_labelme_shapes(image: Path, shape: dict[str, Any], count: int) -> None:
    assert marked(labelme(image, shape)).sum() == count


def test_labelme_files_without_a_size_or_a_shape(image: Path) -> None:
    assert marked(labelme(image, {"points": SQUARE}, imageWidth=None, imageHeight=None)).sum() == 100
    assert not marked(labelme(image)).any()


@pytest.mark.parametrize(
    ("shape", "more", "words"),
    [
        ({"points": SQUARE}, {"imageWidth": 48, "imageHeight": 60}, r"for an image of 48x60, and this one is 60x48, turned"),
        ({"points": [[10, 10], [90, 10], [20, 20]]}, {}, r"shape 1: the point \(90, 10\) lies outside of the image"),
        ({"points": [[10, 10], [10, "x"], [20, 20]]}, {}, r"'x' is no coordinate"),
        ({"points": [[10, 10], [10, 10**400], [20, 20]]}, {}, r"is no coordinate"),
        ({"points": [[10, 10], [10, True], [20, 20]]}, {}, r"'True' is no coordinate"),
        ({"points": [[10, 10], [20, 20]]}, {}, r"2 points are no such shape; it takes 3"),
        ({"points": 7}, {}, r"no list of pairs"),
        ({"points": [[10, 10]], "shape_type": "circle"}, {}, r"a circle has two points"),
        ({"points": SQUARE, "shape_type": "star"}, {}, r"shapes of the kind 'star' are not known"),
        ({"points": SQUARE, "shape_type": "mask", "mask": "%"}, {}, r"its mask is no PNG"),
        ({"points": [[57, 4], [8, 8]], "shape_type": "mask", "mask": png(np.eye(5, 6, dtype=bool))}, {}, r"reach out of"),
    ],
)
def test_labelme_files_that_are_wrong_are_named(image: Path, shape: dict, more: dict, words: str) -> None:
    with pytest.raises(DataError, match=rf"cannot draw the mask of '.*a\.png' from '.*a\.json': .*{words}"):
        marked(labelme(image, shape, **more))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "Expecting"),
        (b"[]", "holds no object"),
        (b'{"shapes": [{"points": [[NaN, 1], [2, 3], [4, 5]]}]}', "NaN"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b"\xff\xfe\x00", "."),
        (b"{}", "no list of shapes"),
    ],
)
def test_files_that_are_no_json_are_named(image: Path, content: bytes, words: str) -> None:
    image.with_suffix(".json").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.json': .*{words}"):
        marked(LabelMeMask(image.with_suffix(".json"), image))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0 0.5 0.5 0.5 0.5\n", 30 * 24),
        ("0 0.5 0.5 0.5 0.5 0.93\n\n", 30 * 24),  # with a model's confidence
        ("\ufeff3 0 0 0.5 0 0.5 0.5 0 0.5", 30 * 24),
        ("0 0.25 0.25 0.5 0.5\r\n1 0.75 0.75 0.5 0.5\r\n", 2 * 30 * 24),
        ("", 0),
    ],
)
def test_yolo_lines(image: Path, text: str, count: int) -> None:
    image.with_suffix(".txt").write_bytes(text.encode())
    assert marked(YoloMask(image.with_suffix(".txt"), image)).sum() == count


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 30 24 10 10", r"line 1: a box 10 wide and 10 high is none"),
        ("0 30 24 0.1 0.1", r"the point \(29.95, 23.95\) lies outside of the image: coordinates are shares"),
        ("0 0.5 0.5 nan 0.5", r"line 1: a box nan wide"),
        ("0 0.5 0.5 0.5 0.5\n0 0.1 0.2", r"line 2: 3 values"),
        ("0 a b c d", r"could not convert"),
        ("0 0.1 nan 0.2 0.3 0.4 0.5", r"nan\) lies outside"),
    ],
)
def test_yolo_lines_that_are_wrong_are_named(image: Path, text: str, words: str) -> None:
    image.with_suffix(".txt").write_text(text)
    with pytest.raises(DataError, match=rf"a\.txt': .*{words}"):
        marked(YoloMask(image.with_suffix(".txt"), image))


def test_compressed_run_lengths() -> None:
    """The text is what pycocotools 2.0.11 makes of this mask."""
    mask = np.zeros((8, 6), dtype=bool)
    mask[0, 0], mask[3:6, 1:4], mask[7, :] = True, True, True
    np.testing.assert_array_equal(decoded({"size": [8, 6], "counts": "0160M2NN22NN22NN6000"}, Drawing(6, 8)), mask)


@pytest.mark.parametrize(
    ("rle", "words"),
    [
        ({"size": [8, 6], "counts": [47]}, "cover 47 of 48 pixels"),
        ({"size": [8, 6], "counts": [10**18]}, "cover 1000000000000000000 of 48"),
        ({"size": [8, 6], "counts": [-1, 49]}, "no numbers from 0 on"),
        ({"size": [8, 6], "counts": [True, 47]}, "no numbers from 0 on"),
        ({"size": [8, 6], "counts": "o"}, "end in the middle"),
        ({"size": [8, 6], "counts": "oooooooooooooooooooo0"}, "no text of the COCO kind"),
        ({"size": [8, 6], "counts": "ä"}, "no text of the COCO kind"),
        ({"size": [6, 8], "counts": [48]}, "for an image of 8x6"),
        ({"counts": [48]}, "have no size"),
    ],
)
def test_run_lengths_that_are_wrong_are_named(rle: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decoded(rle, Drawing(6, 8))


def coco(folder: Path, **content: Any) -> Coco:
    (folder / "coco.json").write_text(json.dumps(content))
    return Coco(folder / "coco.json")


def test_coco_names_choose_the_image_in_the_folder_that_they_say(tmp_path: Path) -> None:
    paths = [tmp_path / kind / "1.png" for kind in ("dent", "hole")]
    records = [{"id": n, "file_name": name} for n, name in enumerate(["bad/dent/1.png", "C:\\x\\hole\\1.png", "2.png"])]
    notes = [{"image_id": n, "bbox": [n, n, 5, 5]} for n in range(3)]
    masks, absent = coco(tmp_path, images=records, annotations=[*notes, {"image_id": 9}]).masks(paths)
    assert {path: mask.annotations[0]["bbox"][0] for path, mask in masks.items()} == {paths[0]: 0, paths[1]: 1}
    assert absent == ["2.png"] and len({*masks.values()}) == 2
    with pytest.raises(DataError, match=r"entry '1\.png' fits .*dent.* and .*hole.* alike"):
        coco(tmp_path, images=[{"id": 0, "file_name": "1.png"}], annotations=notes[:1]).masks(paths)
    twice = [{"id": n, "file_name": "a/1.png"} for n in (0, 1)]
    with pytest.raises(DataError, match=r"image '.*1\.png' fits 'a/1\.png' and 'a/1\.png' alike"):
        coco(tmp_path, images=twice, annotations=notes[:2]).masks(paths)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"images": []}, "no list 'annotations'"),
        ({"annotations": []}, "no list 'images'"),
        ({"images": [{"id": 1}], "annotations": []}, "entry 1 of 'images' lacks id or file_name"),
        ({"images": [{"id": 1, "file_name": "/"}], "annotations": []}, "entry 1 of 'images' has no file_name"),
        ({"images": [], "annotations": [7]}, "entry 1 of 'annotations' lacks image_id"),
    ],
)
def test_coco_files_that_are_wrong_are_named(tmp_path: Path, content: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=rf"COCO annotations '.*coco\.json': .*{words}"):
        coco(tmp_path, **content)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ({"id": 5}, "annotation 5: it has neither a segmentation nor a box"),
        ({"bbox": [50, 40, 20, 5]}, r"the point \(70, 40\) lies outside"),
        ({"bbox": [1, 2, 3]}, "neither a segmentation nor a box"),
        ({"segmentation": [[1, 2, 3]]}, "lacks a coordinate"),
        ({"segmentation": "x"}, "neither polygons nor run lengths"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [1]}}, "cover 1 of 2880"),
    ],
)
def test_coco_annotations_that_are_wrong_are_named(image: Path, annotation: dict[str, Any], words: str) -> None:
    records = [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}]
    masks, _ = coco(image.parent, images=records, annotations=[{"image_id": "1", **annotation}]).masks([image])
    with pytest.raises(DataError, match=rf"cannot draw the mask of '.*a\.png' from '.*coco\.json': .*{words}"):
        marked(masks[image])
