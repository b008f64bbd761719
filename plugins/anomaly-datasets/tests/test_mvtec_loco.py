"""MVTec LOCO AD: several masks an image, what their values mean, two kinds of anomaly, and images set aside for validation."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from anomaly_core import ConfigError, DataError, InputSpec, read_mask_classes, validate
from anomaly_datasets import facts, plugin
from anomaly_datasets.commands import data as data_command
from anomaly_datasets.config import MVTecLOCOConfig
from anomaly_datasets.mvtec_loco import MVTecLOCOData


def loco(root, **options):
    values = {"name": "mvtec_loco", "root": str(root), "num_workers": 0, **options}
    return MVTecLOCOData(validate(MVTecLOCOConfig, values, "data"), 0, plugin.MVTEC_LOCO)


def names(samples):
    return [f"{sample.path.parent.parent.name}/{sample.path.name}" for sample in samples]


def test_all_masks_of_an_image_and_the_union_that_is_judged(loco_tree):
    data = loco(loco_tree)
    assert data.categories() == ["pushpins", "screw_bag"]
    test = data.test_samples("pushpins")
    assert [sample.defect for sample in test] == ["good"] * 2 + ["logical_anomalies"] * 2 + ["structural_anomalies"] * 2
    assert [len(sample.mask_path or ()) for sample in test] == [0, 0, 2, 0, 1, 0]
    (batch,) = data.loader(test, InputSpec((16, 24)))
    assert batch.masks.sum(dim=(1, 2, 3)).tolist() == [0, 0, 32, 0, 16, 0]
    assert batch.has_mask.tolist() == [True, True, True, False, True, False]


def test_the_value_of_a_mask_says_how_much_is_enough(loco_tree):
    logical = loco(loco_tree).test_samples("pushpins")[2]
    enough = {}
    for path in logical.mask_path:
        classes = read_mask_classes(path)
        (value,) = np.unique(classes[classes > 0])
        entry = logical.extra["saturation"][int(value)]
        enough[entry.defect_name] = entry.pixels(int((classes > 0).sum()))
    assert enough == {"missing": 8, "surplus": 8}  # 8 pixels; half of 16
    entry = logical.extra["saturation"][241]
    assert entry.pixels(5) == 5  # never more than there are


def test_kinds_choose_what_is_tested(loco_tree):
    for text, kinds in (
        ("logical", {"logical_anomalies"}),
        ("logical,structural", {"logical_anomalies", "structural_anomalies"}),
    ):
        samples = loco(loco_tree, kinds=text).test_samples("pushpins")
        assert {sample.defect for sample in samples} == {"good", *kinds}
    with pytest.raises(ConfigError, match="logical"):
        loco(loco_tree, kinds="logic")
    with pytest.raises(ConfigError, match="kinds"):
        loco(loco_tree, kinds=[])


@pytest.mark.parametrize("holdout", [0.5, 0])
def test_the_validation_images_are_held_out(loco_tree, holdout):
    fit, held_out = loco(loco_tree, holdout=holdout).split("pushpins")
    assert len(fit) == 4 and {name.split("/")[0] for name in names(held_out)} == {"validation"}
    assert len(held_out) == 2
    fit, held_out = loco(loco_tree, holdout=0.5, validation=False).split("pushpins")
    assert len(fit) == len(held_out) == 2 and {name.split("/")[0] for name in names(held_out)} == {"train"}
    with pytest.raises(DataError, match="4 normal training images, and the method needs 5"):
        loco(loco_tree).split("pushpins", fewest=5)


def test_a_copy_without_its_validation_images_says_how_to_go_on(loco_tree):
    shutil.rmtree(loco_tree / "pushpins" / "validation")
    with pytest.raises(DataError, match=r"validation.good.*data\.validation=false"):
        loco(loco_tree).split("pushpins")
    assert loco(loco_tree, validation=False).split("pushpins")[0]


def test_a_config_of_defects_that_is_missing_or_wrong(loco_tree):
    file = loco_tree / "pushpins" / "defects_config.json"
    for wrong in ("{}", "[[[[", json.dumps([{"defect_name": "x", "pixel_value": 0}]), '[{"saturation_threshold": NaN}]'):
        file.write_text(wrong)
        with pytest.raises(DataError, match=r"defects_config\.json.*must list the defects"):
            loco(loco_tree).test_samples("pushpins")
    file.unlink()
    with pytest.warns(UserWarning, match="not known"):
        assert loco(loco_tree).test_samples("pushpins")[2].extra == {}


def test_verify_counts_the_validation_images_too(loco_tree, monkeypatch):
    small = facts.Facts(
        categories=("pushpins", "screw_bag"),
        totals=(8, 4, 8),
        layout="",
        per_category=dict.fromkeys(("pushpins", "screw_bag"), (4, 2, 4)),
        masked=True,
        validation={"pushpins": 2, "screw_bag": 3},
    )
    monkeypatch.setitem(facts.FACTS, "mvtec_loco", small)
    result = CliRunner().invoke(data_command, ["verify", "mvtec_loco", "--root", str(loco_tree)])
    assert result.exit_code == 1
    assert "2/4" in result.output and "2 of 3 images for validation" in result.output  # two images have no mask


def test_the_published_counts():
    known = facts.MVTEC_LOCO
    assert sum(known.validation.values()) == 305 and known.totals[1] + known.totals[2] == 1568
