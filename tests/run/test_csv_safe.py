"""Text in CSV files stays text."""

from __future__ import annotations

import csv

import pytest

from anomaly_core import RunFolder, printable
from anomaly_core.run.csv_safe import guarded, plain

pytestmark = pytest.mark.reliability


FORMULAS = ("=1+1", "+cmd|'/C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "'=1", "''=1", '=HYPERLINK("http://x")')


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula_and_none_is_lost(tmp_path, text, record) -> None:
    run = RunFolder(tmp_path)
    row = {"path": text, "category": text, "defect": text, "score": "-0.5", "label": 1}
    run.write_rows("rows.csv", [row])
    with (tmp_path / "rows.csv").open(newline="") as file:
        (cells,) = csv.DictReader(file)
    assert cells["path"].startswith(("'", "$'")) and cells["score"] == "-0.5"
    (again,) = run.read_rows("rows.csv")
    assert again == {**row, "label": "1"}
    record("security", f"a file, category or defect named {text!r} in CSV", 3)


def test_other_text_stays_as_it_is() -> None:
    for text in ("a=b", "/data/=x.png", "'quoted'", "", "-1.5e-3", "nan", "é"):
        assert guarded(text) == text and plain(text) == text
    assert guarded(-3) == -3


COMMANDS = (
    "\x1b[2J",
    "a\rb",
    "a\nb",
    "\x00",
    "tab\t",
    "\x7f",
    "\x9b2J",
    "a\u2028b",
    "$'a'",
    "it's \\x1b\x1b",
    "'\t=1",
    "$'\\xzz'",
)


@pytest.mark.parametrize("text", COMMANDS)
def test_no_cell_commands_a_terminal_and_none_is_lost(tmp_path, text, record) -> None:
    run = RunFolder(tmp_path)
    run.write_rows("rows.csv", [{"path": text, "category": "linen"}] * 2)
    content = (tmp_path / "rows.csv").read_text(encoding="utf-8")
    assert len(content.split("\n")) - 1 == len(content.splitlines()) == 3
    assert all(letter.isprintable() for letter in content.replace("\n", ""))
    assert run.read_rows("rows.csv") == [{"path": text, "category": "linen"}] * 2
    record("security", f"a file named {text!r} in CSV")


def test_text_that_only_looks_coded_is_no_error() -> None:
    for text in ("$'\\xzz'", "$'\\'", "$'\\u12'", "$''", "$'"):
        assert isinstance(plain(text), str)
        assert plain(guarded(text)) == text


def test_what_is_printable_has_no_control_character() -> None:
    assert printable("a\x1b[2J\r\nb\x9b\u2028c\t") == "a\\x1b[2J\\x0d\\x0ab\\u009b\\u2028c\\x09"
    assert printable("größe 検査 \udcff") == "größe 検査 \udcff"
