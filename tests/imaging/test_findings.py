"""What the files of a run are like is told: a kind of file that tells the classes apart, and what was not seen in fitting."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anomaly_core import ImageReader, InputSpec, RunFolder, Sample, run_experiment
from anomaly_core.imaging.findings import fitted_reader, shrunk, telling
from anomaly_core.imaging.roi import RegionOfInterest
from anomaly_core.imaging.screening import screen
from tiny.data import write_tree
from tiny.runs import config, log_of

pytestmark = [pytest.mark.usefixtures("tiny"), pytest.mark.reliability("input")]


def as_jpeg(paths: list[Path], **options: int) -> None:
    for path in paths:
        Image.open(path).save(path.with_suffix(".jpg"), **options)
        path.unlink()


def test_a_format_that_tells_the_classes_apart_is_told(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "parts", train=6, good=4, bad=4)
    options = {"data.root": str(root), "base.pictures": 0}
    assert "without looking at them" not in log_of(run_experiment(config(tmp_path, data="tree", **options)))
    as_jpeg([*root.glob("train/*/*"), *root.glob("test/good/*")])
    assert (
        "anomalous images can be told from the normal test images without looking at them, by the format of the file "
        "(JPEG, and PNG)"
    ) in log_of(run_experiment(config(tmp_path, data="tree", **options)))


def samples(folder: Path, name: str, count: int, label: int, side: int = 20, mode: str = "RGB") -> list[Sample]:
    paths = [folder / f"{name}{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new(mode, (side + (number if side < 0 else 0), abs(side)), 9).save(path)
    return [Sample(path, label) for path in paths]


@pytest.mark.parametrize(
    ("bad", "words"),
    [({"side": 30}, r"the size \(20x20, and 30x30\)"), ({"mode": "L"}, r"depth and colour \(8-bit colour, and 8-bit grey\)")],
)
def test_so_is_a_size_or_a_depth_also_where_only_the_training_images_are_normal(
    bad: dict[str, Any], words: str, tmp_path: Path
) -> None:
    train, good = samples(tmp_path, "train", 6, 0), samples(tmp_path, "good", 2, 0)
    wrong = samples(tmp_path, "bad", 3, 1, **bad)
    found = screen([*train, *good, *wrong], "error").facts
    for test, whose in (([*good, *wrong], "normal test images"), (wrong, "training images")):
        (text,) = telling(train, test, found)
        assert whose in text
        assert re.search(words, text)


def test_images_that_were_cut_out_each_to_a_size_of_its_own_tell_nothing(tmp_path: Path) -> None:
    sides = [[Sample(tmp_path / f"{label}{side}.png", label) for side in range(20, 26)] for label in (0, 1)]
    for label, parts in enumerate(sides):
        for side, sample in enumerate(parts):
            Image.new("RGB", (20 + 2 * side + label, 20)).save(sample.path)
    found = screen([*sides[0], *sides[1]], "error").facts
    assert telling([], [*sides[0], *sides[1]], found) == []
    reader, _ = fitted_reader(ImageReader(), {sample.path: found[sample.path] for sample in sides[0]}, found)
    assert (reader.sizes, reader.modes) == ((), ("8-bit colour",))


def test_another_camera_than_in_fitting_is_told_in_the_run_and_to_those_who_use_it(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "parts", train=6, good=4, bad=2)
    for path in sorted(root.glob("test/good/*"))[:3]:
        Image.open(path).resize((64, 48)).convert("L").save(path)
    result = run_experiment(config(tmp_path, data="tree", **{"data.root": str(root), "base.pictures": 0}))
    assert "3 images have another size than the 32x32 of the training images, such as" in log_of(result)
    assert "3 images have another depth or colour than the 8-bit colour of the training images, such as" in log_of(result)
    reader = RunFolder.open(result.folder).reader()
    assert (reader.sizes, reader.modes) == (((32, 32),), ("8-bit colour",))
    new = [tmp_path / f"new{number}.png" for number in range(3)]
    for path in new:
        Image.new("RGB", (50, 40)).save(path)
    with pytest.warns(UserWarning, match=r"new0\.png' has another size .*\(50x40\).*another camera") as told:
        for path in new:
            reader.read(path)
    assert len(told) == 1
    assert reader.repeated() == ["3 images have another size than the 32x32 of the training images."]
    assert reader.repeated() == []


def test_a_region_in_pixels_is_named_where_the_size_differs(tmp_path: Path) -> None:
    (sample,) = samples(tmp_path, "new", 1, 0, side=30)
    reader = ImageReader(sizes=((20, 20),), roi=RegionOfInterest((2, 2, 10, 10)))
    with pytest.warns(UserWarning, match="A region in pixels now marks another part of what they show"):
        reader.read(sample.path)


def test_a_region_in_images_of_several_sizes_is_told(tmp_path: Path) -> None:
    found = screen([*samples(tmp_path, "a", 2, 0), *samples(tmp_path, "b", 2, 0, side=30)], "error").facts
    reader = ImageReader(roi=RegionOfInterest((2, 2, 10, 10)))
    assert [text[:35] for text in fitted_reader(reader, found, found)[1]] == ["the training images have 2 sizes, a"]
    assert fitted_reader(ImageReader(), found, found)[1] == []


def test_a_range_that_no_image_has_the_bits_for_is_told(tmp_path: Path) -> None:
    found = screen(samples(tmp_path, "train", 3, 0, mode="L"), "error").facts
    _, texts = fitted_reader(ImageReader(range=(0, 4095)), found, found)
    assert [text.partition(":")[0] for text in texts] == ["no image has more than 8 bits a sample"]
    assert fitted_reader(ImageReader(), found, found)[1] == []


def test_images_that_are_shrunk_a_lot_are_told_before_fitting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_tree(tmp_path / "parts", train=6, good=4, bad=2)
    caplog.set_level("INFO", logger="anomaly_core")
    of_root = {"data.root": str(root), "base.pictures": 0}
    (whole,) = run_experiment(config(tmp_path, data="tree", **of_root, **{"model.image_size": 32})).runs
    (tiled,) = run_experiment(
        config(tmp_path, data="tree", **of_root, **{"model.image_size": 8, "data.tile": 16, "data.tile_overlap": 0})
    ).runs
    assert "shrunk" not in caplog.text
    assert not {"note"} & {*RunFolder.open(whole.folder).manifest(), *RunFolder.open(tiled.folder).manifest()}
    (small,) = run_experiment(config(tmp_path, data="tree", **of_root, **{"model.image_size": 8})).runs
    (note,) = [record.getMessage() for record in caplog.records if record.levelname == "INFO"]
    assert "are 32x32 and are shrunk 4.0 times, for an input of 8x8: a defect of less than about 12 pixels" in note
    assert RunFolder.open(small.folder).manifest()["note"] == note


@pytest.mark.parametrize(
    ("reader", "spec", "expected"),
    [
        (ImageReader(sizes=((480, 640),)), InputSpec((224, 224)), r"640x480 .* 2\.9 times, .* 224x224: .* about 9 pixels"),
        (
            ImageReader(sizes=((480, 640),)),
            InputSpec((224, 224), "pad"),
            r"2\.9 times.*model\.image_size=448, .*data\.tile=320",
        ),
        (ImageReader(sizes=((480, 640), (960, 1280))), InputSpec((224, 224)), r"1280x960 and are shrunk 5\.7 times"),
        (ImageReader(sizes=((480, 640),)), InputSpec((112, 160)), r"model\.image_size=224,320"),
        (ImageReader(sizes=((768, 768),)), InputSpec((256, 256), "keep", (224, 224)), r"size=512 --set model\.center_crop=448"),
        (ImageReader(sizes=((900, 900),), roi=RegionOfInterest((0, 0, 300, 300))), InputSpec((224, 224)), "^$"),
        (
            ImageReader(sizes=((900, 900),), roi=RegionOfInterest((0, 0, 600, 450))),
            InputSpec((224, 224)),
            r"600x450.*2\.7 times",
        ),
        (ImageReader(), InputSpec((8, 8)), "^$"),
        (ImageReader(sizes=((447, 447),)), InputSpec((224, 224)), "^$"),
    ],
)
def test_how_much_is_lost_in_the_input(reader: ImageReader, spec: InputSpec, expected: str) -> None:
    assert re.search(expected, shrunk(reader, spec))
