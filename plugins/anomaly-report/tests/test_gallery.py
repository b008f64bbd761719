"""Which test images are shown, what is kept of them, and the hooks that draw them at the end."""

from __future__ import annotations

import gc
import itertools
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import (
    Batch,
    Calibration,
    Hooks,
    ImageReader,
    InputSpec,
    Prediction,
    RunConfig,
    RunFolder,
    Sample,
    TestedImage,
)
from anomaly_report.gallery import Gallery
from anomaly_report.pictures import heat_map

SCALE = Calibration(0.5, 0.01, 3, "3 held-out normal images", map_low=0.1, map_threshold=0.6, scores=(0.125, 0.25, 0.5))


def a_batch(
    kinds: str, first: int = 0, *, side: int = 12, folder: Path = Path("/data"), scores: list[float] | None = None
) -> tuple[Batch, Prediction, list[TestedImage]]:
    """An image for each letter of ``kinds``, which is its defect (``g``: a good one); masks of all but those of ``u``."""
    generator = torch.Generator().manual_seed(first)
    samples = [Sample(folder / f"{first + n}.png", int(kind != "g"), None, "bolts", kind) for n, kind in enumerate(kinds)]
    count = len(kinds)
    images, maps = (torch.rand(count, channels, side, side, generator=generator) for channels in (3, 1))
    has_mask = torch.tensor([kind != "u" for kind in kinds])
    labels = torch.tensor([sample.label for sample in samples])
    drawn = torch.rand(count, generator=generator) if scores is None else torch.tensor(scores)
    rows = [
        TestedImage(str(sample.path), sample.category, sample.defect, sample.label, score, SCALE.is_anomalous(score))
        for sample, score in zip(samples, drawn.tolist(), strict=True)
    ]
    return Batch(images, labels, maps > 0.9, has_mask, samples), Prediction(drawn, maps), rows


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_all_pictures_are_drawn_at_once_and_none_is_kept(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, "all", SCALE)
    for first in (0, 4):
        batch, prediction, rows = a_batch("gdgd", first)
        gallery.consider(batch, prediction, rows)
        assert [row.picture for row in rows] == [
            f"maps/{first + n:04d}-bolts-{k}-{first + n}.png" for n, k in enumerate("gdgd")
        ]
        gone = [weakref.ref(batch.images), weakref.ref(batch.masks), weakref.ref(prediction.maps)]
        del batch, prediction
        gc.collect()
        assert [reference() for reference in gone] == [None, None, None] and not gallery._kept
    gallery.draw()
    assert len(list((tmp_path / "maps").iterdir())) == 8


def test_what_is_kept_until_the_end_is_bounded_and_copied(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, 3, SCALE)
    everything = []
    for first in range(0, 200, 4):
        batch, prediction, rows = a_batch("gdgd", first, side=4)
        gallery.consider(batch, prediction, rows)
        everything += rows
        assert len(gallery._kept) <= 2 * 3 + 6
        whole = (batch.images.numpy(), batch.masks.numpy(), prediction.maps.numpy())
        for part, candidate in itertools.product(whole, gallery._kept):
            for copy in (candidate.pixels.image, candidate.pixels.mask, candidate.pixels.anomaly_map):
                assert not np.shares_memory(copy, part), "a view would keep the whole batch in memory"
    assert not (tmp_path / "maps").exists()
    gallery.draw()
    pictured = [(number, row) for number, row in enumerate(everything) if row.picture]
    assert [row.picture for _, row in pictured] == [
        f"maps/{place:04d}-bolts-{row.defect}-{number}.png" for place, (number, row) in enumerate(pictured)
    ]
    misses = min((row for row in everything if row.label == 1), key=lambda row: row.score)
    alarms = max((row for row in everything if row.label == 0), key=lambda row: row.score)
    highest = max(everything, key=lambda row: row.score)
    assert {row.path for _, row in pictured} == {misses.path, alarms.path, highest.path}, "wherever in the test set they are"


def test_an_image_without_a_score_leaves_its_place_to_another(tmp_path: Path) -> None:
    batch, prediction, rows = a_batch("ggg")
    rows[0].score, rows[0].is_anomalous, rows[0].error = float("nan"), None, "no finite score"
    gallery = Gallery(tmp_path, 2, SCALE)
    gallery.consider(batch, prediction, rows)
    gallery.draw()
    assert [bool(row.picture) for row in rows] == [False, True, True]


def test_the_panel_shows_the_image_the_map_and_the_mask_where_it_is_known(tmp_path: Path) -> None:
    batch, prediction, rows = a_batch("du", side=100)
    gallery = Gallery(tmp_path, 2, SCALE)
    gallery.consider(batch, prediction, rows)
    gallery.draw()
    for number, row in enumerate(rows):
        parts = [pixels(tmp_path / row.picture)[16:116, left : left + 100] for left in (0, 104, 208)]
        np.testing.assert_array_equal(parts[0], (batch.images[number].permute(1, 2, 0).numpy() * 255).round())
        np.testing.assert_array_equal(parts[1], heat_map(prediction.maps[number], SCALE))
        known = batch.masks[number, 0].numpy()[..., None] * 255
        np.testing.assert_array_equal(parts[2], np.broadcast_to(known if number == 0 else 200, (100, 100, 3)))


@pytest.mark.parametrize(("pictures", "tiles"), [(4, [4, 4, 4]), ("all", [3, 4, 3])])
def test_a_mask_has_a_tile_where_the_data_set_has_masks(tmp_path: Path, pictures: int | str, tiles: list[int]) -> None:
    for kinds, expected in (("gdu", tiles), ("guu", [3, 3, 3])):
        batch, prediction, rows = a_batch(kinds, side=100)
        gallery = Gallery(tmp_path / kinds, pictures, SCALE)
        gallery.consider(batch, prediction, rows)
        gallery.draw()
        assert [(pixels(tmp_path / kinds / row.picture).shape[1] + 4) / 104 for row in rows] == expected


def test_a_reconstruction_stands_beside_the_image(tmp_path: Path) -> None:
    batch, prediction, rows = a_batch("d", side=100)
    prediction.reconstruction = 1 - batch.images
    gallery = Gallery(tmp_path, 1, SCALE)
    gallery.consider(batch, prediction, rows)
    gallery.draw()
    panel = pixels(tmp_path / rows[0].picture)
    assert panel.shape == (100 + 32, 5 * 104 - 4, 3)
    expected = (prediction.reconstruction[0].permute(1, 2, 0).numpy() * 255).round()
    np.testing.assert_array_equal(panel[16:116, 104:204], expected)


def test_without_maps_there_is_no_picture(tmp_path: Path) -> None:
    batch, prediction, rows = a_batch("gd")
    gallery = Gallery(tmp_path, "all", SCALE)
    gallery.consider(batch, Prediction(prediction.scores), rows)
    gallery.draw()
    assert not any(row.picture for row in rows) and list(tmp_path.iterdir()) == []


def a_run(folder: Path, pictures: int | str, **more: Any) -> RunFolder:
    """A run on images of 60 x 30 pixels."""
    run = RunFolder(folder)
    overrides = {"base.pictures": pictures, "data.normal": str(folder), **more}
    run.write("config.yaml", RunConfig.create(model="vanilla_ae", data="folder", overrides=overrides).to_yaml())
    run.write_json("images.json", ImageReader().to_dict())
    for number in range(2):
        Image.new("RGB", (60, 30)).save(folder / f"{number}.png")
    return run


def score(hooks: Hooks, run: RunFolder, kinds: str, *, side: int = 12, spec: InputSpec | None = None) -> list[TestedImage]:
    batch, prediction, rows = a_batch(kinds, folder=run.folder, side=side)
    parts = {"batch": batch, "prediction": prediction, "rows": rows, "input_spec": spec or InputSpec((side, side))}
    hooks.call("anomaly_scored", run=run, calibration=SCALE, **parts)
    return rows


@pytest.mark.parametrize(
    ("resize", "shape"), [("stretch", (120, 240)), ("pad", (60, 120)), ("keep", (120, 120))], ids=lambda value: str(value)
)
def test_a_picture_has_the_proportions_of_what_the_model_sees(
    tmp_path: Path, hooks: tuple[Hooks, list[str]], resize: Any, shape: tuple[int, int]
) -> None:
    calls, failures = hooks
    run = a_run(tmp_path, 2)
    rows = score(calls, run, "dd", side=120, spec=InputSpec((120, 120), resize))
    calls.call("anomaly_tested", run=run, rows=rows, calibration=SCALE)
    assert failures == [] and pixels(tmp_path / rows[0].picture).shape == (shape[0] + 32, 4 * (shape[1] + 4) - 4, 3)


def test_a_picture_of_tiles_is_the_image_itself(tmp_path: Path, hooks: tuple[Hooks, list[str]]) -> None:
    calls, failures = hooks
    run = a_run(tmp_path, 2, **{"data.tile": 64})
    rows = score(calls, run, "d", side=120)
    calls.call("anomaly_tested", run=run, rows=rows, calibration=SCALE)
    assert failures == [] and pixels(tmp_path / rows[0].picture).shape == (152, 4 * 124 - 4, 3)


def test_runs_that_are_open_at_once_have_a_gallery_each(tmp_path: Path, hooks: tuple[Hooks, list[str]]) -> None:
    calls, failures = hooks
    first, second, third = (a_run(tmp_path / name, pictures) for name, pictures in (("a", 1), ("b", 2), ("c", "all")))
    rows = [score(calls, run, "gd") for run in (first, second, third)]
    for run in (second, third, first):
        calls.call("anomaly_tested", run=run, rows=[], calibration=SCALE)
    assert [sorted(bool(row.picture) for row in part) for part in rows] == [[False, True], [True, True], [True, True]]
    assert [len(list((run.folder / "maps").iterdir())) for run in (first, second, third)] == [1, 2, 2]
    again = score(calls, first, "gd")
    calls.call("anomaly_tested", run=first, rows=[], calibration=SCALE)
    (picture,) = [row.picture for row in again if row.picture]
    assert picture.startswith("maps/0000-"), "what was drawn is forgotten"
    assert failures == []


def test_a_run_that_fails_is_forgotten(tmp_path: Path, hooks: tuple[Hooks, list[str]]) -> None:
    calls, failures = hooks
    run = a_run(tmp_path, 4)
    rows = score(calls, run, "gd")
    calls.call("anomaly_run_error", run=run, error=RuntimeError())
    calls.call("anomaly_tested", run=run, rows=[], calibration=SCALE)
    assert not any(row.picture for row in rows) and not (tmp_path / "maps").exists() and failures == []


@pytest.mark.parametrize("pictures", ["all", 4])
def test_what_cannot_be_drawn_is_one_warning(tmp_path: Path, hooks: tuple[Hooks, list[str]], pictures: int | str) -> None:
    calls, failures = hooks
    run = a_run(tmp_path, pictures)
    (tmp_path / "maps").write_text("a file where the folder must be")
    rows = score(calls, run, "gd") + score(calls, run, "gd")
    calls.call("anomaly_tested", run=run, rows=[], calibration=SCALE)
    (text,) = failures
    assert "cannot write" in text and "The run goes on" in text
    assert not any(row.picture for row in rows)
