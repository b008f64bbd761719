"""Every kind of image file that a line or a download has ever produced: read as it is meant, or refused by name."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import RunConfig, load_run, run_experiment
from anomaly_core.cli import main
from anomaly_core.errors import DataError
from anomaly_core.evaluate import evaluate
from anomaly_core.inputs import InputSpec, checked_size, image_size, read_image
from anomaly_core.screening import screen
from anomaly_core.types import Sample

pytestmark = [pytest.mark.usefixtures("unobserved"), pytest.mark.reliability("input")]

COLOUR = (200, 100, 50)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colour(size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.new("RGB", size, COLOUR)


def noise(size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 60,000 x 60,000 pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def rotated() -> bytes:
    """A JPEG that was taken with the camera on its side: 40 x 30 as stored, 30 x 40 upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(colour(), "JPEG", quality=95, exif=exif)


def animated() -> bytes:
    return encoded(colour(), "PNG", save_all=True, append_images=[Image.new("RGB", (40, 30), (0, 0, 255))])


def sixteen_bits() -> bytes:
    return encoded(Image.fromarray(np.full((30, 40), 25700, dtype=np.uint16)))


BAD: dict[str, bytes] = {
    "truncated.png": encoded(noise())[:2000],
    "truncated.jpg": encoded(noise(), "JPEG")[:1500],
    "empty.png": b"",
    "text.png": b"This is no picture.\n",
    "bomb.png": bomb(),
}
GOOD: dict[str, tuple[bytes, tuple[int, int], tuple[int, int, int]]] = {
    "cmyk.jpg": (encoded(colour().convert("CMYK"), "JPEG", quality=95), (30, 40), COLOUR),
    "palette.png": (encoded(colour().convert("P", palette=Image.Palette.ADAPTIVE)), (30, 40), COLOUR),
    "one-bit.png": (encoded(Image.new("1", (40, 30), 1)), (30, 40), (255, 255, 255)),
    "sixteen-bits.png": (sixteen_bits(), (30, 40), (100, 100, 100)),
    "alpha.png": (encoded(Image.new("RGBA", (40, 30), (*COLOUR, 10))), (30, 40), COLOUR),
    "grey-alpha.png": (encoded(Image.new("LA", (40, 30), (70, 10))), (30, 40), (70, 70, 70)),
    "animated.png": (animated(), (30, 40), COLOUR),
    "rotated.jpg": (rotated(), (40, 30), COLOUR),
    "point.png": (encoded(colour((1, 1))), (1, 1), COLOUR),
    "stripe.png": (encoded(colour((20_000, 10))), (10, 20_000), COLOUR),
    "new\nline.png": (encoded(colour()), (30, 40), COLOUR),
    os.fsdecode(b"l\xe4tin.png"): (encoded(colour()), (30, 40), COLOUR),
}


@pytest.mark.parametrize("name", GOOD)
def test_an_unusual_image_is_read_as_it_is_meant(name: str, tmp_path: Path) -> None:
    content, size, expected = GOOD[name]
    path = tmp_path / name
    path.write_bytes(content)
    image = read_image(path)
    assert image.mode == "RGB"
    assert (image.height, image.width) == image_size(path) == checked_size(path) == size
    centre = image.getpixel((image.width // 2, image.height // 2))
    assert np.abs(np.array(centre) - expected).max() <= 4
    for resize in ("stretch", "keep", "pad"):
        made = InputSpec((64, 48), resize).image(image)  # type: ignore[arg-type]
        assert made.shape == (3, 64, 48)
        assert float((made.mean(dim=(1, 2)) * 255 - torch.tensor(expected)).abs().max()) <= 4


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(BAD[name])
    with pytest.raises(DataError, match=name):
        read_image(tmp_path / name)
    with pytest.raises(DataError, match=name):
        checked_size(tmp_path / name)


def unreadable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is for a user without the right to read it; root may read everything."""
    path.chmod(0)
    real = Image.open

    def refusing(fp: Any, *arguments: Any, **options: Any) -> Any:
        if Path(fp) == path:
            raise PermissionError(13, "Permission denied", str(path))
        return real(fp, *arguments, **options)

    monkeypatch.setattr(Image, "open", refusing)


def texture(path: Path, seed: int, defect: bool = False) -> None:
    values = np.random.default_rng(seed).integers(100, 130, (48, 48, 3), dtype=np.uint8)
    if defect:
        values[10:30, 10:30] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def tree(root: Path) -> Path:
    for seed in range(6):
        texture(root / "train" / "good" / f"{seed}.png", seed)
    for seed in range(2):
        texture(root / "test" / "good" / f"{seed}.png", 10 + seed)
        texture(root / "test" / "hole" / f"{seed}.png", 20 + seed, defect=True)
    return root


def config(root: Path, output: Path, **more: Any) -> RunConfig:
    options = {
        "data.root": str(root),
        "data.holdout": 0.34,
        "model.image_size": 48,
        "base.output": str(output),
        "base.pictures": 0,
    }
    return RunConfig.create(model="patchcore", data="folder", preset="edge", overrides={**options, **more})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path / "parts")


def spoil(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every kind of bad image in a folder; their names."""
    for name, content in BAD.items():
        (folder / name).write_bytes(content)
    texture(folder / "forbidden.png", 50)
    unreadable(folder / "forbidden.png", monkeypatch)
    (folder / "dangling.png").symlink_to(folder / "gone.png")
    (folder / "folder.png").mkdir()
    return [*BAD, "forbidden.png", "dangling.png", "folder.png"]


def cli(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return stop.value.code, *capfd.readouterr()


@pytest.mark.parametrize("part", ["train/good", "test/good", "test/hole"])
def test_a_run_stops_before_training_and_names_the_file(
    part: str, root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomaly_core.trainers.memory.MemoryTrainer.fit", lambda *_: pytest.fail("it was trained"))
    (root / part / "broken.png").write_bytes(encoded(noise())[:2000])
    with pytest.raises(DataError, match=r"broken\.png.*data\.on_bad_image=skip"):
        run_experiment(config(root, tmp_path / "runs"))
    code, out, err = cli(
        capfd,
        *("run", "--model", "patchcore", "--data", "folder", "--preset", "edge", "--output", str(tmp_path / "runs")),
        *("--set", f"data.root={root}", "--set", "model.image_size=48"),
    )
    assert code == 1
    assert "broken.png" in err
    assert "Traceback" not in out + err
    manifest = json.loads(next((tmp_path / "runs").glob("*/*/*/*/manifest.json")).read_text())
    assert manifest["status"] == "failed"


def test_a_run_that_skips_lists_every_kind_and_scores_none_of_them(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {part: spoil(root / part, monkeypatch) for part in ("train/good", "test/good")}
    monkeypatch.setattr("PIL.Image.open", _refusing(*(root / part / "forbidden.png" for part in names)))
    result = run_experiment(config(root, tmp_path / "runs", **{"data.on_bad_image": "skip"}))
    manifest = json.loads((result.folder / "manifest.json").read_text())
    expected = {str(root / part / name) for part, bad in names.items() for name in bad}
    assert {item["path"] for item in manifest["skipped"]} == expected
    assert all(Path(item["path"]).name in item["reason"] for item in manifest["skipped"])
    assert manifest["data"]["fit"] + manifest["data"]["held_out"] == 6
    assert manifest["data"]["test"] == 4
    with (result.folder / "predictions.csv").open(newline="") as file:
        scored = {row["path"] for row in csv.DictReader(file)}
    assert scored == {str(path) for path in (root / "test").rglob("[01].png")}
    assert result.metrics["image_auroc"] == 1
    assert f"{len(expected)} images cannot be used" in (result.folder / "log.txt").read_text()
    with pytest.warns(UserWarning, match="8 images cannot be used"):
        again = evaluate(result.folder)
    assert len(again.predictions) == 4
    listed = json.loads((again.folder / "manifest.json").read_text())["skipped"]
    assert len(listed) == len(names["test/good"])


def _refusing(*paths: Path) -> Any:
    real = Image.open

    def refusing(fp: Any, *arguments: Any, **options: Any) -> Any:
        if not hasattr(fp, "read") and Path(fp) in paths:
            raise PermissionError(13, "Permission denied", str(fp))
        return real(fp, *arguments, **options)

    return refusing


def test_nothing_left_to_fit_or_to_test_is_an_error(root: Path, tmp_path: Path) -> None:
    for path in (root / "test").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 4 test images"):
        run_experiment(config(root, tmp_path, **{"data.on_bad_image": "skip"}))


def test_every_unusual_image_goes_through_run_predict_and_python(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, (content, _, _) in GOOD.items():
        for part in ("train/good", "test/good"):
            (root / part / name).write_bytes(content)
    result = run_experiment(config(root, tmp_path / "runs", **{"base.pictures": "all"}))
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert len(result.predictions) == 4 + len(GOOD)
    with (result.folder / "predictions.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert {Path(row["path"]).name for row in csv.DictReader(file)} >= set(GOOD)
    assert len(list((result.folder / "maps").iterdir())) == len(result.predictions)

    paths = [str(root / "test" / "good" / name) for name in GOOD]
    detector = load_run(result.folder)
    assert bool(detector.predict(paths).scores.isfinite().all())
    for form in ("csv", "jsonl"):
        done = cli(capfd, "predict", str(result.folder), *paths, *(["--jsonl"] if form == "jsonl" else []))
        assert done[0] == 0, done[2]
        if form == "jsonl":
            assert [json.loads(line)["path"] for line in done[1].splitlines()] == paths


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("finished")
    return run_experiment(config(tree(folder / "parts"), folder / "runs", **{"data.on_bad_image": "skip"})).folder


@pytest.mark.parametrize("name", [*BAD, "dangling.png", "forbidden.png"])
def test_predict_never_scores_a_bad_image(
    name: str, finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texture(tmp_path / "new" / "0.png", 60)
    texture(tmp_path / "new" / "z.png", 61)
    spoil(tmp_path / "new", monkeypatch)
    for other in (tmp_path / "new").glob("*.*"):
        if other.name not in ("0.png", "z.png", name) and not other.is_dir():
            other.unlink()
    with pytest.raises(DataError, match=name):
        load_run(finished).predict([tmp_path / "new" / "0.png", tmp_path / "new" / name])
    code, out, err = cli(capfd, "predict", str(finished), str(tmp_path / "new"))
    assert code == 1
    rows = {Path(row["path"]).name: row for row in csv.DictReader(out.splitlines())}
    assert sorted(rows) == sorted(["0.png", "z.png", name])
    assert {key: rows[name][key] for key in ("score", "is_anomalous", "p_value")} == dict.fromkeys(
        ("score", "is_anomalous", "p_value"), ""
    )
    assert all(float(rows[good]["score"]) >= 0 for good in ("0.png", "z.png"))
    assert name in err
    assert "1 could not be read" in err


def test_predict_names_a_bad_image_and_scores_the_others(root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = run_experiment(config(root, tmp_path / "runs")).folder
    (root / "test" / "good" / "broken.png").write_bytes(b"no picture")
    code, out, err = cli(capfd, "predict", str(folder), str(root / "test"))
    assert code == 1
    assert "cannot read the image" in err
    assert "broken.png" in err
    rows = {Path(row["path"]).name: row["score"] for row in csv.DictReader(out.splitlines())}
    assert rows.pop("broken.png") == ""
    assert rows
    assert all(rows.values())


def test_an_opened_image_that_turns_out_to_be_damaged(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "t.png").write_bytes(BAD["truncated.png"])
    with Image.open(tmp_path / "t.png") as image, pytest.raises(DataError, match=r"t\.png"):
        load_run(finished).predict(image)


def test_a_mask_that_cannot_be_read_or_does_not_fit_is_an_error_or_skips_its_image(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        texture(tmp_path / f"{name}.png", 1)
    (tmp_path / "a_mask.png").write_bytes(b"")
    Image.new("L", (48, 47), 255).save(tmp_path / "b_mask.png")
    Image.new("L", (48, 48), 0).save(tmp_path / "c_mask.png")
    samples = [Sample(tmp_path / f"{name}.png", 1, tmp_path / f"{name}_mask.png") for name in ("a", "b", "c")]
    with pytest.raises(DataError, match=r"mask .*a_mask\.png.*first of 2 of 3"):
        screen(samples, "error")
    found = screen(samples, "skip")
    assert found.kept == found.empty_masks == samples[2:]
    assert "48x47" in found.skipped[1].reason


@pytest.mark.skipif(sys.platform == "win32", reason="no such links without a right to make them")
def test_a_link_to_an_image_is_that_image(tmp_path: Path) -> None:
    texture(tmp_path / "real.png", 1)
    (tmp_path / "link.png").symlink_to("real.png")
    assert checked_size(tmp_path / "link.png") == (48, 48)
