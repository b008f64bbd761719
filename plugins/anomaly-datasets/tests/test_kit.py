"""The category ``kit`` of ``sample``: the rules of a whole kit, one broken rule a fault, and masks as in MVTec LOCO AD."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from anomaly_datasets import plugin
from anomaly_datasets.config import SampleConfig
from anomaly_datasets.kit import (
    EXTRA,
    LENGTHS,
    LOGICAL_FAULTS,
    MISSING,
    RADIUS,
    WHOLE,
    WRONG,
    _whole,
    defects_config,
    wrong_kit,
)
from anomaly_datasets.sample import Recipe, SampleData, write_one

RULES = ("count", "bay", "finish")


def broken(kit):
    """Which rules of a whole kit it breaks."""
    counts = Counter(part.kind for part in kit.parts)
    at_home = all(part.bay == ("screws" if part.kind in LENGTHS else part.kind) for part in kit.parts)
    return {rule for rule, kept in zip(RULES, (counts == WHOLE, at_home, kit.finish == kit.announced), strict=True) if not kept}


def test_whole_kits_break_no_rule_and_have_both_finishes_and_many_arrangements():
    kits = [_whole(np.random.default_rng(seed)) for seed in range(40)]
    assert not set().union(*map(broken, kits))
    assert {kit.finish for kit in kits} == {"brass", "steel"}
    orders = {tuple(part.kind for part in sorted(kit.parts, key=lambda part: part.x) if part.bay == "screws") for kit in kits}
    assert len(orders) > 5


@pytest.mark.parametrize("fault", LOGICAL_FAULTS)
def test_a_fault_breaks_the_rule_that_its_name_says(fault):
    rules = {
        "missing": [{"count"}],
        "extra": [{"count"}],
        "swapped": [{"bay"}, {"count"}],
        "misplaced": [{"bay"}],
        "combination": [{"finish"}],
    }
    for seed in range(30):
        rng = np.random.default_rng(seed)
        wrong, marks = WRONG[fault](rng, _whole(rng))
        assert broken(wrong) in rules[fault] and marks
        assert len(wrong.parts) - sum(WHOLE.values()) == {"missing": -1, "extra": 1}.get(fault, 0)
        rounds = [part for part in wrong.parts if part.kind not in LENGTHS]
        gaps = [np.hypot(a.x - b.x, a.y - b.y) for a in rounds for b in rounds if a is not b]
        assert min(gaps) > 2 * RADIUS  # parts lie beside each other


def test_enough_of_a_defect_is_the_area_of_one_part():
    enough = {entry["pixel_value"]: entry for entry in defects_config(256)}
    values, areas = Counter(), {}
    for seed in range(12):
        for fault in LOGICAL_FAULTS:
            _, _, mask = wrong_kit(np.random.default_rng(seed), 256, fault)
            found, pixels = np.unique(mask[mask > 0], return_counts=True)
            assert found.size and set(found.tolist()) <= set(enough)
            values.update(found.tolist())
            if fault == "extra":
                ((kind, value),) = [item for item in EXTRA.items() if item[1] in found]
                areas[kind] = pixels[0] / (WHOLE[kind] + 1)
                assert areas[kind] == pytest.approx(enough[value]["saturation_threshold"], rel=0.1)
            if fault == "missing":  # the bay, which is larger than the part
                assert pixels[0] > 2 * enough[found[0]]["saturation_threshold"]
    assert {*MISSING.values(), *EXTRA.values()} <= set(values)


def test_samples_say_how_much_of_each_value_is_enough(tmp_path):
    options = {"size": 64, "train_count": 2, "good_count": 1, "bad_count": 7}
    data = SampleData(SampleConfig(name="sample", root=str(tmp_path), num_workers=0, **options), 0, plugin.SAMPLE)
    test = data.test_samples("kit")
    assert {sample.defect for sample in test} == {"good", *LOGICAL_FAULTS, "scratch", "stain"}
    for sample in test:
        if sample.label:
            with Image.open(sample.mask_path) as mask:
                values = np.unique(np.asarray(mask))
            assert set(values[values > 0].tolist()) <= set(sample.extra["saturation"])
        else:
            assert not sample.extra
    assert not any(sample.extra for sample in data.test_samples("nut"))
    assert len(json.loads((data.tree / "kit/defects_config.json").read_text())) == 11


def test_the_other_categories_are_what_they_were(tmp_path):
    """The means of pictures that the generator gave before there was a kit; platforms may round pixels otherwise."""
    before = {
        "fabric": (112.943, 90.608, 87.325),
        "wood": (144.244, 117.585, 109.535),
        "nut": (78.548, 55.697, 62.763),
        "circuit": (97.348, 93.151, 103.365),
    }
    recipe = Recipe(2, 0, 64, 2, 1, 5)
    for category, means in before.items():
        for part, mean in zip(("train", "good", "bad"), means, strict=True):
            write_one(tmp_path / part, recipe, category, part, 0)
            (path,) = (path for path in (tmp_path / part / category).rglob("*.png") if "ground_truth" not in path.parts)
            with Image.open(path) as image:
                assert np.asarray(image, dtype=float).mean() == pytest.approx(mean, abs=0.01)
