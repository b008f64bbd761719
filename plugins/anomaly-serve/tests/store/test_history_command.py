"""``anomaly history``, beside a service that runs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from anomaly_core import RunError
from anomaly_serve.commands.history import history
from anomaly_serve.store import Store


def run(*words: object) -> Result:
    return CliRunner().invoke(history, [str(word) for word in words], catch_exceptions=False)


def at(store: Store, url: str | None) -> list[object]:
    return [store.folder, *(["--database", url] if url else [])]


@pytest.fixture
def busy(store: Store, judgement: Any, calibration: Any) -> Store:
    store.add_product("bolt", "anna")
    store.add_version("bolt", "/runs/bolt", calibration=calibration, who="anna")
    judged = [judgement(number) for number in range(30)] + [judgement(30, product="bolt", is_anomalous=True)]
    for future in store.record_many([(each, b"image", ".png") for each in judged]):
        future.result()
    store.mark(judgement(10).id, "fine", "ben")
    return store


def test_export_takes_the_pages_filters(busy: Store, url: str | None, judgement: Any, tmp_path: Path) -> None:
    def ids(*words: object) -> list[int]:
        result = run("export", *at(busy, url), *words)
        assert result.exit_code == 0
        return [int(row["id"]) for row in csv.DictReader(result.stdout.splitlines())]

    assert ids() == [30, *range(29, -1, -1)]
    assert ids("--verdict", "anomalous") == [30, 20, 10, 0]
    assert ids("--product", "tile", "--version", "1", "--mark", "fine") == [10]
    assert ids("--text", "part 7") == [7]
    assert ids("--since", "2030-01-01") == []
    output = tmp_path / "table.csv"
    assert run("export", *at(busy, url), "--output", output).exit_code == 0
    assert len(output.read_text("utf-8").splitlines()) == 32
    with pytest.raises(RunError, match="new file"):
        run("export", *at(busy, url), "--output", output)
    with pytest.raises(RunError, match="Known: bolt, tile"):
        run("export", *at(busy, url), "--product", "nut")
    assert run("export", *at(busy, url), "--version", 1).exit_code == 2


def test_changes_name_who_did_them(busy: Store, url: str | None) -> None:
    result = run("changes", *at(busy, url))
    assert result.exit_code == 0
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [(row["product"], row["who"], row["action"]) for row in rows] == [
        ("bolt", "anna", "add version"),
        ("bolt", "anna", "add product"),
        ("tile", "ben", "mark"),
        ("tile", "anna", "activate"),
        ("tile", "anna", "add version"),
        ("tile", "anna", "add product"),
    ]
    assert '"to":"fine"' in rows[2]["facts"]


def test_check_tells_what_is_wrong(busy: Store, url: str | None, judgement: Any) -> None:
    result = run("check", *at(busy, url))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["31 verdicts; 31 images, 155 bytes", "the database is sound"]
    image = next((busy.folder / "images").rglob(f"{judgement(7).id}.png"))
    image.with_stem("x" * 26).write_bytes(b"stray")
    image.unlink()
    result = run("check", *at(busy, url))
    assert result.exit_code == 1
    assert f"1 images are missing or damaged, such as that of verdict {judgement(7).id}" in result.stdout
    assert "1 files belong to no verdict" in result.stdout


@pytest.mark.parametrize("url", [None])  # PostgreSQL has programs of its own
def test_backup_and_restore(line: Path, judgement: Any) -> None:
    with Store.open(None, line) as store:
        store.record(judgement(1)).result()
        result = run("backup", line)
        assert result.exit_code == 0
        [made] = (line / "backups").glob("backup-*.db")
        assert result.stdout.startswith(str(made))
        store.record(judgement(2), b"later").result()
    result = run("restore", line, made)
    assert result.exit_code == 0
    assert "1 verdicts, the last of 2026-05-" in result.stdout
    assert "1 images of verdicts that are not among them" in result.stdout
    assert "the former database" in result.stdout


def test_a_folder_without_a_history_is_one_error(tmp_path: Path) -> None:
    for name in ("check", "export", "backup"):
        with pytest.raises(RunError, match="no history"):
            run(name, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
