"""Colours of maps, the overlay, and the panels that are written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from anomaly_core import Calibration, InputSpec, RunError
from anomaly_report.frame import Frame
from anomaly_report.outlines import outlines
from anomaly_report.pictures import heat_map, overlay, reduced, relative, safe_name, save_panel

SCALE = Calibration(1.0, 0.01, 100, "test", map_low=2.0, map_threshold=5.0)


def ramp(low: float, high: float, height: int = 12, width: int = 100) -> torch.Tensor:
    return torch.linspace(low, high, width).expand(1, height, width)


def read(path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def test_one_colour_scale_for_a_whole_run():
    values = torch.tensor([[[0.0, 2.0, 3.5, 5.0, 8.0, 99.0]]])
    assert relative(values, SCALE).tolist() == [[0, 0, 0.25, 0.5, 1, 1]]
    alone = heat_map(torch.full((1, 4, 4), 5.0), SCALE)
    assert (alone == heat_map(ramp(5, 99), SCALE)[0, 0]).all(), "what else is in a map changes no colour"


@pytest.mark.parametrize("scale", [None, Calibration(1.0, 0.01, 100, "test"), Calibration(None, 0.01, 0, "", 3.0, 3.0)])
def test_without_a_scale_the_map_spans_its_own_range(scale):
    assert relative(torch.tensor([[[1.0, 2.0, 3.0]]]), scale).tolist() == [[0, 0.5, 1]]
    assert relative(torch.full((1, 2, 2), 7.0), scale).max() == 0, "a constant map is no division by zero"


def test_colours_brighten_as_values_grow():
    colours = heat_map(ramp(0, 1), None)
    assert colours.shape == (12, 100, 3)
    assert colours.dtype == np.uint8
    brightness = colours[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(brightness) > 0).all()
    assert brightness[0] < 5
    assert brightness[-1] > 230


def test_overlay_leaves_normal_pixels_alone_and_hides_no_anomalous_one():
    image = torch.full((3, 20, 20), 0.2)
    image[:, 7, 7] = 0.8
    anomaly_map = torch.full((1, 20, 20), 2.0)
    anomaly_map[0, 5:10, 5:10] = 99.0
    drawn = overlay(image, anomaly_map, SCALE)
    assert (drawn[0, 0] == 51).all()
    assert drawn[6, 6].sum() > 3 * 51
    assert drawn[7, 7].sum() - drawn[6, 6].sum() > 150, "the defect itself is still seen"


def test_panel_is_image_map_mask_overlay(tmp_path):
    generator = torch.Generator().manual_seed(0)
    image, anomaly_map = torch.rand(3, 60, 100, generator=generator), ramp(0, 4.9, 60, 100)
    mask = torch.zeros(1, 60, 100, dtype=torch.bool)
    path = tmp_path / "new" / "panel.png"
    save_panel(path, image, anomaly_map, mask, SCALE, title="bottle-broken-000  score 3.2 \N{GREEK SMALL LETTER SIGMA}")
    picture = read(path)
    assert picture.shape == (60 + 16 + 16, 4 * 100 + 3 * 4, 3)
    panels = [picture[16:76, left : left + 100] for left in (0, 104, 208, 312)]
    expected = [
        (image.permute(1, 2, 0).numpy() * 255).round(),
        heat_map(anomaly_map, SCALE),
        np.repeat(mask[0].numpy()[..., None] * 255, 3, axis=-1),
        overlay(image, anomaly_map, SCALE),
    ]
    for panel, wanted in zip(panels, expected, strict=True):
        assert (panel == wanted).all()
    assert [item.name for item in path.parent.iterdir()] == ["panel.png"], "nothing half-written stays"


def bluish(picture: np.ndarray) -> np.ndarray:
    """Where a picture in shades of grey has a line in cyan."""
    return picture[..., 2].astype(int) - picture[..., 0] > 60


def greenish(picture: np.ndarray) -> np.ndarray:
    return picture[..., 1].astype(int) - picture[..., 2] > 60


def test_lines_surround_what_exceeds_the_threshold_and_the_mask(tmp_path):
    image, anomaly_map = torch.full((3, 100, 120), 0.2), torch.full((1, 100, 120), 2.0)
    anomaly_map[0, 30:50, 20:60] = 5.5
    mask = torch.zeros(1, 100, 120, dtype=torch.bool)
    mask[0, 70:90, 70:90] = True
    save_panel(tmp_path / "a.png", image, anomaly_map, mask, SCALE)
    shown = read(tmp_path / "a.png")[16:, 3 * 124 :]
    away = np.ones((100, 120), dtype=bool)
    away[27:53, 17:63] = False
    inside = np.zeros((100, 120), dtype=bool)
    inside[33:47, 23:57] = True
    line = bluish(shown)
    assert not line[away].any() and not line[inside].any()
    assert line[29:31, 25:55].any(axis=0).all() and line[49:51, 25:55].any(axis=0).all(), "without gaps"
    assert line[32:48, 19:21].any(axis=1).all() and line[32:48, 59:61].any(axis=1).all()
    true = greenish(shown)
    assert true[69:71, 72:88].any(axis=0).all() and not true[73:87, 73:87].any() and not true[:66].any()
    for scale in (None, Calibration(1.0, 0.01, 100, "test"), replace(SCALE, map_threshold=5.5)):
        save_panel(tmp_path / "b.png", image, anomaly_map, None, scale)
        drawn = read(tmp_path / "b.png")[16:, 3 * 124 :]
        assert not bluish(drawn)[~inside].any(), "no threshold, or none that is exceeded: no line"


def test_a_line_is_smooth_at_the_size_at_which_it_is_drawn(tmp_path):
    y, x = np.mgrid[:16, :16] - 7.5
    round_map = (10 - np.hypot(x, y))[None]  # above 5 within 5 cells of the middle
    (line,) = outlines(round_map[0], 5.0, (320, 320))
    far = np.hypot(*(line - 160).T)
    assert len(line) > 20 and np.abs(far - 100).max() < 4, "no steps of the map's cells, which are 20 pixels wide"
    assert outlines(np.full((4, 4), np.nan), 0.0, (40, 40)) == [] and outlines(np.full((4, 4), 9.0), 0.0, (40, 40)) == []


@pytest.mark.parametrize(
    ("resize", "crop", "size", "edges", "proportions"),
    [
        ("stretch", None, (480, 640), (0, 0, 1, 1), (640, 480)),
        ("pad", None, (480, 640), (0, 1 / 8, 1, 7 / 8), (640, 480)),
        ("pad", None, (300, 100), (1 / 3, 0, 2 / 3, 1), (100, 300)),
        ("keep", None, (480, 640), (0, 0, 1, 1), (480, 480)),
        ("stretch", (120, 120), (480, 640), (0, 0, 1, 1), (320, 240)),
        ("pad", (200, 120), (480, 640), (0, 0.05, 1, 0.95), (320, 480)),
    ],
)
def test_a_frame_is_where_the_image_lies(resize, crop, size, edges, proportions):
    frame = Frame.of(InputSpec((240, 240), resize, crop), size)
    assert frame.edges == pytest.approx(edges, abs=0.003)
    assert (frame.width, frame.height) == pytest.approx(proportions, abs=1)


def test_round_parts_are_round_whatever_the_model_sees(tmp_path):
    """A disc in the middle of an image of 640 x 480, and a region whose box surrounds it."""
    picture = Image.new("RGB", (640, 480))
    ImageDraw.Draw(picture).ellipse((220, 140, 420, 340), fill="white")
    for resize, crop in (("stretch", None), ("pad", None), ("keep", None), ("stretch", (180, 200))):
        spec = InputSpec((240, 240), resize, crop)
        image = spec.array(picture).transpose(2, 0, 1) / 255
        rows, columns = spec.output_size
        bright = np.argwhere(image[0] > 0.5)
        (top, left), (bottom, right) = bright.min(axis=0), bright.max(axis=0) + 1
        frame = Frame.of(spec, (480, 640))
        path = tmp_path / f"{resize}.png"
        boxes = [(left, top, right, bottom)]
        save_panel(path, image, np.zeros((1, rows, columns)), None, SCALE, with_mask=False, boxes=boxes, frame=frame)
        drawn = read(path)[16:]
        tile = drawn[:, : (drawn.shape[1] - 8) // 3]
        across, down = (np.ptp(axis) + 1 for axis in np.nonzero(tile[..., 0] > 127)[::-1])
        assert abs(across - down) <= 2 and tile.shape[1] / tile.shape[0] == pytest.approx(frame.width / frame.height, rel=0.02)
        disc = np.argwhere(tile[..., 0] > 127)
        edge = (drawn[:, -tile.shape[1] :] == 255).all(axis=-1)
        for row, column in ((disc[:, 0].min(), tile.shape[1] // 2), (disc[:, 0].max(), tile.shape[1] // 2)):
            assert edge[row - 2 : row + 3, column].any(), "the box surrounds the disc"


def test_an_unknown_mask_does_not_look_like_an_empty_one(tmp_path):
    image, anomaly_map = torch.zeros(3, 50, 100), ramp(0, 9, 50)
    for name, mask in (("unknown", None), ("empty", torch.zeros(1, 50, 100, dtype=torch.bool))):
        save_panel(tmp_path / f"{name}.png", image, anomaly_map.expand(1, 50, 100), mask, SCALE)
    unknown, empty = (read(tmp_path / f"{name}.png") for name in ("unknown", "empty"))
    assert unknown.shape == empty.shape
    assert (empty[16:, 208:308] == 0).all()
    assert (unknown[16:, 208:308] == 200).all()
    assert (unknown[:16, 208:308] != empty[:16, 208:308]).any(), "the label says so too"


def test_without_a_map_the_image_and_the_mask_remain(tmp_path):
    save_panel(tmp_path / "a.png", torch.zeros(3, 50, 100), None, torch.ones(1, 50, 100, dtype=torch.bool), None)
    assert read(tmp_path / "a.png").shape == (50 + 16, 204, 3)


def test_small_images_are_enlarged_so_that_labels_fit(tmp_path):
    save_panel(tmp_path / "a.png", torch.rand(3, 16, 32), ramp(0, 9, 16, 32), None, SCALE)
    assert read(tmp_path / "a.png").shape == (3 * 16 + 16, 4 * 96 + 12, 3)


def test_same_input_same_bytes_and_old_files_are_replaced(tmp_path):
    for name in ("a.png", "b.png", "a.png"):
        save_panel(tmp_path / name, torch.zeros(3, 50, 100), ramp(0, 9, 50), None, SCALE)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match="cannot write"):
        save_panel(tmp_path / "file" / "a.png", torch.zeros(3, 50, 100), None, None, None)


def test_a_large_picture_is_reduced_and_no_small_defect_is_lost():
    random = np.random.default_rng(0)
    image, anomaly_map = random.random((3, 30, 40), dtype=np.float32), random.random((1, 30, 40), dtype=np.float32)
    small = reduced(image, 20)
    assert small.shape == (3, 15, 20) and small.dtype == np.float32
    np.testing.assert_allclose(small, image.reshape(3, 15, 2, 20, 2).mean(axis=(2, 4)), rtol=1e-5)
    np.testing.assert_array_equal(reduced(anomaly_map, 20), anomaly_map.reshape(1, 15, 2, 20, 2).max(axis=(2, 4)))
    mask = np.zeros((1, 30, 41), dtype=bool)
    mask[0, 29, 40] = True
    small_mask = reduced(mask, 20)
    assert small_mask.dtype == bool and small_mask.shape == (1, 15, 20) and small_mask.sum() == 1 and small_mask[0, -1, -1]
    assert reduced(image, 40).base is image or reduced(image, 40) is image, "what is small enough is not copied"


def test_a_large_panel_is_no_wider_than_its_parts_may_be(tmp_path):
    save_panel(tmp_path / "a.png", np.zeros((3, 8, 2048), np.float32), np.ones((1, 8, 2048), np.float32), None, None)
    assert read(tmp_path / "a.png").shape == (4 + 16, 4 * 1024 + 12, 3)


@pytest.mark.parametrize(
    ("name", "safe"),
    [("a b.png", "a_b.png"), ("../é/\\:*?", ".._______"), ("\udcff", "_"), ("x" * 200, "x" * 120), ("A-z_0.9", "A-z_0.9")],
)
def test_a_name_is_safe_as_that_of_a_file(name, safe):
    assert safe_name(name) == safe


def test_regions_are_boxed_and_numbered_on_the_overlay(tmp_path):
    image, anomaly_map = torch.full((3, 100, 120), 0.2), torch.full((1, 100, 120), 2.0)
    boxes = [(40, 30, 80, 60), (0, 0, 10, 10), (110, 90, 120, 100)]
    save_panel(tmp_path / "plain.png", image, anomaly_map, None, SCALE, with_mask=False)
    save_panel(tmp_path / "boxed.png", image, anomaly_map, None, SCALE, with_mask=False, boxes=boxes)
    plain, boxed = read(tmp_path / "plain.png"), read(tmp_path / "boxed.png")
    left, top = 2 * 124, 16
    assert (plain[:, :left] == boxed[:, :left]).all() and plain.shape == boxed.shape
    shown = boxed[top:, left:]
    white = (shown == 255).all(axis=-1)
    assert white[30, 40:80].all() and white[59, 40:80].all() and white[30:60, 40].all() and white[30:60, 79].all()
    assert not white[31:59, 41:79].any(), "what is in the box stays visible"
    assert white[99, 110:].all() and (shown[15:29, 40:52] < 100).any(), "a number in black, above its box"
    many = [(i, i, i + 4, i + 4) for i in range(60)]
    save_panel(tmp_path / "many.png", image, anomaly_map, None, SCALE, with_mask=False, boxes=many)
    save_panel(tmp_path / "first.png", image, anomaly_map, None, SCALE, with_mask=False, boxes=many[:20])
    assert (read(tmp_path / "many.png") == read(tmp_path / "first.png")).all()


def test_boxes_fit_a_map_that_is_shown_reduced(tmp_path):
    image, anomaly_map = torch.full((3, 500, 2048), 0.2), torch.full((1, 500, 2048), 2.0)
    save_panel(tmp_path / "wide.png", image, anomaly_map, None, SCALE, with_mask=False, boxes=[(1024, 100, 2048, 500)])
    shown = read(tmp_path / "wide.png")[16:, 2 * 1028 :]
    white = (shown == 255).all(axis=-1)
    assert (
        shown.shape[:2] == (250, 1024) and white[50, 512:].all() and white[50:, 512].all() and not white[51:249, 513:1023].any()
    )
