"""A store of one product with one version, in SQLite and in a real PostgreSQL, and judgements for it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import Calibration
from anomaly_serve.records import Judgement
from anomaly_serve.store import Store

CALIBRATION = Calibration(0.5, 0.2, 4, "4 normal images", scores=(0.1, 0.2, 0.3, 0.4))
START = 1_780_000_000.0  # seconds since 1970
MakeJudgement = Callable[..., Judgement]


@pytest.fixture
def judgement() -> MakeJudgement:
    """``judgement(n, **changes)``: the n-th, n seconds after the start; every tenth is an alarm."""

    def make(number: int, **changes: Any) -> Judgement:
        facts: dict[str, Any] = {
            "id": f"{number:026d}",
            "product": "tile",
            "version": 1,
            "time": START + number,
            "source": "http",
            "name": f"part {number}",
            "score": number / 1000,
            "p_value": 0.5,
            "threshold": 0.5,
            "is_anomalous": number % 10 == 0,
            "size": (480, 640),
            "regions": ({"box": [1, 2, 3, 4], "area": 12.5, "polygon": [[1.0, 2.0], [3.0, 4.0]]},),
            "times": {"decode": 1.5},
            "facts": {"brightness": 0.25},
        }
        return Judgement(**{**facts, **changes})

    return make


def filled(store: Store) -> Store:
    """With the product and the version that the judgements are of."""
    store.add_product("tile", "anna")
    store.add_version("tile", "/runs/tile", calibration=CALIBRATION, least_area=20.0, who="anna", note="first")
    store.activate("tile", 1, "anna")
    return store


@pytest.fixture
def calibration() -> Calibration:
    return CALIBRATION


@pytest.fixture
def fill() -> Callable[[Store], Store]:
    return filled


@pytest.fixture
def store(url: str | None, line: Path) -> Iterator[Store]:
    with Store.open(url, line) as store:
        yield store if store.products() else filled(store)


@pytest.fixture
def line(url: str | None, tmp_path: Path, template: Path) -> Path:
    """The store's folder; for SQLite there is a filled database in it, whose migrations would take most of a test's time."""
    folder = tmp_path / "line"
    if url is None:
        shutil.copytree(template, folder)
    return folder


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    with Store.open(None, folder) as store:
        filled(store)
    return folder


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    """None for SQLite, and the address of a database of PostgreSQL that has the tables."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgresql")("prepared")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """``postgresql()``: the address of a new, empty database on a server that runs for these tests alone.

    ``postgresql("prepared")``: with the tables, whose making takes most of a test's time.
    """
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: postgresql)")
    if sys.platform == "win32":
        pytest.skip("the server of these tests listens on a Unix socket")
    import pwd

    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    if user and user not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip("root cannot run PostgreSQL's server, and there is no user 'postgres'")
    place = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path must be short
    made: list[str] = []
    if user:
        shutil.chown(place, user)
    options = {"user": user, "cwd": place, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    command = [programs / "initdb", "-D", place / "data", "--auth=trust", "-U", "postgres", "--no-sync", "-E", "UTF8"]
    subprocess.run(command, check=True, **options)
    command = [programs / "postgres", "-D", place / "data", "-k", place, "-c", "listen_addresses=", "-c", "fsync=off"]
    server = subprocess.Popen(command, **options)
    try:
        end = time.monotonic() + 30
        while True:
            try:
                admin = psycopg.connect(host=str(place), user="postgres", autocommit=True)
                break
            except psycopg.OperationalError:
                assert server.poll() is None and time.monotonic() < end
                time.sleep(0.05)

        def address(name: str) -> str:
            return f"postgresql://postgres@/{name}?host={place}"

        def new(template: str = "template1") -> str:
            if template == "prepared" and template not in made:
                made.append(template)
                admin.execute("CREATE DATABASE prepared")
                Store.open(address("prepared"), place / "prepared").close()
            made.append(f"line{len(made)}")
            admin.execute(f"CREATE DATABASE {made[-1]} TEMPLATE {template}")
            return address(made[-1])

        yield new
        admin.close()
    finally:
        server.send_signal(signal.SIGINT)  # ends sessions and stops
        server.wait(30)
        shutil.rmtree(place)


def _programs() -> Path | None:
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((place for place in reversed(places) if (place / "initdb").exists()), None)
