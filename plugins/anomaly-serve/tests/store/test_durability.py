"""Killed at any moment, no verdict that was answered is missing, and the disk agrees with the history."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest

from anomaly_serve.store import Store

WRITER = dedent(
    """
    import os, sys
    from pathlib import Path
    from anomaly_serve.records import Judgement
    from anomaly_serve.store import Store

    url, folder, turn = sys.argv[1] or None, Path(sys.argv[2]), int(sys.argv[3])
    store = Store.open(url, folder, quota=40_000)
    print("open", flush=True)
    number = 0
    while True:
        batch = []
        for _ in range(8):
            number += 1
            identity, moment, alarm = f"{turn:010d}{number:016d}", 1.78e9 + 1000 * turn + number, number % 50 == 0
            one = Judgement(identity, "tile", 1, moment, "http", "", 0.1, 0.5, 0.5, alarm, (4, 4))
            batch.append((one, os.urandom(100 + number % 200), ".png"))
        futures = store.record_many(batch)
        if number % 5 == 0:
            store.mark(f"{turn:010d}{number - 8:016d}", "missed", "ben")
        for (one, _, _), future in zip(batch, futures):
            future.result()
            os.write(1, one.id.encode() + b"\\n")  # at once: what print keeps back is lost with the process
    """
)


def kill_while_writing(url: str | None, folder: Path, turn: int, seconds: float) -> list[str]:
    """Start a writer, kill it after it has written for a while; the ids of the verdicts that it has answered."""
    command = [sys.executable, "-c", WRITER, url or "", str(folder), str(turn)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        first = process.stdout.readline()
        assert first == b"open\n", process.stderr.read().decode()
        begun = [process.stdout.readline() for _ in range(8)]
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        rest = process.stdout.read()
    return [line.decode().strip() for line in [*begun, *rest.split(b"\n")[:-1]]]  # the last line may be cut


def check(url: str | None, folder: Path, answered: list[str]) -> int:
    """Every answered verdict is there, the database is sound, and what is used is what is on disk."""
    with Store.open(url, folder, quota=40_000) as store:
        there = {row.id: row for row in store.each("tile")}
        assert not set(answered) - there.keys()
        on_disk = {path.stem: path.stat().st_size for path in (folder / "images").rglob("*.png")}
        assert on_disk == {row.id: row.image_size for row in there.values() if row.image_size}
        assert store.used_bytes() == sum(on_disk.values()) <= 40_000
        assert not [row.id for row in there.values() if row.image_gone == "lost"]
        if url is None:
            with closing(sqlite3.connect(folder / "service.db")) as database:
                assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    return len(there)


def kill_often(url: str | None, folder: Path, times: int, seed: int) -> int:
    chance, answered = random.Random(seed), []
    with Store.open(url, folder):
        pass
    for turn in range(times):
        answered += kill_while_writing(url, folder, turn, chance.uniform(0, 0.4))
        check(url, folder, answered)
    return len(answered)


@pytest.mark.reliability("fault")
def test_what_was_answered_outlives_a_kill(store: Store, url: str | None, record: Callable[..., None]) -> None:
    folder = store.folder
    store.close()
    answered = kill_often(url, folder, 2, seed=1)
    assert answered >= 16
    kind = "SQLite" if url is None else "PostgreSQL"
    record("fault", f"a service's history ({kind}) killed while it writes verdicts and images", 2, seed=1)


@pytest.mark.soak
@pytest.mark.reliability("fault")
def test_what_was_answered_outlives_many_kills(
    store: Store, url: str | None, record: Callable[..., None], soak_seed: int
) -> None:
    folder = store.folder
    store.close()
    answered = kill_often(url, folder, 30, soak_seed)
    kind = "SQLite" if url is None else "PostgreSQL"
    what = f"a service's history ({kind}) killed while it writes verdicts and images; {answered} were answered"
    record("fault", what, 30, seed=soak_seed)
