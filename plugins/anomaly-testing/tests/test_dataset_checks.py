"""Each check of data sets can fail: a data set that is right but for one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly_core import DatasetSpec
from anomaly_testing import check_component, checks_of

SOURCE = """
from dataclasses import dataclass
from typing import Annotated
from pathlib import Path
from pydantic import Field
from anomaly_core import DataConfig

@dataclass(kw_only=True)
class Config(DataConfig):
    suffix: Annotated[str, Field(description="of the files")] = ".png"
# ---
from PIL import Image
from anomaly_core import BaseDataModule, DataError, Sample

class Data(BaseDataModule):
    def __init__(self, config, seed=0, spec=None):
        super().__init__(config, seed, spec)

    def categories(self):
        self.root.mkdir(exist_ok=True)
        for name, colour in {"a": 10, "b": 20, "c": 30, "d": 40}.items():
            Image.new("RGB", (20, 20), (colour, 0, 0)).save(self.root / (name + self.config.suffix))
        Image.new("L", (20, 20), 255).save(self.root / "mask.png")
        return ["only"]

    def train_samples(self, category):
        return [Sample(self.root / (name + ".png"), 0, None, category) for name in "ab"]

    def test_samples(self, category):
        good = Sample(self.root / "c.png", 0, None, category)
        return [good, Sample(self.root / "d.png", 1, self.root / "mask.png", category)]
"""
INIT = "super().__init__(config, seed, spec)"
# check, the line that is replaced, what stands there instead, words of the reason
BROKEN = [
    ("torch_free", "from pathlib", "import torch\nfrom pathlib", "imports torch"),
    ("defaults_are_valid", '= ".png"', "= 7", "suffix=7"),
    ("config_survives_yaml", '= ".png"', '= ".png"\n    def __post_init__(self): self.suffix += "x"', "written to YAML"),
    ("builds_with_defaults", INIT, "open('/no/such/file')", "No such file"),
    ("says_what_is_missing", "self.root.mkdir(exist_ok=True)", 'raise DataError("no files")', "does not name the folder"),
    ("says_what_is_missing", 'return ["only"]', "return []", "finds no category|has no category"),
    ("has_categories", 'return ["only"]', 'return ["only", "only"]', "listed twice"),
    ("has_sound_samples", "None, category) for", "self.root / 'mask.png', category) for", "has a mask"),
    ("has_sound_samples", "0, None, category) for", "1, None, category) for", "trains on anomalous"),
    ("has_sound_samples", 'self.root / "mask.png", category)', '(self.root / "no.png",), category)', "no.png is not there"),
    ("keeps_the_test_apart", '"c.png"', '"a.png"', "trains and tests"),
    ("keeps_the_test_apart", '"c.png"', '("c.png" if self.seed else "mask.png")', "another seed"),
    ("works_in_a_worker", INIT, f"{INIT}; self.f = lambda: 0", "pickle"),
    (
        "loads_batches",
        "    def categories",
        "    def loader(self, *args, **more):\n        for batch in super().loader(*args, **more):\n"
        "            batch.images *= 300\n            yield batch\n\n    def categories",
        "reach from",
    ),
]


def spec(modules, old: str = "", new: str = "") -> DatasetSpec:
    name = modules(SOURCE, old, new)
    return DatasetSpec(target=f"{name}:Data", config=f"{name}_config:Config", summary="four pictures")


def test_a_sound_data_set_passes_every_check(modules) -> None:
    results = check_component(spec(modules), "dataset")
    assert [outcome.check for outcome in results] == list(checks_of("dataset"))
    assert {outcome.status for outcome in results} == {"passed"}


def test_a_mask_may_be_several_files(modules) -> None:
    several = spec(modules, 'self.root / "mask.png", category)', '(self.root / "mask.png", self.root / "mask.png"), category)')
    assert {outcome.status for outcome in check_component(several, "dataset")} == {"passed"}


@pytest.mark.parametrize(("check", "old", "new", "words"), BROKEN, ids=[f"{i}-{row[0]}" for i, row in enumerate(BROKEN)])
def test_a_broken_data_set_fails(modules, fails, check: str, old: str, new: str, words: str) -> None:
    fails(spec(modules, old, new), check, words)


def test_every_check_is_proved_to_fail(common: set[str]) -> None:
    assert set(checks_of("dataset")) == {check for check, *_ in BROKEN} | common


def test_a_data_set_whose_files_are_not_here_is_skipped_with_a_word(modules, tmp_path: Path) -> None:
    missing = spec(modules, "self.root.mkdir(exist_ok=True)", "raise DataError(f'{self.root} has no files')")
    (outcome,) = check_component(missing, "dataset", only=["has_categories"])
    assert outcome.status == "skipped" and "--set data.root=DIR" in outcome.reason
