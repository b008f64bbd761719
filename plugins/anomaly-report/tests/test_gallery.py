"""Which test images are shown, what is kept of them, and the hooks that draw them."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import Batch, Calibration, Hooks, Prediction, Registry, RunConfig, RunFolder, Sample, TestedImage
from anomaly_report import gallery as module
from anomaly_report.gallery import Gallery
from anomaly_report.hooks import Reporter
from anomaly_report.pictures import heat_map

SCALE = Calibration(0.5, 0.01, 3, "3 held-out normal images", map_low=0.1, map_threshold=0.6, scores=(0.125, 0.25, 0.5))


def a_batch(kinds: str, first: int = 0, *, side: int = 12) -> tuple[Batch, Prediction, list[TestedImage]]:
    """An image for each letter of ``kinds``, which is its defect (``g``: a good one); masks of all but those of ``u``."""
    generator = torch.Generator().manual_seed(first)
    samples = [Sample(Path(f"/data/{first + n}.png"), int(kind != "g"), None, "bolts", kind) for n, kind in enumerate(kinds)]
    count = len(kinds)
    images, maps = (torch.rand(count, channels, side, side, generator=generator) for channels in (3, 1))
    has_mask = torch.tensor([kind != "u" for kind in kinds])
    labels = torch.tensor([sample.label for sample in samples])
    scores = torch.rand(count, generator=generator)
    rows = [
        TestedImage(str(sample.path), sample.category, sample.defect, sample.label, score)
        for sample, score in zip(samples, scores.tolist(), strict=True)
    ]
    return Batch(images, labels, maps > 0.9, has_mask, samples), Prediction(scores, maps), rows


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
        assert [reference() for reference in gone] == [None, None, None] and not any(gallery._kept.values())
    gallery.draw()
    assert len(list((tmp_path / "maps").iterdir())) == 8


def test_some_pictures_are_no_more_than_that_many_of_every_kind(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, 3, SCALE)
    everything = []
    for first in range(0, 20, 4):
        batch, prediction, rows = a_batch("gdgd", first)
        gallery.consider(batch, prediction, rows)
        everything += rows
        kept = [candidate for queue in gallery._kept.values() for candidate in queue]
        assert len(kept) == 3
        whole = (batch.images.numpy(), batch.masks.numpy(), prediction.maps.numpy())
        for part, candidate in itertools.product(whole, kept):
            for copy in (candidate.image, candidate.mask, candidate.anomaly_map):
                assert not np.shares_memory(copy, part), "a view would keep the whole batch in memory"
    assert not (tmp_path / "maps").exists()
    gallery.draw()
    names = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert names == ["0000-bolts-g-0.png", "0001-bolts-d-1.png", "0002-bolts-g-2.png"]
    assert [row.picture for row in everything] == [*(f"maps/{name}" for name in names), *[""] * 17]


def test_a_false_alarm_is_shown_though_it_comes_last(tmp_path: Path) -> None:
    batch, prediction, rows = a_batch("ggggd")
    for row, verdict in zip(rows, (False, False, False, True, True), strict=True):
        row.is_anomalous = verdict
    gallery = Gallery(tmp_path, 3, SCALE)
    gallery.consider(batch, prediction, rows)
    gallery.draw()
    assert [bool(row.picture) for row in rows] == [True, False, False, True, True]


def in_turn(kinds: str, wanted: int) -> list[int]:
    """The positions that are shown, from all images at once: the first of each kind, then the second of each, ..."""
    queues = {kind: [n for n, other in enumerate(kinds) if other == kind] for kind in dict.fromkeys(kinds)}
    turns = itertools.zip_longest(*queues.values())
    return [n for turn in turns for n in turn if n is not None][:wanted]


def test_what_is_kept_on_the_way_is_what_would_be_chosen_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(module, "save_panel", lambda path, *_, **__: shown.append(path.stem.rpartition("-")[2]))
    random = np.random.default_rng(0)
    for _ in range(60):
        kinds = "".join(random.choice(list("gabcd"[: random.integers(1, 6)]), random.integers(1, 25)))
        wanted = int(random.integers(0, 9))
        gallery = Gallery(tmp_path, wanted, SCALE)
        for first in range(0, len(kinds), 5):
            gallery.consider(*a_batch(kinds[first : first + 5], first, side=2))
            assert sum(map(len, gallery._kept.values())) <= wanted
        shown.clear()
        gallery.draw()
        assert shown == [str(n) for n in in_turn(kinds, wanted)], (kinds, wanted)


def test_the_panel_shows_the_image_the_map_and_the_mask_where_it_is_known(tmp_path: Path) -> None:
    batch, prediction, rows = a_batch("du", side=100)
    Gallery(tmp_path, "all", SCALE).consider(batch, prediction, rows)
    for number, row in enumerate(rows):
        parts = [pixels(tmp_path / row.picture)[16:116, left : left + 100] for left in (0, 104, 208)]
        np.testing.assert_array_equal(parts[0], (batch.images[number].permute(1, 2, 0).numpy() * 255).round())
        np.testing.assert_array_equal(parts[1], heat_map(prediction.maps[number], SCALE))
        known = batch.masks[number, 0].numpy()[..., None] * 255
        np.testing.assert_array_equal(parts[2], np.broadcast_to(known if number == 0 else 200, (100, 100, 3)))


def test_a_reconstruction_stands_beside_the_image(tmp_path: Path) -> None:
    batch, prediction, rows = a_batch("g", side=100)
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


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> tuple[Hooks, list[str]]:
    """The hooks as the core calls them, and what it warns of."""
    monkeypatch.setenv("ANOMALY_PLUGINS", "anomaly-report")
    monkeypatch.setattr("anomaly_report.hooks.OBSERVERS", Reporter())
    failures: list[str] = []
    return Hooks(Registry(), failures.append), failures


def a_run(folder: Path, pictures: int | str) -> RunFolder:
    run = RunFolder(folder)
    overrides = {"base.pictures": pictures, "data.normal": str(folder)}
    run.write("config.yaml", RunConfig.create(model="vanilla_ae", data="folder", overrides=overrides).to_yaml())
    return run


def score(hooks: Hooks, run: RunFolder, kinds: str) -> list[TestedImage]:
    batch, prediction, rows = a_batch(kinds)
    hooks.call("anomaly_scored", run=run, batch=batch, prediction=prediction, rows=rows, calibration=SCALE)
    return rows


def test_runs_that_are_open_at_once_have_a_gallery_each(tmp_path: Path, hooks: tuple[Hooks, list[str]]) -> None:
    calls, failures = hooks
    first, second, third = (a_run(tmp_path / name, pictures) for name, pictures in (("a", 1), ("b", 2), ("c", "all")))
    rows = [score(calls, run, "gd") for run in (first, second, third)]
    for run in (second, third, first):
        calls.call("anomaly_tested", run=run, rows=[], calibration=SCALE)
    assert [[bool(row.picture) for row in part] for part in rows] == [[True, False], [True, True], [True, True]]
    assert [len(list((run.folder / "maps").iterdir())) for run in (first, second, third)] == [1, 2, 2]
    again = score(calls, first, "gd")
    calls.call("anomaly_tested", run=first, rows=[], calibration=SCALE)
    assert [row.picture for row in again] == ["maps/0000-bolts-g-0.png", ""], "what was drawn is forgotten"
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


class Opened:
    """A detector in use, as far as the observer looks at it."""

    calibration = SCALE


@dataclass
class Verdict:
    """As ``anomaly predict`` gives it, as far as the observer looks at it."""

    path: str
    regions: tuple[SimpleNamespace, ...] | None = None


def predicted(hooks: Hooks, path: str, picture: Path | None, regions: Any = None, **parts: np.ndarray | None) -> None:
    shape = {"scores": (1,), "maps": (1, 1, 100, 100)}
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (100, 100, 3), dtype=np.uint8)
    arrays = {**{name: random.random(size, dtype=np.float32) for name, size in shape.items()}, **parts}
    verdict = Verdict(path, regions)
    prediction = Prediction(**arrays)
    calls = {"verdict": verdict, "image": image, "prediction": prediction, "detector": Opened(), "picture": picture}
    hooks.call("anomaly_predicted", **calls)


def test_a_new_image_is_drawn_where_it_is_asked_for(tmp_path: Path, hooks: tuple[Hooks, list[str]]) -> None:
    calls, failures = hooks
    predicted(calls, "/line/a b.png", None)
    assert list(tmp_path.iterdir()) == []
    predicted(calls, "/line/a b.png", tmp_path / "maps" / "00007-a b.png")
    predicted(calls, f"/line/{'é-' * 100}.png", tmp_path / "maps" / f"123456-{'é-' * 100}.png", maps=None)
    reconstruction = np.zeros((1, 3, 100, 100), np.float32)
    predicted(calls, "/line/c.png", tmp_path / "maps" / "00008-c.png", reconstruction=reconstruction)
    assert failures == []
    shapes = {path.name: pixels(path).shape for path in (tmp_path / "maps").iterdir()}
    assert shapes == {
        "00007-a_b.png": (132, 3 * 104 - 4, 3),
        f"123456-{'_-' * 60}.png": (132, 100, 3),
        "00008-c.png": (132, 4 * 104 - 4, 3),
    }
    random = np.random.default_rng(0)
    image, _ = random.integers(0, 255, (100, 100, 3), dtype=np.uint8), random.random(1, dtype=np.float32)
    drawn = pixels(tmp_path / "maps" / "00007-a_b.png")
    np.testing.assert_array_equal(drawn[16:116, :100], image)
    np.testing.assert_array_equal(drawn[16:116, 104:204], heat_map(random.random((1, 100, 100), dtype=np.float32), SCALE))


def test_the_regions_of_a_new_image_are_drawn(
    tmp_path: Path, hooks: tuple[Hooks, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, failures = hooks
    drawn: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "save_panel", lambda *_, **options: drawn.append(options))
    region = SimpleNamespace(map_box=(1, 2, 3, 4))
    for regions in ((region, region), (region,), (), None):
        predicted(calls, "/line/a.png", tmp_path / "00000-a.png", regions=regions)
    assert failures == [] and [one["boxes"] for one in drawn] == [[(1, 2, 3, 4)] * 2, [(1, 2, 3, 4)], (), ()]
    assert [one["title"].partition("  ")[2][12:].strip() for one in drawn] == ["2 regions", "1 region", "no region", ""]


def test_an_image_that_could_not_be_read_has_no_picture(tmp_path: Path, hooks: tuple[Hooks, list[str]]) -> None:
    calls, failures = hooks
    none = {"image": None, "prediction": None, "detector": Opened(), "picture": tmp_path / "00000-a.png"}
    calls.call("anomaly_predicted", verdict=Verdict("a.png"), **none)
    assert list(tmp_path.iterdir()) == [] and failures == []


TORCH_FREE = """
import sys
sys.modules["torch"] = None
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from types import SimpleNamespace
from typing import Any
import numpy as np
from anomaly_report.hooks import OBSERVERS
from anomaly_core import Calibration, Prediction
class Opened:
    calibration = Calibration(0.5, 0.01, 3, "", 0.1, 0.6)
prediction = Prediction(np.ones(1, np.float32), np.ones((1, 1, 8, 8), np.float32))
image = np.zeros((8, 8, 3), np.uint8)
OBSERVERS.anomaly_predicted(SimpleNamespace(path="a.png", regions=None), image, prediction, Opened(), Path(sys.argv[1]))
print([name for name in ("matplotlib", "jinja2", "scipy", "anomaly_metrics") if name in sys.modules])
"""


def test_a_new_image_is_drawn_without_torch_and_without_what_pages_need(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TORCH_FREE, str(tmp_path / "00000-a.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
    assert (tmp_path / "00000-a.png").is_file()
