"""Pipes, sockets, devices, dead links and loops of links in a data set: nothing waits for them or hides them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from anomaly_core import BaseDataModule, DataError, screen
from anomaly_datasets import plugin
from anomaly_datasets.commands import data
from anomaly_datasets.config import (
    ELPVConfig,
    FolderConfig,
    MVTecConfig,
    MVTecLOCOConfig,
    RealIADConfig,
    SampleConfig,
    VisAConfig,
)
from anomaly_datasets.elpv import ELPVData
from anomaly_datasets.folder import FolderData
from anomaly_datasets.mvtec import MVTecData
from anomaly_datasets.mvtec_loco import MVTecLOCOData
from anomaly_datasets.real_iad import RealIADData
from anomaly_datasets.sample import MARKER, SampleData
from anomaly_datasets.visa import VisAData
from special_files import SPECIAL, in_time

pytestmark = [
    pytest.mark.reliability("input"),
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders"),
]


def module(name: str, root: Path) -> BaseDataModule:
    if name == "visa":
        return VisAData(VisAConfig(name=name, root=str(root)), 0, plugin.VISA)
    if name == "mvtec_loco":
        return MVTecLOCOData(MVTecLOCOConfig(name=name, root=str(root)), 0, plugin.MVTEC_LOCO)
    if name == "real_iad":
        return RealIADData(RealIADConfig(name=name, root=str(root)), 0, plugin.REAL_IAD)
    if name == "folder":
        return FolderData(FolderConfig(name=name, root=str(root)), 0, plugin.FOLDER)
    return MVTecData(MVTecConfig(name=name, root=str(root)), 0, plugin.MVTEC)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize(
    ("name", "tree"),
    [
        ("mvtec", "mvtec_tree"),
        ("folder", "mvtec_tree"),
        ("visa", "visa_tree"),
        ("mvtec_loco", "loco_tree"),
        ("real_iad", "real_iad_tree"),
    ],
)
def test_what_is_no_file_is_an_error_or_left_out(name, tree, kind, request) -> None:
    root = request.getfixturevalue(tree)
    samples = module(name, root)
    category = samples.categories()[0]
    before = [*samples.train_samples(category), *samples.test_samples(category)]
    masked = next(sample for sample in before if sample.mask_path is not None)
    mask = masked.mask_path[-1] if isinstance(masked.mask_path, tuple) else masked.mask_path
    victims = [before[0].path, before[-1].path, Path(mask)]
    for victim in victims:
        victim.unlink()
        SPECIAL[kind](victim)
    pipes = victims if kind == "pipe" else []

    def look(policy: str):
        after = module(name, root)
        return screen([*after.train_samples(category), *after.test_samples(category)], policy)

    screened = in_time(lambda: look("skip"), *pipes)
    expected = {before[0].path, before[-1].path, masked.path}
    assert {item.path for item in screened.skipped} == expected
    assert len(screened.kept) == len(before) - len(expected)
    with pytest.raises(DataError, match=r"cannot read the (image|mask) .* It is the first of \d"):
        in_time(lambda: look("error"), *pipes)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("where", ["category", "train", "ground_truth", "test"])
def test_what_is_no_folder_where_a_folder_is_expected(kind, where, mvtec_tree) -> None:
    victim = mvtec_tree / {"category": "bottle", "train": "bottle/train", "ground_truth": "bottle/ground_truth"}.get(
        where, "bottle/test/broken"
    )
    shutil.rmtree(victim)
    SPECIAL[kind](victim)
    names = in_time(lambda: module("mvtec", mvtec_tree).categories())
    empty = where == "train" and kind == "folder"  # an error when its images are listed
    assert names == (["grid"] if where in ("category", "train") and not empty else ["bottle", "grid"])
    if where == "ground_truth":
        bad = in_time(lambda: module("mvtec", mvtec_tree).test_samples("bottle"))
        assert all(sample.mask_path is None for sample in bad)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("table", ["visa", "elpv"])
def test_a_table_that_is_no_file(kind, table, visa_tree, tmp_path) -> None:
    path = visa_tree / "split_csv" / "1cls.csv" if table == "visa" else tmp_path / "labels.csv"
    path.unlink(missing_ok=True)
    SPECIAL[kind](path)
    samples: BaseDataModule = module("visa", visa_tree)
    if table == "elpv":
        samples = ELPVData(ELPVConfig(name="elpv", root=str(tmp_path)), 0, plugin.ELPV)
    with pytest.raises(DataError):
        in_time(samples.categories, *([path] if kind == "pipe" else []))


@pytest.mark.parametrize("table", ["visa", "elpv"])
def test_a_table_of_ten_gigabytes_is_refused(table, visa_tree, tmp_path) -> None:
    path = visa_tree / "split_csv" / "1cls.csv" if table == "visa" else tmp_path / "labels.csv"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)  # a hole, which takes no space
    samples: BaseDataModule = module("visa", visa_tree)
    if table == "elpv":
        samples = ELPVData(ELPVConfig(name="elpv", root=str(tmp_path)), 0, plugin.ELPV)
    with pytest.raises(DataError, match="10737418240 bytes are more"):
        samples.train_samples("candle" if table == "visa" else "mono")


@pytest.mark.parametrize("kind", [*SPECIAL, "text"])
def test_a_marker_of_the_sample_that_is_none(kind, tmp_path) -> None:
    options = SampleConfig(name="sample", root=str(tmp_path), size=64, train_count=2, good_count=1, bad_count=5)
    samples = SampleData(options, 0, plugin.SAMPLE)
    marker = samples.ensure() / MARKER
    marker.unlink()
    SPECIAL.get(kind, lambda path: path.write_text("{"))(marker)
    with pytest.raises(DataError, match="was not written by this generator"):
        in_time(samples.ensure, *([marker] if kind == "pipe" else []))
    shutil.rmtree(samples.tree)  # as the message says
    assert samples.ensure().is_dir()


@pytest.mark.parametrize("kind", SPECIAL)
def test_verify_counts_no_image_that_is_none(kind, mvtec_tree) -> None:
    def counted() -> str:
        text = CliRunner().invoke(data, ["verify", "mvtec", "--root", str(mvtec_tree)]).output
        return next(line for line in text.splitlines() if line.startswith("bottle"))

    before = counted()
    assert before.split()[1:5] == ["3/209", "1/20", "2/63", "1/63"]
    for name in ("train/good/1.png", "test/broken/001.png", "ground_truth/broken/000_mask.png"):
        (mvtec_tree / "bottle" / name).unlink()
        SPECIAL[kind](mvtec_tree / "bottle" / name)
    assert in_time(counted).split()[1:5] == ["2/209", "1/20", "1/63", "0/63"]


@pytest.mark.parametrize("kind", SPECIAL)
def test_an_archive_that_is_no_file(kind, tmp_path) -> None:
    archive = tmp_path / "visa.tar"
    SPECIAL[kind](archive)
    arguments = ["prepare", "visa", "--archive", str(archive), "--root", str(tmp_path / "root")]
    result = in_time(lambda: CliRunner().invoke(data, arguments), *([archive] if kind == "pipe" else []))
    assert isinstance(result.exception, DataError) and "there is no archive" in str(result.exception)
