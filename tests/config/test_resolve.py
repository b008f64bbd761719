"""Precedence, coercion by annotation, and errors that name key, value, type and range."""

from __future__ import annotations

import pytest

from anomaly_core import ConfigError, PluginError, RunConfig, expanded, parse_assignment, registry

pytestmark = pytest.mark.usefixtures("tiny")


def make(**arguments):
    return RunConfig.create(model="palette", data="weave", **arguments)


def test_precedence_rises_from_defaults_to_flags(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("model: {share: 0.2, blur: 2}\n")
    assert make().model.share == 1.0
    assert make(preset="edge").model.share == 0.5
    assert make(preset="edge", config=file).model.share == 0.2
    raised = make(preset="edge", config=file, overrides={"model.share": "0.3", "base.seed": "1"}, flags={"base.seed": "2"})
    assert (raised.model.share, raised.model.blur, raised.base.seed) == (0.3, 2, 2)


def test_what_a_method_asks_of_its_trainer_lies_beneath_every_preset(preset, monkeypatch):
    spec = registry.models["palette"].spec
    monkeypatch.setitem(vars(spec), "trainer", "descent")
    monkeypatch.setitem(vars(spec), "train", {"epochs": 7})
    assert (make().train.name, make().train.epochs) == ("descent", 7)
    assert make(overrides={"train.epochs": "3"}).train.epochs == 3
    preset("long", "train: {epochs: 9}\n")
    preset("wide", "model: {blur: 3}\n")
    assert make(preset="wide").train.epochs == 7
    assert make(preset="long").train.epochs == 9


def test_annotations_decide_not_yaml(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "base: {false_alarm_rate: 1e-3}\ndata: {unified: no, category: [01, on], root: null}\nmodel: {image_size: '224,320'}\n"
    )
    config = make(config=file)
    assert config.base.false_alarm_rate == 0.001
    assert config.data.unified is False
    assert config.data.category == ["01", "on"]
    assert config.data.root is None
    assert config.model.image_size == (224, 320)


def test_the_saved_config_is_the_same_config(tmp_path):
    config = make(preset="edge", overrides={"data.category": "linen", "model.image_size": "64,96", "base.pictures": "all"})
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    assert RunConfig.create(config=file) == config


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model.share", "ten", ["model.share='ten'", "float > 0 and <= 1"]),
        ("model.share", "2", ["model.share='2'", "<= 1"]),
        ("model.shrae", "0.1", ["unknown option", "Did you mean 'share'?"]),
        ("data.batch_size", "0", ["data.batch_size='0'", "int >= 1"]),
        ("model.resize", "squash", ["stretch | keep | pad"]),
        ("base.device", "gpu", ["base.device='gpu'"]),
        ("nowhere.key", "1", ["section"]),
    ],
)
def test_a_wrong_option_is_explained(key, value, words):
    with pytest.raises(ConfigError) as error:
        make(overrides={key: value})
    assert all(word in str(error.value) for word in words), str(error.value)


def test_unknown_names_are_explained(tmp_path):
    with pytest.raises(PluginError, match="anomaly-flow"):
        RunConfig.create(model="fastflow", data="weave")
    with pytest.raises(ConfigError, match="edge, paper"):
        make(preset="huge")
    for preset in (["edge"], {"edge": 1}):
        with pytest.raises(ConfigError, match="'palette' has no preset"):
            make(config={"base": {"preset": preset}})
    with pytest.raises(ConfigError, match="no data was chosen"):
        RunConfig.create(model="palette")
    with pytest.raises(ConfigError, match="cannot read the config file"):
        make(config=tmp_path / "absent.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("model: [unclosed\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        make(config=bad)
    bad.write_text("modle: {}\n")
    with pytest.raises(ConfigError, match="Did you mean 'model'"):
        make(config=bad)


def test_assignments_are_text_lists_or_null():
    assert parse_assignment("data.root=/a b=c") == ("data.root", "/a b=c")
    assert parse_assignment("model.layers=[1, 2]") == ("model.layers", ["1", "2"])
    assert parse_assignment("model.center_crop=null") == ("model.center_crop", None)
    assert parse_assignment("data.mask_pattern={stem}_mask") == ("data.mask_pattern", "{stem}_mask")
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        parse_assignment("share")


@pytest.mark.parametrize("name", ["[1]", "{a}", "null", "~", "[a, b]", "{a: b}"])
def test_the_name_of_something_that_exists_is_text_where_the_option_takes_text(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    root = make(overrides=dict([parse_assignment(f"data.root={name}")])).data.root
    assert root == name and expanded(root).samefile(tmp_path / name)
    if name == "[1]":
        assert make(overrides=dict([parse_assignment("base.metrics=[1]")])).base.metrics == ["1"]
    if name in ("null", "~"):
        assert make(overrides=dict([parse_assignment(f"data.tile={name}")])).data.tile is None
    (tmp_path / name).rmdir()
    if name in ("null", "~"):
        assert make(overrides=dict([parse_assignment(f"data.root={name}")])).data.root is None
    else:
        with pytest.raises(ConfigError):
            make(overrides=dict([parse_assignment(f"data.root={name}")]))


@pytest.mark.parametrize("folder", ["plain", "größe/東京", "a\x85b", "a\u2028b\u2029", "\x85"])
def test_a_config_of_any_text_comes_back_from_yaml(tmp_path, folder):
    config = make(overrides={"base.output": folder})
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    assert RunConfig.create(config=file).base.output == folder
