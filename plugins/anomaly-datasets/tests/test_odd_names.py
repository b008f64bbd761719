"""Folders whose names mean something to YAML or to a shell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomaly_core import parse_assignment, validate
from anomaly_datasets.config import FolderConfig
from anomaly_datasets.folder import FolderData
from tiny.data import write_image


@pytest.mark.parametrize("name", ["[1]", "{a}", "null", "~", "[a, b]", "a=b"])
def test_a_folder_is_found_whatever_its_name_means_elsewhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, shade in ((name, 0), ("bad", 200)):
        for number in range(5):
            write_image(Path(folder) / f"{number}.png", np.full((16, 16, 3), shade + number, np.uint8))
    given = dict(map(parse_assignment, [f"data.normal={name}", "data.abnormal=bad"]))
    config = validate(
        FolderConfig, {"name": "folder", **{key.partition(".")[2]: value for key, value in given.items()}}, "data"
    )
    (category,) = FolderData(config).categories()
    samples = FolderData(config).train_samples(category)
    assert {sample.path.resolve().parent for sample in samples} == {tmp_path / name}


def test_so_are_several_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("[1]", "{a}", "null"):
        write_image(Path(folder) / "0.png", np.zeros((16, 16, 3), np.uint8))
    assert parse_assignment("data.normal=[1],{a},null") == ("data.normal", "[1],{a},null")
    assert parse_assignment("data.normal=[1, 2]") == ("data.normal", ["1", "2"])
