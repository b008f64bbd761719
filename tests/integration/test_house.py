"""How the house is kept: no source file and no test file is longer than can be read in one sitting."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 330
FOLDERS = ("anomaly_core", "plugins", "examples", "tests", "benchmarks", "docs", "tools")


def too_long(folders: Iterable[Path]) -> dict[str, int]:
    """File -> its lines, of those that have more than the longest may."""
    lengths = {str(path): len(path.read_text("utf-8").splitlines()) for folder in folders for path in folder.rglob("*.py")}
    return {path: lines for path, lines in lengths.items() if lines > LONGEST}


def test_no_file_is_too_long() -> None:
    assert too_long(ROOT / name for name in FOLDERS) == {}, "split it by concept"


def test_a_long_file_is_seen(tmp_path: Path) -> None:
    for lines in (LONGEST, LONGEST + 1):
        (tmp_path / f"of_{lines}.py").write_text("pass\n" * lines)
    assert list(too_long([tmp_path]).values()) == [LONGEST + 1]
