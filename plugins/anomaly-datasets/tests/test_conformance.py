"""Each data set passes the conformance kit, on its miniature tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly_testing import check_component

TREES = {"mvtec": "mvtec_tree", "visa": "visa_tree", "btad": "btad_tree", "folder": "mvtec_tree", "mpdd": "mvtec_tree"}
TREES |= {"magnetic_tile": "tile_tree", "deep_pcb": "board_tree", "dagm": "dagm_tree", "ksdd2": "ksdd2_tree", "dtd": "dtd_tree"}
TREES |= {"mvtec_loco": "loco_tree", "mvtec_ad2": "ad2_tree", "real_iad": "real_iad_tree"}


@pytest.mark.parametrize("name", TREES)
def test_conformance(name: str, request: pytest.FixtureRequest) -> None:
    outcomes = check_component(name, "dataset", overrides={"data.root": str(request.getfixturevalue(TREES[name]))})
    assert {outcome.status for outcome in outcomes} == {"passed"}


def test_conformance_of_sample(tmp_path: Path) -> None:
    few = {"data.size": 64, "data.train_count": 3, "data.good_count": 2, "data.bad_count": 5}
    outcomes = check_component("sample", "dataset", overrides={"data.root": str(tmp_path), **few})
    assert {outcome.status for outcome in outcomes} == {"passed"}
