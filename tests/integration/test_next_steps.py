"""The next step that a message names is taken, word for word where it is a command, and it works."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from test_bad_data import tree
from torch.utils.data import get_worker_info

from anomaly_core import ImageReader, Interrupted

pytestmark = [pytest.mark.reliability("fault"), pytest.mark.usefixtures("unobserved")]
Shell = Callable[..., str]


@pytest.fixture
def shell(anomaly: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A command line in an empty folder; the text of its error, or its output where it must work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("anomaly_core.run.files.PATIENCE", 0.2)

    def call(*arguments: str, works: bool) -> str:
        outcome = anomaly(*arguments)
        assert (outcome.code == 0) == works, outcome.err
        return str(outcome.out + outcome.err if works else outcome.err)

    return call


def run(*more: str, model: str = "patchcore", data: str = "folder", preset: str = "edge") -> list[str]:
    """A small run of ``parts``, the tree below the working folder; ``more`` are ``section.key=value``, or flags."""
    start = ["run", "--model", model, "--data", data, "--preset", preset, "--output", "runs"]
    sets = [
        "model.image_size=48",
        "data.root=parts",
        "data.holdout=0.34",
        *(text for text in more if not text.startswith("--")),
    ]
    flags = [part for text in more if text.startswith("--") for part in text.split(" ")]
    return [*start, *(part for text in sets for part in ("--set", text)), *flags]


def quoted(text: str, pattern: str = "anomaly [^`]+") -> list[str]:
    """The arguments of the command that a message names in backticks."""
    found = re.search(f"`({pattern})`", text)
    assert found, text
    return shlex.split(found[1])[1:]


def folder_of(output: str = "runs") -> Path:
    (manifest,) = Path(output).rglob("manifest.json")
    return manifest.parent


def state_of(run: Path) -> Any:
    return json.loads((run / "manifest.json").read_text())


# what goes wrong: (message, the run that does what the message says)
OPTIONS: dict[str, tuple[list[str], str, list[str]]] = {
    "no such category": (
        run("--category nope"), r"Choose one of: parts\.", run("--category parts")),
    "no such preset": (
        run(preset="nope"), r"It has: .*\bedge\b", run()),
    "no such device": (
        run("base.device=cuda:99"), r"Use auto or cpu \(--device, or base\.device\)", run("base.device=auto")),
    "no such root": (
        run("data.root=nowhere"), r"Name its folder with --set data\.root=DIR", run("--set data.root=parts")),
    "an overlap without tiles": (
        run("data.tile_overlap=4"), "Leave it out, or set that", run("data.tile_overlap=4", "data.tile=32")),
    "too large an overlap": (
        run("data.tile=32", "data.tile_overlap=20"), "Choose at most 16", run("data.tile=32", "data.tile_overlap=16")),
    "a crop that does not fit": (
        run("model.center_crop=64"), "enlarge model.image_size", run("model.center_crop=64", "model.image_size=64")),
    "abnormal images alone": (
        run("data.abnormal=parts/test/hole"), r"--set data\.normal=DIR",
        run("data.abnormal=parts/test/hole", "--set data.normal=parts/train/good")),
    "one normal image": (
        run("data.normal=one"), r"--set data\.normal_test=DIR",
        run("data.normal=one", "--set data.normal_test=parts/test/good")),
    "an even patch": (
        run("model.patch_size=2"), "Choose 1, 3, 5", run("model.patch_size=3")),
    "too many features": (
        run("model.n_features=100000", model="padim"), r"Choose 1 to \d+", run("model.n_features=4", model="padim")),
    "a trainer of another kind": (
        run("--trainer gradient"), "Leave train.name out", run()),
    "half precision without a GPU": (
        run("train.precision=16-mixed", "train.epochs=1", "base.device=cpu", model="vanilla_ae"), "Use train.precision=32",
        run("train.precision=32", "train.epochs=1", "base.device=cpu", model="vanilla_ae")),
}  # fmt: skip


@pytest.mark.parametrize("case", OPTIONS)
def test_another_option(case: str, shell: Shell) -> None:
    tree(Path("parts"))
    Path("one").mkdir()
    shutil.copy("parts/train/good/0.png", "one")
    wrong, message, right = OPTIONS[case]
    assert re.search(message, shell(*wrong, works=False))
    shell(*right, works=True)


def test_a_model_that_is_not_there(shell: Shell) -> None:
    text = shell(*run(model="nope"), works=False)
    assert "patchcore" in shell(*quoted(text), works=True)
    text = shell("run", "--data", "sample", works=False)
    assert "patchcore" in shell(*quoted(text), works=True)


@pytest.mark.parametrize("option", ["model.coreset_ratio", "base.seed", "data.batch_size", "train.name"])
def test_a_value_that_is_none(option: str, shell: Shell) -> None:
    text = shell(*run(f"{option}=[x]"), works=False)
    section = option.partition(".")[0]
    if "`anomaly" in text:
        assert option.partition(".")[2] in shell(*quoted(text), works=True)
    else:
        assert section == "train"


def test_a_bad_image(shell: Shell) -> None:
    tree(Path("parts"))
    Path("parts/train/good/1.png").write_bytes(b"")
    text = shell(*run(), works=False)
    assert "Remove or replace the file" in text and "data.on_bad_image=skip" in text
    shell(*run("data.on_bad_image=skip"), works=True)
    Path("parts/train/good/1.png").unlink()
    shell(*run(), works=True)


def test_two_images(shell: Shell) -> None:
    tree(Path("parts"))
    for number in range(1, 6):
        shutil.move(f"parts/train/good/{number}.png", f"{number}.png")
    text = shell(*run("data.holdout=0.1"), works=True)
    assert "Add normal images" in text and "add some; data.holdout above 0" in text and "holdout=0" not in text
    shutil.rmtree("runs")
    shutil.move("1.png", "parts/train/good")
    shell(*run("data.holdout=0.1"), works=True)
    assert json.loads((folder_of() / "calibration.json").read_text())["threshold"] is not None
    shutil.rmtree("runs")
    assert "add some; data.holdout above 0" in shell(*run("data.holdout=0"), works=True)


def test_too_few_images_for_padim(shell: Shell) -> None:
    tree(Path("parts"))
    text = shell(*run(model="padim"), works=True)
    assert "PaDiM saw 4 images" in text and "lower model.n_features" in text
    assert "PaDiM saw" not in shell(*run("model.n_features=3", model="padim"), works=True)


def test_a_run_that_was_stopped(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(Path("parts"))
    with monkeypatch.context() as patch:
        patch.setattr("anomaly_core.run.runner.test", lambda *_, **__: (_ for _ in ()).throw(Interrupted))
        assert "--resume" in shell(*run(), works=False)
    folder = folder_of()
    text = shell("predict", str(folder), "parts/test", works=False)
    shell(*quoted(text), works=True)
    shell("predict", str(folder), "parts/test", works=True)
    text = shell(*run(f"--resume {folder}"), works=False)
    assert "leave the others out, or give --resume alone" in text
    shell("run", "--resume", str(folder), works=True)
    assert str(folder) in shell(*run("--resume"), works=True)
    assert str(folder) not in shell(*quoted(text)[:-1], "data.batch_size=2", works=True)


def test_a_complete_run_whose_images_have_changed(shell: Shell) -> None:
    tree(Path("parts"))
    shell(*run(), works=True)
    path = next(Path("parts/test").rglob("*.png"))
    content = path.read_bytes()
    path.unlink()
    for _ in range(2):
        text = shell(*run("--resume"), works=False)
        assert "Put them back, or start a new run without --resume" in text
    path.write_bytes(content)
    shell(*run("--resume"), works=True)
    path.unlink()
    shell(*run(), works=True)


def test_a_run_that_another_process_writes(shell: Shell) -> None:
    tree(Path("parts"))
    shell(*run(), works=True)
    folder = folder_of()
    (folder / "manifest.json").write_text('{"format": 1, "status": "running"}')
    with FileLock(folder / ".lock"):
        text = shell(*run("--resume"), works=False)
        assert "Wait until it is done, or start a run of its own without --resume" in text
        shell(*run(), works=True)
    shell("run", "--resume", str(folder), works=True)


def test_a_reading_process_that_dies(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(Path("parts"))

    read = ImageReader.read

    def deadly(reader: ImageReader, path: Path, **options: bool) -> Any:
        if get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(reader, path, **options)

    monkeypatch.setattr(ImageReader, "read", deadly)
    text = shell(*run("data.num_workers=1", "data.image_cache=0"), works=False)
    assert "Lower data.num_workers in the run's config.yaml" in text
    config = folder_of() / "config.yaml"
    config.write_text(config.read_text().replace("num_workers: 1", "num_workers: 0"))
    shell(*(str(folder_of()) if word == "RUN" else word for word in quoted(text)), works=True)


def test_a_checkpoint_that_is_damaged(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(Path("parts"))
    options = run("train.epochs=2", "train.keep_checkpoints=true", model="vanilla_ae")
    shell(*options, works=True)
    folder = folder_of()
    (folder / "manifest.json").write_text('{"format": 1, "status": "running"}')
    (folder / "checkpoints" / "last.pt").write_bytes(b"x")
    text = shell("run", "--resume", str(folder), works=False)
    shutil.rmtree(re.search("Delete '([^']+)'", text)[1])  # type: ignore[index]
    shell("run", "--resume", str(folder), works=True)


def test_weights_that_are_missing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm
    from huggingface_hub import constants

    tree(Path("parts"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(Path("hub").absolute()))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(Path("hub").absolute()))
    options = ["model.backbone=resnet10t.c3_in1k", "model.layers=[1, 2]"]
    text = shell(*run(*options), works=False)
    assert "put one of these files into the folder" in text and "--set model.backbones=DIR" in text
    names = re.search(r"Looked for \(1\) (.*?) in the backbone folder '(.*?)'", text)
    assert names
    file = Path("elsewhere", next(name for name in names[1].split(", ") if name.endswith(".pth")))
    file.parent.mkdir()
    torch.save(timm.create_model("resnet10t.c3_in1k", pretrained=False).state_dict(), file)
    shell(*run(*options, "model.backbones=elsewhere"), works=True)
    shutil.move("elsewhere", names[2])
    shell(*run(*options), works=True)


def test_cached_features_that_cannot_be_written(shell: Shell) -> None:
    tree(Path("parts"))
    Path("taken").write_text("a file")
    options = ["model.feature_cache=disk"]
    text = shell(*run(*options, "model.cache_folder=taken"), works=False)
    assert "Name another with model.cache_folder, or set model.feature_cache=auto" in text
    shell(*run(*options, "model.cache_folder=other"), works=True)
    shell(*run("model.feature_cache=auto"), works=True)


def test_an_output_that_cannot_be_written(shell: Shell) -> None:
    tree(Path("parts"))
    Path("file").write_text("")
    options = run()
    options[options.index("runs")] = "file"
    assert "Choose another with --output" in shell(*options, works=False)
    shell(*run(), works=True)
