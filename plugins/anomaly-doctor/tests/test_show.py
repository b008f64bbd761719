"""``anomaly show``: every option of a component, in words, without torch."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from anomaly_core import BaseConfig, DataConfig
from anomaly_doctor import describe_options

pytestmark = pytest.mark.usefixtures("tiny")


def test_show_tells_every_option_and_where_it_is_from(anomaly: Callable[..., Any]) -> None:
    out = anomaly("show", "palette").out
    for part in ("palette (model): a pixel is as odd as its colour", "from      anomaly-tiny 1.2.3", "presets   edge, paper"):
        assert part in out
    assert re.search(r"model\.share +float > 0 and <= 1; default 1\.0\n", out)
    assert "share of the normal images that is remembered" in out
    assert "base.seed" in anomaly("show", "base").out
    assert "train.epochs" in anomaly("show", "descent").out


def test_a_name_that_is_not_there_is_met_with_similar_ones(anomaly: Callable[..., Any]) -> None:
    done = anomaly("show", "paltete")
    assert done.code == 2 and "Did you mean 'palette'?" in done.err
    done = anomaly("show", "palette", "--no-plugin", "anomaly-tiny")
    assert done.code == 2 and "blocked by --no-plugin" in done.err


def test_show_needs_no_torch() -> None:
    program = (
        "import sys; from anomaly_core.cli import main\ntry: main(sys.argv[1:])\nfinally: assert 'torch' not in sys.modules"
    )
    for name in ("palette", "weave", "base"):
        done = subprocess.run([sys.executable, "-c", program, "show", name], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout) > 100


def test_every_option_of_the_run_has_a_meaning() -> None:
    rows = describe_options(BaseConfig)
    assert ("seed", "int >= 0 and <= 4294967295", 0, "governs everything that is random (in fitting alone)") in rows
    assert all(meaning for *_, meaning in rows)


def test_what_an_option_needs_is_shown() -> None:
    meanings = {name: meaning for name, _, _, meaning in describe_options(DataConfig)}
    assert meanings["tile_overlap"].endswith(" (only with data.tile)")
    assert meanings["augment_copies"].endswith(" (only with data.augment; in fitting alone)")
    assert not meanings["tile"].endswith(")")
