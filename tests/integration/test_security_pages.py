"""Hostile names and values stay text in the pages that a browser shows, and choose no folder."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from sealing import seal

from anomaly_core import RunFolder
from anomaly_core.cli import cli
from faults import fit, newest

pytestmark = pytest.mark.reliability


@pytest.fixture(scope="module")
def finished(commands, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished")
    done = commands(*fit(root, output, **{"train.epochs": 1, "base.pictures": 0}))
    assert done.code == 0, done.err
    return newest(output)


def test_a_category_that_is_a_path_is_refused(commands, tmp_path) -> None:
    done = commands("run", "--model", "vanilla_ae", "--data", "sample", "--preset", "edge", "--set", f"data.root={tmp_path}",
                    "--set", "data.size=64", "--set", "data.train_count=2", "--category", "../../x",
                    "--output", tmp_path / "runs")  # fmt: skip
    assert done.code == 2 and "no category '../../x'" in done.err and not (tmp_path / "runs").exists()


def test_hostile_values_stay_text_in_the_pages(finished, tmp_path, record) -> None:
    """Every element of the pages is one that the pages of a harmless run have too."""
    hostile = "</script><img src=x onerror=alert(1)><svg/onload=alert(2)>\"'`"
    folder = tmp_path / "runs" / "run"
    shutil.copytree(finished, folder)
    harmless, harmless_board = _elements(folder), _elements(tmp_path / "runs", "leaderboard.html")
    rows = RunFolder(folder).read_rows("predictions.csv")
    rows = [{**row, "path": f"/data/{hostile}{n}.png", "category": hostile, "defect": hostile} for n, row in enumerate(rows)]
    RunFolder(folder).write_rows("predictions.csv", rows)
    config = (folder / "config.yaml").read_text().replace("preset: edge", f"preset: {json.dumps(hostile)}")
    (folder / "config.yaml").write_text(config)
    seal(folder, category=hostile, warnings=[hostile], versions={hostile: hostile})
    for expected, found in ((harmless, _elements(folder)), (harmless_board, _elements(tmp_path / "runs", "leaderboard.html"))):
        assert not found["handlers"] and set(found["tags"]) <= set(expected["tags"])
        assert found["tags"].count("script") == expected["tags"].count("script")
        assert found["tags"].count("img") == expected["tags"].count("img")
    record("security", "hostile file, category, defect and preset names, warnings and versions in report and leaderboard", 7)


def _elements(folder: Path, page: str = "report.html") -> dict[str, list[str]]:
    elements: dict[str, list[str]] = {"tags": [], "handlers": []}

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            elements["tags"].append(tag)
            elements["handlers"] += [name for name, _ in attrs if name.startswith("on")]

    done = CliRunner().invoke(cli, ["report", str(folder)])
    assert done.exit_code == 0, done.output
    Reader().feed((folder / page).read_text(encoding="utf-8"))
    return elements
