"""`anomaly suggest`: which settings it tries, how it judges them, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from anomaly_core import ConfigError, DataError, Interrupted, RunConfig, build_data
from anomaly_teach.commands.suggest import verdict
from anomaly_teach.suggest import Outcome, Trial, alike, area, command, recommended, tried
from anomaly_teach.suggest_images import Chosen, choose
from anomaly_teach.suggest_settings import Setting, quick_models, settings

Anomaly = Callable[..., Any]


def plate(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A cast plate with a bore: grain, light and place vary."""
    picture = np.full((height, width), 150 * rng.uniform(0.9, 1.1), dtype=np.float32)
    for cell, strength in ((6, 7), (24, 5), (2, 4)):
        noise = rng.standard_normal((height // cell + 1, width // cell + 1)).astype(np.float32)
        picture += strength * np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))
    bore = Image.new("L", (width, height))
    x, y = width / 2 + rng.uniform(-8, 8), height / 2 + rng.uniform(-8, 8)
    ImageDraw.Draw(bore).ellipse((x - height / 6, y - height / 6, x + height / 6, y + height / 6), fill=255)
    picture[np.asarray(bore) > 0] = 60
    return np.repeat(picture[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)


def hole(rng: np.random.Generator, width: int, height: int, size: int) -> np.ndarray:
    """A plate with a hole of ``size`` pixels beside the bore."""
    picture = plate(rng, width, height).astype(np.float32)
    x, y = rng.uniform(0.05, 0.25) * width, rng.uniform(0.1, 0.9) * height
    drawn = Image.new("L", (width * 4, height * 4))
    ImageDraw.Draw(drawn).ellipse((4 * x - 2 * size, 4 * y - 2 * size, 4 * x + 2 * size, 4 * y + 2 * size), fill=255)
    dark = np.asarray(drawn.reduce(4), dtype=np.float32)[..., None] / 255
    return (picture - 110 * dark).clip(0, 255).astype(np.uint8)


def write_plates(folder: Path, good: int, bad: int = 0, width: int = 96, height: int = 72, size: int = 6) -> Path:
    rng = np.random.default_rng(7)
    for name in ("good", "bad"):
        (folder / name).mkdir(parents=True)
    for number in range(good):
        Image.fromarray(plate(rng, width, height)).save(folder / "good" / f"{number:03d}.png")
    for number in range(bad):
        Image.fromarray(hole(rng, width, height, size)).save(folder / "bad" / f"{number:03d}.png")
    return folder


def folder_config(folder: Path, model: str = "patchcore", **options: Any) -> RunConfig:
    overrides = {"data.normal": str(folder / "good"), "data.normal_test_share": 0.1, **options}
    return RunConfig.create(model=model, data="folder", preset="edge", overrides=overrides)


def outcome(label: str, found: str, milliseconds: float, auroc: float = 0.9) -> Outcome:
    return Outcome(Setting("patchcore", label, {}, 1), auroc, [letter == "x" for letter in found], 50, milliseconds, 1.0)


def test_the_cheapest_comes_first_and_oblong_images_keep_their_shape(tmp_path: Path) -> None:
    configs = [folder_config(tmp_path, model) for model in ("patchcore", "padim")]
    found = [(s.model, s.label, s.options) for s in settings(configs, [(480, 640)] * 3)]
    sizes = [("224x224", {}), ("320x240", {"model.image_size": "240,320"}), ("448x336", {"model.image_size": "336,448"})]
    assert found == [(model, *size) for size in sizes for model in ("patchcore", "padim")]
    assert [s.label for s in settings(configs[:1], [(480, 640), (640, 480)])] == ["224x224", "320x320", "448x448"]
    assert [s.label for s in settings(configs[:1], [(90, 120)])] == ["224x224"]  # no image is enlarged any further
    more = settings([folder_config(tmp_path, "subspace"), *configs], [(480, 640)])
    assert [s.model for s in more[6:]] == ["subspace"] * 3  # after all sizes of the usual two


def test_large_images_are_tried_in_tiles(tmp_path: Path) -> None:
    tiled = [s for s in settings([folder_config(tmp_path)], [(1500, 2000)]) if "data.tile" in s.options]
    assert [(s.label, s.pixels / 448**2) for s in tiled] == [("448, tiles of 1067 px", 4), ("448, tiles of 728 px", 9)]
    for setting in tiled:  # as many as the run will cut
        config = RunConfig.create(
            model="patchcore", data="folder", preset="edge", overrides={**setting.options, "data.normal": str(tmp_path)}
        )
        tiling = build_data(config).tiling
        assert tiling is not None and len(tiling.boxes(1500, 2000)) == setting.pixels / 448**2


def test_quick_methods_leave_an_image_out_without_fitting_again() -> None:
    names = quick_models("edge")
    assert {"patchcore", "padim"} <= set(names) and not {"draem", "vanilla_ae", "stfpm"} & set(names)
    with pytest.raises(ConfigError, match="no installed method has the preset 'nope'"):
        quick_models("nope")


def test_what_finds_most_wins_and_a_cheaper_one_is_named_where_chance_explains_the_difference() -> None:
    cheap, better, most = outcome("a", "xx........", 10), outcome("b", "xxxxxxx...", 30), outcome("c", "xxxxxxxx..", 50)
    assert recommended([cheap, better, most]) is most
    assert alike([cheap, better, most], most) is better  # 1 more: chance; 6 more: p = 1/64
    assert alike([cheap, better], better) is None  # 5 more: p = 1/32
    close = outcome("a", "xxxx......", 10)
    assert alike([close, better], better) is close  # 3 more: p = 1/8
    slow = outcome("d", "xxxxxxxx..", 60)
    assert recommended([slow, most]) is most and alike([slow, most], most) is None
    failed = Outcome(Setting("padim", "z", {}, 1), error="no weights")
    assert recommended([failed, better]) is better and recommended([failed]) is None
    assert alike([failed, better], better) is None


def test_normal_images_that_raise_the_threshold_are_named_before_other_reasons_for_little_found() -> None:
    chosen = Chosen([], [(Path(f"{n}.png"), "hole") for n in range(10)], False, [])
    few = outcome("a", "x.........", 10)
    assert "Give more --minutes, for the settings that were not tried" in "".join(
        verdict([few], few, chosen, 0.01, None, 2, False)
    )
    few.odd = ["good/7.png"]
    text = "".join(verdict([few], few, chosen, 0.01, None, 2, False))
    assert "(1) raise the threshold of patchcore a: 'good/7.png'" in text and "fewer than half" not in text


def test_area_is_the_share_of_pairs_in_order() -> None:
    normal, anomalous = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0])
    assert area(normal, anomalous) == pytest.approx((1 + 0.5 + 3) / 6)


def test_the_budget_leaves_out_what_would_take_longer_and_tries_one_in_any_case() -> None:
    tried_settings, told = [Setting("m", str(n), {}, pixels) for n, pixels in enumerate((10, 20, 10**9))], list[str]()

    def slow(setting: Setting) -> Outcome:
        return Outcome(setting, found=[True], seconds=10.0)

    assert [one.setting.label for one in tried(tried_settings, slow, 0, told.append)] == ["0"]
    assert told[-1] == "not tried for lack of time: m 1, m 2. Raise --minutes."
    assert [one.setting.label for one in tried(tried_settings, slow, 1, told.append)] == ["0", "1"]
    assert told[-1] == "not tried for lack of time: m 2. Raise --minutes."


def test_the_command_quotes_what_a_shell_would_divide() -> None:
    setting = Setting("padim", "x", {"model.image_size": "336,448"}, 1)
    line = command(setting, "folder", "edge", "caps", ["data.normal=my good"])
    assert line.endswith("--category caps --set 'data.normal=my good' --set model.image_size=336,448")


def test_a_share_of_the_anomalous_images_chooses(tmp_path: Path) -> None:
    root = write_plates(tmp_path / "plates", good=20, bad=12)
    data = build_data(folder_config(root, **{"data.abnormal": str(root / "bad")}))
    chosen = choose(data, share=0.5, sizes=(), synthetic=False, folder=tmp_path, seed=0)
    assert (len(chosen.judged), chosen.synthetic, chosen.notes) == (6, False, [])
    assert len(chosen.normal) == 18  # those that test are left alone
    few = choose(data, share=0.25, sizes=(6,), synthetic=False, folder=tmp_path, seed=0)
    assert few.synthetic and "3 anomalous images are too few to choose by" in few.notes[0]


def test_synthetic_defects_lie_on_images_that_are_not_fitted(tmp_path: Path) -> None:
    root = write_plates(tmp_path / "plates", good=20)
    data = build_data(folder_config(root, **{"data.roi": "20,10,90,60"}))
    chosen = choose(data, share=0.5, sizes=(4, 8), synthetic=True, folder=tmp_path, seed=0)
    assert {group for _, group in chosen.judged} == {"4 px", "8 px"} and len(chosen.judged) == 64
    assert len(chosen.normal) == 18 - 3 and set(chosen.sizes) == {(50, 70)}
    originals = {path.name: np.asarray(Image.open(path)).astype(int) for path in (root / "good").iterdir()}
    fitted = {sample.path.name for sample in chosen.normal}
    for path, _ in chosen.judged:
        image = np.asarray(Image.open(path)).astype(int)
        name, changed = min(
            ((name, (original != image).any(axis=2)) for name, original in originals.items()), key=lambda pair: pair[1].sum()
        )
        assert name not in fitted and 0 < changed.sum() < 300
        rows, columns = np.nonzero(changed)
        assert columns.mean() >= 20 and rows.mean() >= 10


def test_what_is_left_out_neither_trains_nor_chooses(tmp_path: Path, anomaly: Anomaly) -> None:
    root = write_plates(tmp_path / "plates", good=18, bad=12, size=16)
    apart = [root / "good" / "003.png", root / "bad" / "002.png"]
    (tmp_path / "apart.txt").write_text("".join(f"{path}\n" for path in apart))
    options = {"data.abnormal": str(root / "bad"), "data.exclude": str(tmp_path / "apart.txt")}
    chosen = choose(build_data(folder_config(root, **options)), share=1, sizes=(), synthetic=False, folder=tmp_path, seed=0)
    assert len(chosen.judged) == 11
    assert not {*apart} & {*(sample.path for sample in chosen.normal), *(path for path, _ in chosen.judged)}
    assigned = [
        part for key, value in {"data.normal": root / "good", **options}.items() for part in ("--set", f"{key}={value}")
    ]
    done = anomaly("suggest", *assigned, "--model", "patchcore", "--minutes", 0, "--output", tmp_path / "out")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1].count("data.exclude=") == 1
    lines = (tmp_path / "out" / "chose.txt").read_text().splitlines()
    assert lines[:2] == [str(path.resolve()) for path in apart] and len(lines) > 6


def test_too_few_images_and_several_categories_are_errors(tmp_path: Path, anomaly: Anomaly) -> None:
    root = write_plates(tmp_path / "plates", good=8)
    with pytest.raises(DataError, match="needs 10 or more"):
        choose(build_data(folder_config(root)), share=0.5, sizes=(), synthetic=False, folder=tmp_path, seed=0)
    done = anomaly("suggest", "--set", f"data.normal={root / 'good'}", "--set", "data.tile=64")
    assert done.code == 2 and "decides data.tile itself (which tiles it tries). Leave it out." in done.err
    done = anomaly("suggest", "--data", "nope")
    assert done.code == 2 and "nope" in done.err
    done = anomaly("suggest", "--data", "sample", "--set", f"data.root={tmp_path / 'sample'}", "--set", "data.size=64",
                   "--set", "data.train_count=2")  # fmt: skip
    assert done.code == 2 and "has 5 categories" in done.err and "--category fabric" in done.err


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield write_plates(tmp_path_factory.mktemp("suggest") / "plates", good=18, bad=12, size=16)


def test_the_table_and_the_command(plates: Path, anomaly: Anomaly, tmp_path: Path) -> None:
    folders = ["--set", f"data.normal={plates / 'good'}", "--set", f"data.abnormal={plates / 'bad'}"]
    done = anomaly("suggest", *folders, "--model", "patchcore", "--minutes", 0, "--output", tmp_path / "out")
    assert done.code == 0, done.err
    assert "[1/1] patchcore 224x224" in done.err
    assert "found of 6" in done.out and "->" in done.out and "synthetic" not in done.out
    assert "6 anomalous images have now chosen a setting: they are no fair test of it any more." in done.out
    line = done.out.strip().splitlines()[-1]
    assert line.startswith("  anomaly run --model patchcore --data folder --preset edge --set data.normal=")
    assert f"data.exclude={tmp_path / 'out' / 'chose.txt'}" in line
    facts = json.loads((tmp_path / "out" / "suggest.json").read_text())
    (row,) = facts["settings"]
    assert row["found"] == sum(1 for _ in range(row["found_bad"])) and row["judged"] == 6 and row["recommended"]
    assert row["normal"] == 14 and row["auroc"] > 0.9  # 18, without the fifth that tests
    assert len((tmp_path / "out" / "chose.txt").read_text().splitlines()) == 6
    assert (tmp_path / "out" / "suggest.csv").read_text().startswith("model,input,options,found,judged,found_bad,")


def test_interrupted_it_shows_what_is_known(plates: Path, anomaly: Anomaly, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Trial.outcome, list[Setting]()

    def once(self: Trial, setting: Setting) -> Outcome:
        calls.append(setting)
        if len(calls) > 1:
            raise Interrupted
        return real(self, setting)

    monkeypatch.setattr(Trial, "outcome", once)
    done = anomaly("suggest", "--set", f"data.normal={plates / 'good'}", "--defect-size", 12, "--model", "patchcore",
                   "--model", "padim")  # fmt: skip
    assert done.code == 130
    assert "(synthetic)" in done.out and "Interrupted: settings that were not reached may be better." in done.out
    assert "synthetic: holes, scratches" in done.out and "anomaly run --model patchcore" in done.out


@pytest.mark.soak
def test_it_finds_the_size_that_shows_the_defect(tmp_path: Path, anomaly: Anomaly) -> None:
    """Plates of 640 x 480 with holes of 6 pixels: 224 pixels do not show them, 448 do."""
    root = write_plates(tmp_path / "plates", good=40, bad=12, width=640, height=480, size=6)
    options = {"data.normal": root / "good", "data.abnormal": root / "bad", "data.normal_test_share": 0.05}
    assigned = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
    fair = ["--model", "patchcore", "--minutes", 60, "--share", 1]
    done = anomaly("suggest", *assigned, *fair, "--output", tmp_path / "out")
    assert done.code == 0, done.err
    found = {row["input"]: row["found"] for row in json.loads((tmp_path / "out" / "suggest.json").read_text())["settings"]}
    assert 2 * found["224x224"] < found["448x336"] >= 8
    assert "model.image_size=336,448" in done.out.splitlines()[-1]
