"""The papers' presets say how they are judged, and the script of the papers' tables on miniature trees."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from anomaly_core import DataError, preset_names, registry

SMALL = ("model.image_size=32", "model.widths=4,8", "model.latent_dim=4", "train.epochs=1", "base.pictures=0")
FLAGS = [part for text in SMALL for part in ("--set", text)]


@pytest.mark.parametrize("model", list(registry.models))
def test_a_papers_preset_sets_size_crop_resolution_and_calibration(model: str) -> None:
    component = registry.models[model]
    papers = [name for name in preset_names(component) if name.startswith("paper")]
    assert papers
    package, _, folder = component.spec.presets.partition(":")
    for name in papers:
        text = (importlib.resources.files(package) / folder / f"{name}.yaml").read_text()
        preset = yaml.safe_load(text)
        assert {"image_size", "resize", "center_crop"} <= preset["model"].keys()
        assert preset["data"]["evaluate_at"] in ("input", "native")
        assert "holdout" in preset["data"] or preset["base"]["calibration"] == "cross"
        assert {"false_alarm_rate"} <= preset["base"].keys()


@pytest.fixture(scope="module")
def protocols() -> Any:
    path = Path(__file__).parents[2] / "benchmarks" / "protocols.py"
    spec = importlib.util.spec_from_file_location("protocols", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw(path: Path, spot: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(len(str(path)))
    image = random.integers(90, 130, (40, 32, 3), dtype=np.uint8)
    image[8:16, 8:16] = 250 if spot else image[8:16, 8:16]
    Image.fromarray(image).save(path)


def draw_mask(path: Path, value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((40, 32), dtype=np.uint8)
    mask[8:16, 8:16] = value
    Image.fromarray(mask).save(path)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """MVTec AD with two categories, VisA's original tree with one, BTAD with one."""
    root = tmp_path_factory.mktemp("data")
    rows = ["object,split,label,image,mask"]
    for n in range(4):
        for category in ("bottle", "grid"):
            draw(root / "mvtec" / category / "train" / "good" / f"{n}.png")
        draw(root / "btad" / "BTech_Dataset_transformed" / "01" / "train" / "ok" / f"{n}.bmp")
        draw(root / "visa" / "candle" / "Data" / "Images" / "Normal" / f"{n}.JPG")
        rows.append(f"candle,{'train' if n < 3 else 'test'},normal,candle/Data/Images/Normal/{n}.JPG,")
    for n in range(2):
        for category in ("bottle", "grid"):
            draw(root / "mvtec" / category / "test" / "good" / f"{n}.png")
            draw(root / "mvtec" / category / "test" / "spot" / f"{n}.png", spot=True)
            draw_mask(root / "mvtec" / category / "ground_truth" / "spot" / f"{n}_mask.png")
        tree = root / "btad" / "BTech_Dataset_transformed" / "01"
        draw(tree / "test" / "ok" / f"{n}.bmp")
        draw(tree / "test" / "ko" / f"{n}.bmp", spot=True)
        draw_mask(tree / "ground_truth" / "ko" / f"{n}.png")
        draw(root / "visa" / "candle" / "Data" / "Images" / "Anomaly" / f"{n}.JPG", spot=True)
        draw_mask(root / "visa" / "candle" / "Data" / "Masks" / "Anomaly" / f"{n}.png", value=1)
        rows.append(f"candle,test,anomaly,candle/Data/Images/Anomaly/{n}.JPG,candle/Data/Masks/Anomaly/{n}.png")
    (root / "visa" / "split_csv").mkdir()
    (root / "visa" / "split_csv" / "1cls.csv").write_text("\n".join(rows) + "\n")
    return {name: root / name for name in ("mvtec", "visa", "btad")}


@pytest.fixture(autouse=True)
def without_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take seconds a run and have tests of their own."""
    monkeypatch.setenv("ANOMALY_BLOCK", "anomaly-report")
    registry.refresh()
    yield
    monkeypatch.undo()
    registry.refresh()


def table(text: str, dataset: str, title: str) -> list[list[str]]:
    part = text.partition(f"# {dataset}\n")[2].partition(f"## {title}\n\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()]


def test_one_command_makes_the_tables_and_the_second_time_reads_them(
    protocols: Any, roots: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [part for name, folder in roots.items() for part in ("--root", f"{name}={folder}")]
    command = [*where, *FLAGS, "--model", "vanilla_ae", "--model", "vanilla_vae", "--output", str(tmp_path)]
    assert protocols.main(command) == 0
    text = (tmp_path / "protocols.md").read_text()
    for dataset, categories in (("MVTec AD", ["bottle", "grid"]), ("VisA", ["candle"]), ("BTAD", ["01"])):
        for title in ("image AUROC", "pixel AUROC", "AUPRO", "seconds to fit", "peak memory, MB"):
            head, _, *rows = table(text, dataset, title)
            assert head == ["category", "vanilla_ae", "vanilla_vae"]
            assert [row[0] for row in rows] == [*categories, "mean"]
            assert all(float(value) >= 0 for row in rows for value in row[1:])
            for column in (1, 2):
                values = [float(row[column]) for row in rows]
                assert values[-1] == pytest.approx(sum(values[:-1]) / len(categories), abs=0.51)
    assert "Pixels judged at: 32 × 32 pixels, the model's input." in text
    runs = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/*/*/manifest.json")}
    assert len(runs) == 8
    assert protocols.main(command) == 0
    assert (tmp_path / "protocols.md").read_text() == text
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/*/*/manifest.json")} == runs
    assert "left out" not in capsys.readouterr().err


def test_what_is_not_there_is_said(
    protocols: Any, roots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANOMALY_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="none of the data sets"):
        protocols.main(["--model", "vanilla_ae", "--output", str(tmp_path)])
    flags = ["--root", f"btad={roots['btad']}", *FLAGS, "--model", "vanilla_ae", "--model", "patchcore"]
    assert protocols.main([*flags, "--set", "model.backbone=no_such_network", "--output", str(tmp_path)]) == 1
    assert "left out: VisA" in capsys.readouterr().err
    text = (tmp_path / "protocols.md").read_text()
    assert [row[2] for row in table(text, "BTAD", "AUPRO")[2:]] == ["-", "-"]
    assert "- patchcore on btad/01, seed 0:" in text
