"""Pictures of verdicts, without a browser."""

from __future__ import annotations

import dataclasses
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from anomaly_serve.page.pictures import NOTHING, THUMBNAIL, Pictures, _coloured, overlay_of
from anomaly_serve.testing import as_file, grey_image


@pytest.fixture
def pictures(running):
    return Pictures(running.service)


def kept(running, file, name):
    return running.service.score("bolt", file, name=name).result(20).judgement


def opened(data):
    return Image.open(BytesIO(data))


def test_thumbnails_are_small_upright_and_made_once(running, pictures, monkeypatch):
    file = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the picture is taller than wide
    Image.fromarray(grey_image(480, 640)).save(file, "jpeg", exif=exif)
    judgement = kept(running, file.getvalue(), "turned")
    data, media = pictures.thumbnail(judgement.id)
    assert media == "image/jpeg" and opened(data).size == (THUMBNAIL * 3 // 4, THUMBNAIL)
    monkeypatch.setattr(running.store, "image", lambda identity: pytest.fail("read again"))
    assert pictures.thumbnail(judgement.id)[0] is data


def test_a_region_is_cut_out_with_what_is_around_it(running, pictures):
    judgement = kept(running, as_file(grey_image(96, 128, spot=True)), "spot")
    (region,) = judgement.regions
    data, media = pictures.region(judgement, 0)
    pixels = np.asarray(opened(data)).astype(int)
    assert media == "image/jpeg" and pixels.shape == (THUMBNAIL, THUMBNAIL, 3)
    middle, corner = pixels[THUMBNAIL // 2, THUMBNAIL // 2], pixels[4, 4]
    assert middle.min() > 220 and corner.max() < 160  # the white spot; the grey around it
    outlined = (pixels[..., 2] - pixels[..., 0]) > 80
    assert outlined.any() and not outlined[:20].any() and region["area"] > 0
    assert pictures.region(judgement, 1) == (NOTHING, "image/svg+xml")


def test_what_a_browser_does_not_show_is_sent_as_png(running, pictures):
    image = grey_image(40, 60)
    judgement = kept(running, as_file(image, "tiff"), "a.tif")
    data, media = pictures.image(judgement.id)
    assert media == "image/png" and (np.asarray(opened(data)) == image).all()
    deep = BytesIO()
    Image.fromarray(np.full((40, 60), 30000, np.uint16)).save(deep, "png")
    judgement = kept(running, deep.getvalue(), "deep.png")
    assert pictures.image(judgement.id) == (deep.getvalue(), "image/png")


def test_a_picture_of_nothing_where_none_is_kept(running, pictures):
    image = as_file(grey_image())
    judgement = running.service.score("bolt", image, name="gone", keep=False).result(20).judgement
    assert pictures.thumbnail(judgement.id) == pictures.image(judgement.id) == (NOTHING, "image/svg+xml")
    assert pictures.overlay(judgement) is None


def test_the_overlay_is_clear_where_the_map_is_normal():
    values = np.array([[0.0, 0.1, 0.5, 0.75, 1.0, 9.0, np.nan]], np.float32)
    pixels = np.asarray(opened(_coloured(values, 0.1, 0.5)))[0]
    assert pixels[:2, 3].tolist() == [0, 0] and pixels[-1, 3] == 0  # typical pixels, and what is not known
    assert pixels[2:6, 3].tolist() == sorted(pixels[2:6, 3]) and pixels[2, 3] > 100
    assert pixels[5].tolist() == [190, 0, 70, 235] and (pixels[2, :2] > 180).all()  # red; yellow
    for low, threshold in ((None, None), (0.5, 0.5), (None, 1.0)):
        assert opened(_coloured(np.zeros((3, 4), np.float32), low, threshold)).size == (4, 3)


def test_the_overlay_has_the_threshold_of_the_verdict_and_a_bounded_size(running, pictures):
    judgement = kept(running, as_file(grey_image(spot=True)), "spot")
    version = running.service.product("bolt").active
    before = pictures.overlay(judgement)
    running.service.apply_settings("bolt", 1, version.settings.calibration.with_threshold(0.01), None, "anna", "a test")
    assert Pictures(running.service).overlay(judgement) == before
    values = np.zeros((1300, 2600), np.float32)
    values[1299, 2599] = 9
    now = running.service.product("bolt").active
    overlay = overlay_of(values, now, dataclasses.replace(judgement, size=(1300, 2600)))
    pixels = np.asarray(opened(overlay.png))
    assert pixels.shape == (434, 867, 4) and pixels[433, 866, 3] > 200  # no peak is lost
    assert overlay.frame == pytest.approx((0, 0, 2601, 1302))
