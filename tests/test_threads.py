"""How many threads compute where nothing else says."""

from __future__ import annotations

import pytest

from anomaly_core import threads


@pytest.mark.parametrize(
    ("wanted", "processes", "expected"),
    [
        (None, 1, 8), (None, 3, 2), (None, 20, 1), ("3", 1, 3), ("3", 8, 3), ("2,1", 4, 2), ("", 2, 4),
        ("0", 2, 4), ("many", 2, 4), (" 5 ", 2, 5),
    ],
)  # fmt: skip
def test_threads(wanted: str | None, processes: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "core_count", lambda: 8)
    if wanted is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert threads.thread_count(processes) == expected


def test_decoders_are_no_more_than_a_disk_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((1, 1), (8, 8), (64, 8)):
        monkeypatch.setattr(threads, "core_count", lambda cores=cores: cores)
        assert threads.decoders() == expected
