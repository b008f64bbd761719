"""An option that a command or a component would ignore is an error that names it; beside what it needs it is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest

from anomaly_benchmark import grid
from anomaly_core import (
    Calibration,
    ConfigError,
    ModelContext,
    Prediction,
    RunConfig,
    UnusedOption,
    refuse_ignored,
    registry,
)
from anomaly_predict import Verdict, verdicts
from anomaly_predict.coco import CocoFile

# a command line in which {file} is a file and {folder} a folder; the option, and a word of what to do instead
LINES = [
    ("predict {file} {file} --interval 2", "--interval", "Add --watch"),
    ("predict {file} {file} --interval 1.0", "--interval", "Add --watch"),  # its default, said in vain
    ("predict {file} {file} --backend dask", "--backend", "Add --jobs"),
    ("predict {file} {file} --address tcp://x", "--address", "Add --jobs"),
    ("predict {file} {file} --mm-per-px 0.1", "--mm-per-px", "Add --jsonl"),
    ("export {file} --threshold 2 --precision f32", "--precision", "give the run's folder"),
    ("export {file} --threshold 2 --images 3", "--images", "give the run's folder"),
    ("doctor {file} --output experiments", "--output", "Leave one of them out"),
    ("check --list --only exports", "--only", "--list runs no check"),
    ("check --list --set model.sigma=1", "--set", "--list runs no check"),
    ("check --list patchcore", "[NAME]... would", "--list runs no check"),
    ("check --all patchcore", "--all", "Leave one of the two out"),
    ("check image_auroc --preset edge", "--preset", "none is checked"),
    ("check image_auroc --set model.sigma=1", "--set", "has no options"),
    ("run --category all --category nut", "--category", "leave the others out"),
    ("evaluate {folder} --category nut --category all", "--category", "leave the others out"),
    ("benchmark --data sample --model all --model padim", "--model", "leave the others out"),
    ("benchmark --data sample --model padim --set base.seed=3", "base.seed=3", "--seed"),
    ("benchmark --data sample --model padim --set data.category=nut", "data.category=nut", "--category"),
    ("benchmark --data sample --model padim --set data.unified=true", "data.unified=true", "run --unified"),
    ("benchmark --data sample --model padim --set model.name=patchcore", "model.name=patchcore", "--model"),
    ("benchmark --data sample --model padim --set data.name=visa", "data.name=visa", "--data"),
    ("run --model patchcore --data sample --set data.tile_overlap=9", "data.tile_overlap=9", "set that"),
]


@pytest.mark.parametrize(("line", "option", "step"), LINES, ids=[line for line, *_ in LINES])
def test_a_command_refuses_what_it_would_ignore(
    line: str, option: str, step: str, anomaly: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"no detector")
    done = anomaly(*(word.format(file="model.onnx", folder=".") for word in line.split()))
    assert done.code == 2, done.err
    assert option in done.err and step in done.err and "Traceback" not in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_several_processes_leave_no_choice_of_one_device(anomaly: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = anomaly("run", "--model", "patchcore", "--data", "sample", "--devices", "3")
    assert done.code == 2 and "--devices would be ignored: torchrun" in done.err
    from anomaly_core import choose_device

    with pytest.raises(ConfigError, match="leave out --devices"):
        choose_device("cuda:1")


def test_only_what_is_on_the_command_line_is_judged() -> None:
    @click.command()
    @click.option("--every", default=1)
    @click.option("--watch", is_flag=True)
    def command(every: int, watch: bool) -> None:
        refuse_ignored(every=not watch and "add --watch.")

    def call(*arguments: str) -> None:
        command.main(arguments, standalone_mode=False)

    call()
    call("--watch", "--every", "3")
    with pytest.raises(click.UsageError, match="--every would be ignored: add --watch"):
        call("--every", "1")


# a model or data set, an option that it ignores, and what makes it act
OPTIONS = [
    ("patchcore", "model.reweight_neighbors=5", "model.reweight=true"),
    ("patchcore", "model.cache_folder=here", "model.feature_cache=disk"),
    ("padim", "data.augment_copies=3", "data.augment=rotate:5"),
    ("draem", "model.rotation_fill=mirror model.rotation_probability=0", "model.rotation_probability=0.3"),
    ("draem", "model.self_share=0.2 model.textures=dtd", "model.textures=null"),
    ("vanilla_ae", "model.noise_cells=4,8", "model.noise_strength=0.1"),
    ("vanilla_ae", "model.noise_share=0.5", "model.noise_strength=0.1"),
    ("vanilla_ae", "model.map_error=squared", "model.map_error_weight=1"),
    ("vanilla_vae", "model.beta_warmup_epochs=3 model.beta=0", "model.beta=1"),
    ("stfpm", "model.cache_budget=1GiB model.feature_cache=off", "model.feature_cache=ram"),
    ("stfpm", "train.min_delta=0.1 train.keep=last", "train.patience=3"),
    ("patchcore", "model.pretrain_dim=64 model.target_dim=null", "model.target_dim=64"),
    ("patchcore", "model.projection_dim=64 model.coreset_ratio=1", "model.coreset_ratio=0.1"),
    ("patchcore", "base.folds=3 base.calibration=holdout", "base.calibration=cross"),
    ("patchcore", "base.false_alarm_rate=0.2 data.holdout=0", "data.holdout=0.1"),
    ("folder", "data.masks=m data.list=l.csv", "data.list=null"),
    ("folder", "data.abnormal=a data.images=i", "data.images=null"),
    ("folder", "data.normal_test=a data.images=i", "data.images=null"),
    ("folder", "data.mask_format=yolo data.normal=n", "data.masks=m"),
    ("folder", "data.mask_pattern={stem}_x data.list=l.csv", "data.list=null"),
    ("folder", "data.mask_threshold=7 data.images=i", "data.images=null"),
    ("folder", "data.normal_test_share=0.3 data.normal=n data.normal_test=t", "data.normal_test=null"),
    ("folder", "data.split_seed=3 data.normal_test_share=1", "data.normal_test_share=0.3"),
    ("mvtec_ad2", "data.holdout=0.3", "data.validation=false"),
]


@pytest.mark.parametrize(("name", "vain", "remedy"), OPTIONS, ids=[f"{name} {vain}" for name, vain, _ in OPTIONS])
def test_a_component_refuses_what_it_would_ignore(name: str, vain: str, remedy: str) -> None:
    chosen = {"model": name, "data": "sample"} if name in registry.models else {"model": "patchcore", "data": name}
    given = dict(word.split("=", 1) for word in vain.split())
    option = next(iter(given))
    with pytest.raises(UnusedOption, match=f"^{option}=.* would be ignored: it acts only with .*{remedy.partition('=')[0]}"):
        RunConfig.create(**chosen, overrides=_values(given))
    RunConfig.create(**chosen, overrides=_values(given | dict([remedy.split("=", 1)])))


def _values(given: dict[str, str]) -> dict[str, str | None]:
    return {key: None if value == "null" else value for key, value in given.items()}


@pytest.mark.parametrize("name", list(registry.models))
def test_every_preset_says_nothing_in_vain(name: str) -> None:
    """No option of a preset is ignored, and the config of a run with it may be given again, whole."""
    from anomaly_core import preset_layer, preset_names

    for preset in preset_names(registry.models[name]):
        layer = preset_layer(registry.models[name], preset)
        flat = {f"{section}.{key}": value for section, values in layer.items() for key, value in values.items()}
        config = RunConfig.create(model=name, data="sample", overrides=flat)
        whole = {f"{section}.{key}": value for section, values in config.to_dict().items() for key, value in values.items()}
        assert RunConfig.create(overrides=whole) == config


def test_a_grid_gives_an_option_to_the_cells_in_which_it_acts(tmp_path: Path) -> None:
    overrides = {"data.root": str(tmp_path), "data.size": 64, "data.train_count": 2, "data.good_count": 1, "data.bad_count": 5}
    tuned = overrides | {"model.cache_folder": "here", "model.feature_cache": "disk", "model.reweight_neighbors": 5}
    with pytest.raises(UnusedOption, match=r"model.reweight_neighbors=5 would be ignored"):
        grid(["patchcore", "stfpm"], ["sample"], categories=["nut"], overrides=tuned)
    cells = grid(["patchcore", "stfpm"], ["sample"], categories=["nut"], overrides=tuned | {"model.reweight": True})
    assert [cell.config["model"].get("reweight_neighbors") for cell in cells] == [5, None]
    cells = grid(["patchcore", "stfpm"], ["sample"], categories=["nut"], overrides=overrides | {"train.min_delta": 0.1})
    assert [cell.config["train"].get("min_delta") for cell in cells] == [None, 0.1]
    with pytest.raises(ConfigError, match="no data set has a category 'nuts'"):
        grid(["patchcore"], ["sample"], categories=["nut", "nuts"], overrides=overrides)


def test_a_detector_without_regions_takes_no_option_of_regions(tmp_path: Path) -> None:
    bare = SimpleNamespace(
        calibration=Calibration(1.0, 0.01, 0, "a test"),
        decode=lambda path: np.zeros((4, 4, 3), dtype=np.uint8),
        score=lambda images: [Prediction(np.zeros(1, dtype=np.float32)) for _ in images],
        regions=lambda *_, **__: None,
    )
    with pytest.raises(ConfigError, match="--least-area would be ignored: this detector has no anomaly maps"):
        list(verdicts(bare, [], least_area=3.0))  # type: ignore[arg-type]
    assert list(verdicts(bare, [])) == []  # type: ignore[arg-type]
    coco = CocoFile(tmp_path / "regions.json")
    coco.add(Verdict("broken.png", error="cannot be read", size=(4, 4)))
    with pytest.raises(ConfigError, match="--coco would hold no region"):
        coco.add(Verdict("part.png", 0.5, False, 0.5, size=(4, 4)))


def test_a_folder_of_weights_that_is_not_there_is_no_other_folder(tmp_path: Path) -> None:
    config = RunConfig.create(model="stfpm", data="sample", overrides={"model.backbones": str(tmp_path / "weights")})
    with pytest.raises(ConfigError, match=r"model.backbones=.*weights' is no folder"):
        registry.models["stfpm"].build(config.model, ModelContext())
    registry.models["stfpm"].build(config.model, ModelContext(False))  # of a finished run, which has its weights


def test_a_transformers_norm_is_its_own() -> None:
    options = {"model.backbone": "deit_tiny_distilled_patch16_224", "model.layers": ["blocks.3"], "model.image_size": 32}
    config = RunConfig.create(model="fastflow", data="sample", overrides={**options, "model.trainable_norm": False})
    registry.models["fastflow"].build(config.model, ModelContext(False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(config.model), "weights", lambda *_: object())
        with pytest.raises(ConfigError, match=r"model.trainable_norm=false would be ignored"):
            registry.models["fastflow"].build(config.model, ModelContext())
