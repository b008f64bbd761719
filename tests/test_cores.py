"""How many threads compute where nothing else says."""

from __future__ import annotations

import pytest

from anomaly_core import cores


@pytest.mark.parametrize(
    ("wanted", "processes", "expected"),
    [
        (None, 1, 8), (None, 3, 2), (None, 20, 1), ("3", 1, 3), ("3", 8, 3), ("2,1", 4, 2), ("", 2, 4),
        ("0", 2, 4), ("many", 2, 4), (" 5 ", 2, 5),
    ],
)  # fmt: skip
def test_threads(wanted: str | None, processes: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cores", lambda: 8)
    if wanted is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert cores.threads(processes) == expected
