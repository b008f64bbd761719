"""Real-IAD: splits in JSON, five views an object, objects that stay whole, and noisy training images without labels."""

from __future__ import annotations

import json
import warnings

import pytest
from click.testing import CliRunner

from anomaly_core import ConfigError, DataError, InputSpec, validate
from anomaly_datasets import facts, plugin
from anomaly_datasets.commands import data as data_command
from anomaly_datasets.config import RealIADConfig
from anomaly_datasets.real_iad import RealIADData, object_and_view


def real_iad(root, seed=0, **options):
    values = {"name": "real_iad", "root": str(root), "num_workers": 0, **options}
    return RealIADData(validate(RealIADConfig, values, "data"), seed, plugin.REAL_IAD)


def objects(samples):
    return {sample.extra["object"] for sample in samples}


def test_the_split_of_the_json(real_iad_tree):
    data = real_iad(real_iad_tree)
    assert data.categories() == ["toy"]
    train, test = data.train_samples("toy"), data.test_samples("toy")
    assert len(train) == 20 and {sample.label for sample in train} == {0}
    assert [sum(sample.label == label for sample in test) for label in (0, 1)] == [10, 10]
    bad = [sample for sample in test if sample.label]
    assert {sample.defect for sample in bad} == {"HS"} and all(sample.mask_path.is_file() for sample in bad)
    assert objects(bad) == {"NG/HS/S0001/toy__0001_NG_HS", "NG/HS/S0002/toy__0002_NG_HS"}
    assert {sample.extra["view"] for sample in test} == {1, 2, 3, 4, 5}
    (batch,) = data.images(test, InputSpec((16, 24)))
    assert batch.masks.sum(dim=(1, 2, 3)).tolist() == [0] * 10 + [16] * 10 and batch.has_mask.all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("holdout", [0.0, 0.1, 0.3, 0.9])
def test_an_object_is_never_divided(real_iad_tree, seed, holdout):
    data = real_iad(real_iad_tree, seed, holdout=holdout)
    fit, held_out = data.split("toy")
    assert not objects(fit) & objects(held_out)
    assert len(fit) + len(held_out) == 20 and fit
    assert len(held_out) == {0.0: 0, 0.1: 5, 0.3: 10, 0.9: 15}[holdout]  # whole objects of five, and one is left to fit on
    assert [sample.path for sample in data.split("toy")[1]] == [sample.path for sample in held_out]
    assert len(data.split("toy", fewest=16)[0]) == 20  # no whole object can be spared
    with pytest.raises(DataError, match="needs 21"):
        data.split("toy", fewest=21)


def test_another_seed_holds_others_out(real_iad_tree):
    held_out = [objects(real_iad(real_iad_tree, seed, holdout=0.3).split("toy")[1]) for seed in range(8)]
    assert len(set(map(frozenset, held_out))) > 1


def test_views_choose_cameras(real_iad_tree):
    data = real_iad(real_iad_tree, views="1,3")
    for samples in (data.train_samples("toy"), data.test_samples("toy")):
        assert {sample.extra["view"] for sample in samples} == {1, 3}
    assert len(data.train_samples("toy")) == 8
    for wrong in ("6", "x"):
        with pytest.raises(ConfigError, match=r"data\.views"):
            real_iad(real_iad_tree, views=wrong)


def test_a_noisy_protocol_trains_without_labels(real_iad_tree):
    data = real_iad(real_iad_tree, protocol="fuiad_0.2", holdout=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none is left out for its label
        fit, held_out = data.split("toy")
    assert len(fit) + len(held_out) == 25 and {sample.label for sample in [*fit, *held_out]} == {None}
    assert any("HS" in str(sample.path) for sample in [*fit, *held_out])
    assert {sample.label for sample in data.test_samples("toy")} == {0, 1}


def test_names_without_a_folder_of_the_object():
    assert object_and_view("OK/S0001/toy_0001_OK_C2_2023.jpg") == ("OK/S0001/toy_0001_OK", 2)
    assert object_and_view("toy_brick_0001_OK_C5.jpg") == ("toy_brick_0001_OK", 5)
    assert object_and_view("OK/other.jpg") == ("OK/other.jpg", 0)


def test_the_resolution_and_the_protocol_say_where_they_looked(real_iad_tree):
    for options in ({"resolution": 1024}, {"protocol": "single_view"}, {"protocol": "fuiad_0.4"}):
        with pytest.raises(DataError, match=r"looked for realiad_.*realiad4ad\.github\.io"):
            real_iad(real_iad_tree, **options).categories()
    assert real_iad(real_iad_tree, resolution="256").categories() == ["toy"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", r"cannot read the split .*toy\.json"),
        ("[]", "must hold meta, train and test"),
        (json.dumps({"train": [{"anomaly_class": "OK"}], "test": []}), r"train\.0\.image_path"),
        ("[" * 100_000, "cannot read the split"),
        (json.dumps({"train": [{"anomaly_class": "OK", "image_path": "../../x.png"}], "test": []}), "leads out"),
        (json.dumps({"train": [{"anomaly_class": "OK", "image_path": "/etc/x.png"}], "test": []}), "leads out"),
        (json.dumps({"train": [{"anomaly_class": "OK", "image_path": "a\0.png"}], "test": []}), "leads out"),
        (json.dumps({"train": [{"anomaly_class": "OK", "image_path": "OK/gone.jpg"}], "test": []}), "1 of 1 images"),
    ],
)
def test_a_split_that_cannot_be_used(real_iad_tree, text, words):
    (real_iad_tree / "realiad_jsons/realiad_jsons/toy.json").write_text(text)
    with pytest.raises(DataError, match=words):
        real_iad(real_iad_tree).train_samples("toy")


def test_verify_compares_the_totals(real_iad_tree, monkeypatch):
    small = facts.Facts(categories=("toy",), totals=(20, 10, 10), layout="")
    monkeypatch.setitem(facts.FACTS, "real_iad", small)
    arguments = ["verify", "real_iad", "--root", str(real_iad_tree)]
    result = CliRunner().invoke(data_command, arguments)
    assert result.exit_code == 0 and "in all" in result.output, result.output
    monkeypatch.setitem(facts.FACTS, "real_iad", facts.Facts(categories=("toy", "usb"), totals=(20, 10, 11), layout=""))
    result = CliRunner().invoke(data_command, arguments)
    assert result.exit_code == 1 and "10/11" in result.output and "usb" in result.output


def test_the_published_totals():
    assert sum(facts.REAL_IAD.totals) == 151050 and len(facts.REAL_IAD.categories) == 30
