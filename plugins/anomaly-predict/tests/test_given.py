"""The order of colours of what is given, and predictions with verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import Calibration, ConfigError, DataError, ImageReader, Prediction
from anomaly_predict import as_image, judged, placed, whole

RGB = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
ALPHA = np.full((9, 11, 1), 7, dtype=np.uint8)
BGR = RGB[..., ::-1]


@pytest.mark.parametrize(
    "image",
    [
        BGR,
        np.concatenate([BGR, ALPHA], axis=2),
        torch.from_numpy(BGR.copy()).permute(2, 0, 1),
        torch.from_numpy(BGR.copy()).permute(2, 0, 1) / 255,
    ],
)
def test_bgr_becomes_rgb(image: Any) -> None:
    assert np.array_equal(np.asarray(as_image(image, ImageReader(), "BGR")), RGB)


def test_grey_has_no_order() -> None:
    for image in (RGB[..., 0], RGB[..., :1]):
        assert np.array_equal(as_image(image, ImageReader(), "BGR"), as_image(image, ImageReader()))


def test_an_order_that_would_be_ignored_is_refused(tmp_path: Path) -> None:
    picture = Image.fromarray(RGB)
    picture.save(tmp_path / "a.png")
    for image, words in ((tmp_path / "a.png", r"a file, '.*a\.png', says"), (picture, "a PIL image says")):
        with pytest.raises(ConfigError, match=words):
            as_image(image, ImageReader(), "BGR")
    with pytest.raises(ConfigError, match="colour='bgr' is no order of colours: give RGB, or BGR"):
        as_image(RGB, ImageReader(), "bgr")


def test_batches_of_what_is_given_are_read_lazily() -> None:
    asked: list[tuple[int, str]] = []

    def place(image: int, *, colour: str = "RGB") -> Any:
        asked.append((image, colour))
        return image

    batches = placed(iter(range(5)), place, 2, "BGR")
    assert next(batches) == [0, 1] and asked == [(0, "BGR"), (1, "BGR")]
    assert list(batches) == [[2, 3], [4]]


@pytest.mark.parametrize("as_array", [np.asarray, torch.as_tensor])
def test_what_is_not_finite_has_no_verdict(as_array: Any) -> None:
    calibration = Calibration(2.0, 0.25, 3, "3 images", scores=(0.0, 1.0, 2.0))
    scores, maps = np.array([3, np.nan, np.inf, 1, 3], dtype=np.float32), np.zeros((5, 1, 2, 2), dtype=np.float32)
    maps[4, 0, 1, 1] = np.nan
    prediction = judged(Prediction(as_array(scores), as_array(maps)), calibration)
    np.testing.assert_array_equal(prediction.p_values, [0.25, np.nan, np.nan, 0.75, np.nan])
    with pytest.raises(DataError, match="no verdict on 3 of 5 images"):
        _ = prediction.is_anomalous
    joined = whole([prediction[:1], prediction[3:4]])
    assert joined.is_anomalous.tolist() == [True, False] and joined.maps.shape == (2, 1, 2, 2)
    assert joined.reconstruction is None and type(joined.scores) is type(prediction.scores)
    assert judged(Prediction(as_array(scores)), Calibration(None, 0.25, 0, "none")).is_anomalous is None
