"""Miniature trees with the quirks of the published data sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def draw(path: Path, size: tuple[int, int] = (24, 16), value: int = 120, mode: str = "RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "I;16":
        Image.fromarray(np.full(size[::-1], value * 257, dtype=np.uint16)).save(path)
    else:
        Image.new(mode, size, value if mode == "L" else (value, value // 2, 10)).save(path, **options)
    return path


def draw_mask(path: Path, size: tuple[int, int] = (24, 16), values: tuple[int, ...] = (255,)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size[::-1], dtype=np.uint8)
    for column, value in enumerate(values):
        mask[4:8, 4 + 4 * column : 8 + 4 * column] = value
    Image.fromarray(mask).save(path)
    return path


@pytest.fixture
def picture():
    return draw


@pytest.fixture
def mask():
    return draw_mask


@pytest.fixture
def mvtec_tree(tmp_path: Path) -> Path:
    """Two categories: one grey-scale; file names that sort naturally; one image without its mask."""
    root = tmp_path / "mvtec"
    for category, mode in (("bottle", "RGB"), ("grid", "L")):
        for index in (2, 10, 1):
            draw(root / category / "train" / "good" / f"{index}.png", mode=mode)
        draw(root / category / "test" / "good" / "000.png", mode=mode)
        for index in (0, 1):
            draw(root / category / "test" / "broken" / f"{index:03d}.png", mode=mode)
        draw_mask(root / category / "ground_truth" / "broken" / "000_mask.png")
    (root / "bottle" / "train" / "good" / "._1.png").write_bytes(b"not an image")
    (root / "readme.txt").write_text("x")
    return root


@pytest.fixture
def visa_tree(tmp_path: Path) -> Path:
    """The original tree: JPG in capitals, sizes that differ, a rotated one, masks of class indices 1 and 2."""
    root = tmp_path / "visa"
    images = root / "candle" / "Data" / "Images"
    rows = ["object,split,label,image,mask"]
    for index, size in enumerate(((24, 16), (32, 20), (16, 24))):
        draw(images / "Normal" / f"{index:04d}.JPG", size)
        part = "train" if index < 2 else "test"
        rows.append(f"candle,{part},normal,candle/Data/Images/Normal/{index:04d}.JPG,")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter: stored 16 wide and 24 high, seen 24 wide and 16 high
    draw(images / "Anomaly" / "000.JPG", (16, 24), exif=exif)
    draw(images / "Anomaly" / "001.JPG", (24, 16))
    draw_mask(root / "candle" / "Data" / "Masks" / "Anomaly" / "000.png", (24, 16), (1, 2))
    for name in ("000", "001"):  # the mask of 001 is listed and not there
        image, mask = f"candle/Data/Images/Anomaly/{name}.JPG", f"candle/Data/Masks/Anomaly/{name}.png"
        rows.append(f"candle,test,anomaly,{image},{mask}")
    rows.append("capsules,train,normal,capsules/Data/Images/Normal/0000.JPG,")
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def btad_tree(tmp_path: Path) -> Path:
    """bmp and png mixed, masks of another suffix, an empty mask in ko."""
    root = tmp_path / "btad"
    tree = root / "BTech_Dataset_transformed"
    for category, suffix in (("01", "bmp"), ("02", "png")):
        for index in range(2):
            draw(tree / category / "train" / "ok" / f"{index:04d}.{suffix}")
        draw(tree / category / "test" / "ok" / f"0005.{suffix}")
        draw(tree / category / "test" / "ko" / f"0000.{suffix}")
        draw(tree / category / "test" / "ko" / "0001.bmp")
        draw_mask(tree / category / "ground_truth" / "ko" / "0000.png")
        draw_mask(tree / category / "ground_truth" / "ko" / "0001.png", values=())
    return root


@pytest.fixture
def tile_tree(tmp_path: Path) -> Path:
    """Two exposures, grey, sizes that differ, smoothed masks, black masks of the good tiles and of a defective one."""
    root = tmp_path / "tiles"
    for index in range(12):
        path = root / "MT_Free" / "Imgs" / f"exp{1 if index % 2 else 6}_num_{index}.jpg"
        draw(path, (24, 16 + index), mode="L")
        draw_mask(path.with_suffix(".png"), (24, 16 + index), ())
    for kind, values in (("Blowhole", (255, 90)), ("Crack", (128, 1, 127)), ("Uneven", ())):
        path = root / f"MT_{kind}" / "Imgs" / f"exp{1 if kind == 'Crack' else 6}_num_77.jpg"
        draw(path, mode="L")
        draw_mask(path.with_suffix(".png"), values=values)
    return root


@pytest.fixture
def board_tree(tmp_path: Path) -> Path:
    """Two of the eleven groups, one of them in RGB; the boxes of each tested board in a text file."""
    tree = tmp_path / "deep-pcb" / "PCBData"
    for group, count, mode in (("00041", 4, "L"), ("44000", 2, "RGB")):
        for index in range(count):
            name = f"{group}{index:03d}"
            for part in ("temp", "test"):
                draw(tree / f"group{group}" / group / f"{name}_{part}.jpg", mode=mode)
            boxes = tree / f"group{group}" / f"{group}_not" / f"{name}.txt"
            boxes.parent.mkdir(exist_ok=True)
            boxes.write_text("4 2 10 6 1\n23 15 24 16 6\n")
    return tree.parent


@pytest.fixture
def dagm_tree(tmp_path: Path) -> Path:
    """Suffixes in capitals; defective images in Train too; a label that is only listed."""
    root = tmp_path / "dagm"
    for name in ("Class1", "Class10"):
        for part, first in (("Train", 5), ("Test", 1)):
            for index in range(first, first + 4):
                draw(root / name / part / f"{index:04d}.PNG", mode="L")
            draw_mask(root / name / part / "Label" / f"{first:04d}_label.PNG")
        listed = "1\n1\t1\t0001.PNG\t0\t0001_label.PNG\n2\t1\t0002.PNG\t0\t0002_label.PNG\n3\t0\t0003.PNG\t0\t0\n"
        (root / name / "Test" / "Label" / "Labels.txt").write_text(listed)
    return root


@pytest.fixture
def ksdd2_tree(tmp_path: Path) -> Path:
    """A mask beside each image, black for the normal ones; sizes that differ."""
    root = tmp_path / "ksdd2"
    for part, first in (("train", 10000), ("test", 20000)):
        for index in range(4):
            size = (24, 30 + index)
            draw(root / part / f"{first + index}.png", size)
            draw_mask(root / part / f"{first + index}_GT.png", size, (255,) if index == 3 else ())
    return root


@pytest.fixture
def dtd_tree(tmp_path: Path) -> Path:
    """Three of the textures, a name with a hyphen, two published splits, and a list that names a texture that is not there."""
    root = tmp_path / "dtd-r1" / "dtd"
    (root / "labels").mkdir(parents=True)
    textures = ("banded", "polka-dotted", "woven")
    for split, order in ((1, (0, 1, 2)), (2, (2, 0, 1))):
        for part, index in zip(("train", "val", "test"), order, strict=True):
            names = [f"{texture}/{texture}_{index:04d}.jpg" for texture in (*textures, "zigzagged")]
            (root / "labels" / f"{part}{split}.txt").write_text("\n".join(names) + "\n")
    for texture in textures:
        for index in range(3):
            draw(root / "images" / texture / f"{texture}_{index:04d}.jpg", (20 + index, 30))
    return root.parent


@pytest.fixture
def loco_tree(tmp_path: Path) -> Path:
    """Two categories; one to three masks an image whose values name the defect; one image without any; validation images."""
    root = tmp_path / "mvtec_loco"
    kinds = {"logical_anomalies": (241, 242), "structural_anomalies": (1,)}
    for category in ("pushpins", "screw_bag"):
        folder = root / category
        for part, count in (("train/good", 4), ("validation/good", 2), ("test/good", 2)):
            for index in range(count):
                draw(folder / part / f"{index:03d}.png", value=100 + 10 * index + len(part))
        for kind, values in kinds.items():
            for index in range(2):
                draw(folder / "test" / kind / f"{index:03d}.png", value=200 + index)
            for number, value in enumerate(values):
                draw_mask(folder / "ground_truth" / kind / "000" / f"{number:03d}.png", values=(0,) * number + (value,))
        defects = [
            {"defect_name": "missing", "pixel_value": 241, "saturation_threshold": 8, "relative_saturation": False},
            {"defect_name": "surplus", "pixel_value": 242, "saturation_threshold": 0.5, "relative_saturation": True},
            {"defect_name": "broken", "pixel_value": 1, "saturation_threshold": 1.0, "relative_saturation": True},
        ]
        (folder / "defects_config.json").write_text(json.dumps(defects))
    return root


@pytest.fixture
def ad2_tree(tmp_path: Path) -> Path:
    """One grey category under three lights; stems that good and bad share; private images, which have no labels."""
    root = tmp_path / "mvtec_ad2"
    folder = root / "vial"
    for part, count in (("train", 4), ("validation", 3)):
        for index in range(count):
            draw(folder / part / "good" / f"{index:03d}_regular.png", value=118 + index, mode="L")
    for light, value in (("regular", 120), ("overexposed", 180), ("shift_1", 130)):
        for index in range(2):
            draw(folder / "test_public" / "good" / f"{index:03d}_{light}.png", value=value - index, mode="L")
            draw(folder / "test_public" / "bad" / f"{index:03d}_{light}.png", value=value + 40 + index, mode="L")
            draw_mask(folder / "test_public" / "ground_truth" / "bad" / f"{index:03d}_{light}_mask.png")
    for index in range(2):
        draw(folder / "test_private" / f"{index:03d}_regular.png", value=119 + 60 * index, mode="L")
        draw(folder / "test_private_mixed" / f"{index:03d}_mixed.png", value=90 + 60 * index, mode="L")
    return root


def real_iad_split(root: Path, folder: str, rows: list[tuple[str, str, int, str]], meta: dict | None = None) -> None:
    """Images, masks and the JSON of the category toy; rows of (part, kind, object, camera), camera by camera."""
    split: dict = {"meta": {"normal_class": "OK", "prefix": "toy/"} if meta is None else meta, "train": [], "test": []}
    for part, kind, number, camera in rows:
        place = "OK" if kind == "OK" else f"NG/{kind}"
        stem = f"{place}/S{number:04d}/toy_{'' if kind == 'OK' else '_'}{number:04d}_{place.replace('/', '_')}_C{camera}_2023"
        draw(root / "realiad_256" / "toy" / f"{stem}.jpg", value=100 + number + (0 if kind == "OK" else 60))
        mask = None if kind == "OK" else f"{stem}.png"
        if mask:
            draw_mask(root / "realiad_256" / "toy" / mask)
        split[part].append({"category": "toy", "anomaly_class": kind, "image_path": f"{stem}.jpg", "mask_path": mask})
    file = root / folder / "toy.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(split))


@pytest.fixture
def real_iad_tree(tmp_path: Path) -> Path:
    """One category at 256 pixels: two underscores in the names of defects, JSON in nested folders, a noisy split."""
    root = tmp_path / "real_iad"
    train = [("train", "OK", number, camera) for camera in "12345" for number in range(1, 5)]
    good = [("test", "OK", number, camera) for camera in "12345" for number in (5, 6)]
    bad = [("test", "HS", number, camera) for camera in "12345" for number in (1, 2)]
    real_iad_split(root, "realiad_jsons/realiad_jsons", [*train, *good, *bad])
    noise = [("train", "HS", 3, camera) for camera in "12345"]
    real_iad_split(root, "realiad_jsons/realiad_jsons_fuiad_0.2", [*train, *noise, *good, *bad])
    return root
