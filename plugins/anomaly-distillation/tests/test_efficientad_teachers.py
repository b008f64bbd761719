"""Teachers from files, and made of a user's images."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from anomaly_core import AnomalyError, ConfigError, DataError, ModelContext, registry
from anomaly_distillation.efficientad.config import EfficientADConfig
from anomaly_distillation.efficientad.distilling import PatchTarget, distil, target_network
from anomaly_distillation.efficientad.modeler import EfficientADModeler
from anomaly_distillation.efficientad.networks import SHAPES, Shape, patch_description_network
from anomaly_distillation.efficientad.pictures import penalty_images
from anomaly_distillation.efficientad.teachers import find_teacher, read_teacher, write_teacher
from anomaly_features import BackboneError, Backbones
from anomaly_trainers import PictureFolder

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The backbone folder."""
    monkeypatch.setenv("ANOMALY_BACKBONES", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def state(size: Any = "S") -> dict[str, Tensor]:
    torch.manual_seed(3)
    return patch_description_network(SHAPES[size], SHAPES[size].features).state_dict()


def fitted(**options: Any) -> EfficientADModeler:
    return EfficientADModeler(EfficientADConfig(image_size=64, **options), ModelContext(True))


@pytest.mark.filterwarnings("error")
def test_the_published_file_is_taken_by_its_name(folder: Path) -> None:
    torch.save(state(), folder / "teacher_small.pth")
    modeler = fitted()
    assert all(torch.equal(value, state()[name]) for name, value in modeler.model.teacher.state_dict().items())
    assert modeler.describe() == {"teacher_published": 1.0}
    assert modeler.computing(torch.device("cpu")) == {"teacher": "teacher_small.pth, as published"}


def test_without_it_the_error_says_where_and_what_next(folder: Path) -> None:
    with pytest.raises(BackboneError, match=r"no teacher_medium.pth in the backbone folder .*weights.*distill-teacher"):
        fitted(size="M")
    with pytest.raises(BackboneError, match=r"nobody has published a teacher of the size XS"):
        fitted(size="XS")
    with pytest.raises(BackboneError, match=r"model.teacher='nowhere.pth' is no file"):
        fitted(teacher="nowhere.pth")
    with pytest.raises(ConfigError, match=r"set model.image_size to 64"):
        EfficientADModeler(EfficientADConfig(image_size=(64, 48)))
    with pytest.raises(ConfigError, match=r"Set model.backbone"):
        fitted(teacher="features")


def test_a_teacher_of_one_s_own_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    write_teacher(path, state("XS"), {"made_from": "7 images by a network"})
    with pytest.warns(UserWarning, match="not the paper's: mine.safetensors, made from 7 images by a network"):
        modeler = fitted(size="XS", teacher=str(path))
    assert modeler.describe() == {"teacher_published": 0.0}
    saved = {name: value.clone() for name, value in modeler.state_dict().items()}
    again = EfficientADModeler(EfficientADConfig(image_size=64, size="XS", teacher="moved away"))
    again.load_state(saved)
    assert all(torch.equal(value, state("XS")[name]) for name, value in again.model.teacher.state_dict().items())
    with pytest.raises(BackboneError, match=r"none of EfficientAD-S: size mismatch for 0.weight"):
        fitted(teacher=str(path))
    save_file(state("XS"), path)
    assert read_teacher(path, "XS").origin == "mine.safetensors, made from nobody knows what"


class Evil:
    def __reduce__(self) -> Any:
        return print, ("executed",)


def written(path: Path, what: str) -> None:
    if what == "code":
        path.write_bytes(pickle.dumps(Evil(), protocol=2))
    elif what == "code in torch's form":
        torch.save({"0.weight": Evil()}, path)
    elif what == "no tensors":
        torch.save({"0.weight": "text"}, path)
    elif what == "NaN":
        torch.save({**state(), "0.bias": torch.full((128,), torch.nan)}, path)
    elif what == "nothing":
        path.write_bytes(b"")
    elif what == "a long header":
        path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    else:
        path.mkdir()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("what", ["code", "code in torch's form", "no tensors", "NaN", "nothing", "a long header", "a folder"])
def test_damaged_files_are_one_error_and_execute_nothing(
    tmp_path: Path, what: str, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"teacher{suffix}"
    written(path, what)
    with pytest.raises(BackboneError, match="teacher"):
        read_teacher(path, "S")
    assert capsys.readouterr().out == ""


def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pth"
    with path.open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(BackboneError, match="more than"):
        find_teacher("S", str(path), None)


def test_a_target_must_have_both_strides() -> None:
    assert target_network(LITE0, None).strides == [8, 16]
    with pytest.raises(ConfigError, match="no features at strides of 8 and 16"):
        target_network("vit_tiny_patch16_224", None)
    with pytest.raises(ConfigError, match="no pretrained model"):
        target_network("no_such_network", None)


def test_a_teacher_learns_its_target() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(6, 3, 8, 8).repeat_interleave(16, 2).repeat_interleave(16, 3)

    def learnt(steps: int) -> tuple[PatchTarget, torch.nn.Sequential, float]:
        torch.manual_seed(1)
        target = PatchTarget(target_network(LITE0, Backbones()), 8)
        options: dict[str, Any] = {"batch_size": 2, "learning_rate": 3e-3, "device": torch.device("cpu")}
        draw: Callable[[int], Tensor] = lambda count: pictures[torch.randint(6, (count,))]  # noqa: E731
        return target, *distil(Shape(False, 8, 8, 4), target, draw, (64, 64), steps=steps, **options)

    _, one, before = learnt(1)
    target, teacher, after = learnt(40)
    assert after < 0.9 * before
    assert not torch.equal(learnt(1)[1][0].weight, teacher[0].weight)
    assert torch.equal(learnt(1)[1][0].weight, one[0].weight)
    with torch.no_grad():
        described = target(pictures)
        small = F.interpolate(pictures, (64, 64), mode="area")
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        errors = [float((teacher(x) - described).square().mean()) for x in ((small - mean) / std, (small - 0.5) / 0.5)]
    assert errors[0] < errors[1], "the teacher wants images as EfficientAD normalises them, not as its target"
    assert described.shape == (6, 8, 16, 16)
    assert 0.3 < float(described.std()) < 3  # the crops that set the spread are not the pictures


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "pictures" / "deeper").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number, name in enumerate(("a.png", "deeper/b.jpg", "deeper/c.png")):
        Image.fromarray(draw.integers(0, 255, (40 + number, 50, 3), dtype=np.uint8)).save(tmp_path / "pictures" / name)
    return tmp_path / "pictures"


def test_penalty_images_are_the_centres(pictures: Path) -> None:
    folder = PictureFolder(pictures, "model.penalty_images", (128, 192))
    torch.manual_seed(0)
    images = penalty_images(folder, 12, (64, 96))
    assert images.shape == (12, 3, 64, 96)
    grey = (images[:, 0] == images[:, 2]).flatten(1).all(dim=1)
    assert 0 < int(grey.sum()) < 12
    wholes = torch.stack([folder._image(index).float() / 255 for index in range(3)])[:, :, 32:96, 48:144]
    assert all(any(torch.equal(image, whole) for whole in wholes) for image in images[~grey])


def command(*options: object) -> Result:
    return CliRunner().invoke(registry.commands["distill-teacher"].load(), [str(option) for option in options])


def test_the_command_writes_a_teacher_that_says_what_it_is(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    common = ("--images", pictures, "--size", "XS", "--steps", 2, "--batch-size", 2, "--image-size", 64, "--device", "cpu")
    done = command(*common, "--output", path)
    assert done.exit_code == 0, done.output
    assert "3 images by tf_efficientnet_lite0 in 2 steps of 2" in done.output
    assert f"--set model.teacher={path} --set model.size=XS" in done.output
    assert read_teacher(path, "XS").origin.endswith("made from 3 images by tf_efficientnet_lite0 in 2 steps of 2")
    again = tmp_path / "again.safetensors"
    assert command(*common, "--output", again).exit_code == 0
    assert all(torch.equal(value, load_file(again)[name]) for name, value in load_file(path).items())


def test_the_command_s_errors(pictures: Path, tmp_path: Path) -> None:
    wrong = command("--images", pictures, "--output", tmp_path / "teacher.pth")
    assert wrong.exit_code != 0
    assert "must end in .safetensors" in wrong.output
    (tmp_path / "empty").mkdir()
    for options, error in ((("--images", tmp_path / "empty"), DataError), (("--images", tmp_path / "none"), ConfigError)):
        failed = command(*options, "--output", tmp_path / "teacher.safetensors")
        assert isinstance(failed.exception, error)
        assert isinstance(failed.exception, AnomalyError)
    assert not (tmp_path / "teacher.safetensors").exists()
