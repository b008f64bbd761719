"""A run that was stopped goes on with the images that it began with, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anomaly_core import RunConfig, RunError, main, run_experiment
from tiny.data import write_image, write_tree
from tiny.runs import arguments, config, scores
from tiny.trainers import OnePass

pytestmark = [pytest.mark.usefixtures("tiny"), pytest.mark.reliability("fault")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "parts")


@pytest.fixture
def settings(root: Path, tmp_path: Path) -> RunConfig:
    return config(tmp_path, data="tree", **{"data.root": str(root), "data.holdout": 0.34})


def killed(settings: RunConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was killed while it trained: what lay there at that moment."""
    left: dict[Path, bytes] = {}

    def fit(*_: object) -> None:
        output = Path(settings.base.output)
        left.update({path: path.read_bytes() for path in output.rglob("*") if path.is_file()})
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(OnePass, "fit", fit)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(settings)
    for path, content in left.items():
        path.write_bytes(content)
    (manifest,) = Path(settings.base.output).rglob("manifest.json")
    assert json.loads(manifest.read_text())["status"] == "running"
    return manifest.parent


def add(root: Path) -> None:
    shutil.copy(root / "train" / "good" / "1.png", root / "train" / "good" / "77.png")


def remove(root: Path) -> None:
    (root / "test" / "good" / "1.png").unlink()


def rename(root: Path) -> None:
    (root / "train" / "good" / "1.png").rename(root / "train" / "good" / "77.png")


@pytest.mark.parametrize("change", [add, remove, rename])
@pytest.mark.parametrize("newest", [False, True])
def test_a_run_is_not_resumed_on_other_images(
    change: Callable[[Path], None],
    newest: bool,
    root: Path,
    settings: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    folder = killed(settings, monkeypatch)
    shutil.copytree(root, kept := tmp_path / "kept")
    change(root)
    for _ in range(2):  # the refusal does not make the new images the run's own
        with pytest.raises(RunError, match=r"began with other images.*Put them back, or start a new run without --resume"):
            run_experiment(settings, resume=True if newest else folder)
        assert json.loads((folder / "manifest.json").read_text())["status"] == "failed"
    shutil.rmtree(root)
    shutil.copytree(kept, root, copy_function=shutil.copyfile)  # a copy has other times
    assert run_experiment(settings, resume=True if newest else folder).folder == folder


def test_an_image_replaced_by_another_of_its_name_and_size(
    root: Path, settings: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "train" / "good" / "9.bmp"
    write_image(path, np.zeros((32, 32, 3), np.uint8))
    size = path.stat().st_size
    folder = killed(settings, monkeypatch)
    write_image(path, np.full((32, 32, 3), 200, np.uint8))
    assert path.stat().st_size == size
    with pytest.raises(RunError, match="added, removed or changed"):
        run_experiment(settings, resume=folder)


def test_the_advice_works(
    root: Path, settings: RunConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = killed(settings, monkeypatch)
    add(root)
    with pytest.raises(SystemExit) as end:
        main(["run", "--resume", str(folder)])
    assert end.value.code == 1 and "without --resume" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(arguments(settings))
    assert end.value.code == 0


@pytest.mark.parametrize("change", [add, remove, rename])
@pytest.mark.parametrize("newest", [False, True])
def test_the_result_of_a_complete_run_is_not_shown_as_that_of_other_images(
    change: Callable[[Path], None], newest: bool, root: Path, settings: RunConfig, tmp_path: Path
) -> None:
    result = run_experiment(settings)
    again = run_experiment(settings, resume=True if newest else result.folder)
    assert again.folder == result.folder and np.array_equal(scores(again), scores(result))
    shutil.copytree(root, kept := tmp_path / "kept")
    change(root)
    with pytest.raises(RunError, match=r"the complete run in .* began with other images \(.* fit, .*; now .*start a new run"):
        run_experiment(settings, resume=True if newest else result.folder)
    assert run_experiment(settings).folder != result.folder
    shutil.rmtree(root)
    shutil.copytree(kept, root)
    assert run_experiment(settings, resume=result.folder).folder == result.folder


def test_a_complete_run_that_left_images_out_is_read_again(root: Path, settings: RunConfig) -> None:
    bad = root / "train" / "good" / "1.png"
    shutil.copy(bad, root / "sound.png")
    bad.write_bytes(b"damaged")
    skipping = settings.replace(**{"data.on_bad_image": "skip"})
    result = run_experiment(skipping)
    assert run_experiment(skipping, resume=True).folder == result.folder
    shutil.move(root / "sound.png", bad)
    with pytest.raises(RunError, match="other images"):
        run_experiment(skipping, resume=True)


@pytest.mark.parametrize("complete", [False, True])
def test_a_run_is_not_resumed_with_other_options(
    complete: bool, settings: RunConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run_experiment(settings).folder if complete else killed(settings, monkeypatch)
    other = settings.replace(**{"model.share": 0.5, "base.seed": 3})
    for _ in range(2):
        with pytest.raises(RunError, match=r"it has base\.seed=0, now 3; model\.share=1\.0, now 0\.5: leave out what differs"):
            run_experiment(other, resume=folder)
    assert not caplog.messages or "no run has these options" not in caplog.text
    new = run_experiment(other, resume=True).folder
    assert new != folder
    expected = f"a new one starts. The newest, {folder.absolute()}, has base.seed=0, now 3; model.share=1.0, now 0.5."
    assert expected in caplog.text
    assert run_experiment(settings, resume=folder).folder == folder


def test_a_complete_run_whose_config_was_edited(settings: RunConfig) -> None:
    folder = run_experiment(settings).folder
    config_file = folder / "config.yaml"
    config_file.write_text(config_file.read_text().replace("share: 1.0", "share: 0.5"))
    with pytest.raises(RunError, match=r"config\.yaml' is not what the run wrote"):
        run_experiment(RunConfig.create(config=config_file), resume=folder)
