"""Pictures of the oddest normal images: which are kept, and what stands in a run's rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import (
    NORMAL,
    Batch,
    Calibration,
    Hooks,
    InputSpec,
    NormalImage,
    Prediction,
    Registry,
    RunConfig,
    RunFolder,
    Sample,
)
from anomaly_report.hooks import Reporter
from anomaly_report.normals import KEPT, NormalGallery
from anomaly_report.report import write_report

SCALE = Calibration(0.5, 0.01, 3, "3 normal images", map_low=0.1, map_threshold=0.6, scores=(0.125, 0.25, 0.5))


def a_batch(scores: list[float], first: int = 0, side: int = 100, maps: bool = True) -> tuple[Batch, Prediction]:
    generator = torch.Generator().manual_seed(first)
    samples = [Sample(Path(f"/good parts/{first + n}.png"), NORMAL, None, "bolts", "good") for n in range(len(scores))]
    images, drawn = (torch.rand(len(scores), channels, side, side, generator=generator) for channels in (3, 1))
    labels = torch.zeros(len(scores), dtype=torch.int64)
    batch = Batch(images, labels, None, labels.bool(), samples)
    return batch, Prediction(torch.tensor(scores), drawn if maps else None)


def rows(count: int) -> list[NormalImage]:
    return [NormalImage(f"/good parts/{n}.png", "bolts", 0.0) for n in range(count)]


def test_the_highest_are_kept_and_no_more(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).permutation(100).astype(float)
    scores[17] = np.nan
    gallery, normals = NormalGallery(tmp_path, "all"), rows(100)
    for first in range(0, 100, 7):
        gallery.consider(*a_batch(scores[first : first + 7].tolist(), first, side=8))
        assert len(gallery._kept) <= KEPT
    gallery.draw(normals, SCALE)
    highest = np.argsort(-np.nan_to_num(scores, nan=-1))[:KEPT]
    assert {n for n, row in enumerate(normals) if row.picture} == set(highest)
    assert normals[highest[0]].picture == f"suspects/0000-{highest[0]}.png"
    assert sorted(f"suspects/{path.name}" for path in (tmp_path / "suspects").iterdir()) == sorted(
        row.picture for row in normals if row.picture
    )


@pytest.mark.parametrize("maps, panels", [(True, 3), (False, 1)])
def test_a_picture_shows_the_image_as_it_was_scored_and_its_map(tmp_path: Path, maps: bool, panels: int) -> None:
    batch, prediction = a_batch([1.0, 2.0], maps=maps)
    gallery, normals = NormalGallery(tmp_path, 1), rows(2)
    gallery.consider(batch, prediction)
    expected = (batch.images[1].permute(1, 2, 0).numpy() * 255).round()
    batch.images.zero_()  # the batch's memory is used again
    gallery.draw(normals, SCALE)
    assert not normals[0].picture
    with Image.open(tmp_path / normals[1].picture) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] >= 100 * panels
    top = next(y for y in range(pixels.shape[0]) if np.array_equal(pixels[y, :100], expected[0]))
    np.testing.assert_array_equal(pixels[top : top + 100, :100], expected)


def test_what_was_dropped_keeps_its_picture_when_the_rest_is_scored_again(tmp_path: Path) -> None:
    gallery, normals = NormalGallery(tmp_path, 2), rows(3)
    gallery.consider(*a_batch([1.0, 9.0, 3.0]))
    gallery.draw(normals, SCALE)
    dropped = normals[1].picture
    gallery.consider(*a_batch([1.0], first=0))
    gallery.consider(*a_batch([2.0], first=2))
    again = rows(3)
    gallery.draw(again, SCALE)
    assert again[1].picture == dropped and again[2].picture == normals[2].picture
    assert len({row.picture for row in again}) == 3 == len(list((tmp_path / "suspects").iterdir()))


@pytest.mark.parametrize("pictures", [0, 3])
def test_a_run_draws_them_through_the_hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: int) -> None:
    monkeypatch.setenv("ANOMALY_PLUGINS", "anomaly-report")
    monkeypatch.setattr("anomaly_report.hooks.OBSERVERS", Reporter())
    failures: list[str] = []
    hooks, run = Hooks(Registry(), failures.append), RunFolder(tmp_path)
    overrides = {"base.pictures": pictures, "data.normal": str(tmp_path)}
    run.write("config.yaml", RunConfig.create(model="vanilla_ae", data="folder", overrides=overrides).to_yaml())
    batch, prediction = a_batch([1.0, 2.0, 3.0, 4.0, 5.0], side=100)
    batch.samples = [replace(sample, path=tmp_path / sample.path.name) for sample in batch.samples]
    for sample in batch.samples:
        Image.new("RGB", (400, 200)).save(sample.path)
    normals = [NormalImage(str(sample.path), sample.category, 0.0) for sample in batch.samples]
    spec = InputSpec((100, 100))
    hooks.call("anomaly_normals_scored", run=run, batch=batch, prediction=prediction, input_spec=spec)
    hooks.call("anomaly_calibrated", run=run, normals=normals, calibration=SCALE)
    assert failures == []
    assert [bool(row.picture) for row in normals] == [n >= 5 - pictures for n in range(5)]
    for row in normals[5 - pictures :]:
        with Image.open(tmp_path / row.picture) as picture:
            assert picture.width >= 3 * 200 > 4.5 * picture.height, "images keep their shape"


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take seconds to draw."""
    monkeypatch.setattr("anomaly_report.report.write_figures", lambda *_: [])


def write_normals(folder: Path, pictures: list[str]) -> None:
    normals = [NormalImage(f"/good/{n}<b>.png", "m6", 10.0 - n, None, True, n == 0, name) for n, name in enumerate(pictures)]
    RunFolder(folder).write_rows("normals.csv", [row.to_row() for row in [*normals, NormalImage("/good/x.png", "m6", 1.0)]])


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("alone", [False, True])
def test_the_page_shows_them(make_run: Callable[..., Path], tmp_path: Path, alone: bool) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "suspects").mkdir()
    Image.new("RGB", (60, 20)).save(folder / "suspects" / "0.png")
    write_normals(folder, ["suspects/0.png", "../secret.png", ""])
    page = write_report(folder, tmp_path / "page.html" if alone else None).read_text(encoding="utf-8")
    section = page[page.index('<section id="suspects"') : page.index('<section id="gallery"')]
    assert "3 of 4 normal images score far above the others" in section
    assert section.count("<img") == 1 and ("data:image/png" if alone else "suspects/0.png") in section
    assert 'width="60" height="20"' in section and "0&lt;b&gt;.png" in section
    assert section.count("the run was fitted without it") == 1
    assert "secret.png&#39; is left out" in page


@pytest.mark.usefixtures("no_figures")
def test_a_page_of_a_run_without_a_list_has_no_such_section(make_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert 'id="suspects"' not in write_report(folder).read_text(encoding="utf-8")
    write_normals(folder, [])
    assert 'id="suspects"' not in write_report(folder).read_text(encoding="utf-8")
    (folder / "normals.csv").write_text("path,score\nx,high\n")
    page = write_report(folder, verify=False).read_text(encoding="utf-8")
    assert 'id="suspects"' not in page and "The odd normal images are left out" in page
