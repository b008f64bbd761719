"""``anomaly evaluate``: the table of a run, from other images; and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny.runs import arguments, config

pytestmark = pytest.mark.usefixtures("tiny")


def test_evaluate_prints_the_same_table(anomaly: Callable[..., Any], tmp_path: Path) -> None:
    line = arguments(config(tmp_path))
    run = anomaly(*line).out.splitlines()
    done = anomaly("evaluate", run[-1].removeprefix("linen: results in "), "--category", "linen")
    assert done.code == 0, done.err
    table = done.out.splitlines()
    assert table[0] == run[0] and table[1].split()[:4] == run[1].split()[:4]
    assert json.loads((Path(table[-1].removeprefix("linen: results in ")) / "manifest.json").read_text())["evaluates"]


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (["predict", "/nowhere", "/nowhere.png"], 1, "/nowhere"),
        (["predict", "/nowhere", "a", "--address", "tcp://x"], 2, "--address would be ignored"),
        (["predict", "/nowhere", "a", "b", "--watch"], 2, "--watch takes one folder"),
        (["evaluate", "/nowhere"], 1, "'/nowhere' is not a run's folder"),
    ],
)
def test_errors_are_one_paragraph(anomaly: Callable[..., Any], arguments: list[str], expected: int, words: str) -> None:
    done = anomaly(*arguments)
    assert done.code == expected
    assert words in done.err
    assert "Traceback" not in done.err
