"""The pictures of new images, which ``anomaly predict --maps`` requests."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly_core import Calibration, Hooks, ImageReader, InputSpec, Prediction
from anomaly_report import gallery as module
from anomaly_report.pictures import heat_map

SCALE = Calibration(0.5, 0.01, 3, "3 held-out normal images", map_low=0.1, map_threshold=0.6, scores=(0.125, 0.25, 0.5))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


class Opened:
    """A detector in use, as far as the observer looks at it."""

    calibration, reader = SCALE, ImageReader()

    def __init__(self, input_spec: InputSpec | None = None) -> None:
        self.input_spec = input_spec


@dataclass
class Verdict:
    """As ``anomaly predict`` gives it, as far as the observer looks at it."""

    path: str
    regions: tuple[SimpleNamespace, ...] | None = None
    size: tuple[int, int] = (50, 200)


def predicted(
    hooks: Hooks,
    path: str,
    picture: Path | None,
    regions: Any = None,
    spec: InputSpec | None = None,
    **parts: np.ndarray | None,
) -> None:
    shape = {"scores": (1,), "maps": (1, 1, 100, 100)}
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (100, 100, 3), dtype=np.uint8)
    arrays = {**{name: random.random(size, dtype=np.float32) for name, size in shape.items()}, **parts}
    verdict = Verdict(path, regions)
    prediction = Prediction(**arrays)
    calls = {"verdict": verdict, "image": image, "prediction": prediction, "detector": Opened(spec), "picture": picture}
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


def test_a_new_image_has_its_own_proportions(tmp_path: Path, hooks: tuple[Hooks, list[str]]) -> None:
    calls, failures = hooks
    for resize, shape in (("stretch", (100, 400)), ("pad", (25, 100)), ("keep", (100, 100))):
        spec = InputSpec((100, 100), resize)  # type: ignore[arg-type]
        predicted(calls, "/line/a.png", tmp_path / f"{resize}-a.png", spec=spec)
        assert pixels(tmp_path / f"{resize}-a.png").shape == (shape[0] + 32, 3 * (shape[1] + 4) - 4, 3)
    assert failures == []


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
import numpy as np
from anomaly_report.hooks import OBSERVERS
from anomaly_core import Calibration, ImageReader, InputSpec, Prediction
class Opened:
    calibration, reader, input_spec = Calibration(0.5, 0.01, 3, "", 0.1, 0.6), ImageReader(), InputSpec((8, 8))
prediction = Prediction(np.ones(1, np.float32), np.ones((1, 1, 8, 8), np.float32))
image = np.zeros((8, 8, 3), np.uint8)
Verdict = SimpleNamespace(path="a.png", regions=None, size=(8, 16))
OBSERVERS.anomaly_predicted(Verdict, image, prediction, Opened(), Path(sys.argv[1]))
print([name for name in ("matplotlib", "jinja2", "scipy", "anomaly_metrics") if name in sys.modules])
"""


def test_a_new_image_is_drawn_without_torch_and_without_what_pages_need(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TORCH_FREE, str(tmp_path / "00000-a.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
    assert (tmp_path / "00000-a.png").is_file()
