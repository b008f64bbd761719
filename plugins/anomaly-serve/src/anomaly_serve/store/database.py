"""The connection to SQLite or PostgreSQL: what is durable, who waits for whom, and errors in plain words."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, exc, make_url
from sqlalchemy.engine import URL

from anomaly_core import AnomalyError, ConfigError, DataError, MissingLibrary, RunError, described

DATABASE, BACKUPS = "service.db", "backups"
PATIENCE = 30_000  # milliseconds that a writer waits for another process, such as a backup program, to let go of the file
WAL_SIZE = 64 * 2**20  # bytes that the write-ahead log keeps on disk after a checkpoint


class Database:
    """An open database, for several threads.

    SQLite runs with a write-ahead log that is flushed at each commit (``synchronous=FULL``): a power cut takes nothing that
    was committed, and who reads waits for nobody. One write goes on at a time.

    Args:
        url: as SQLAlchemy has it; None for ``service.db`` in ``folder``.
        folder: the store's.
        writable: False for one that only reads, beside a service that may be running.

    Attributes:
        path: SQLite's file; None for PostgreSQL.
    """

    def __init__(self, url: str | None, folder: Path, *, writable: bool = True) -> None:
        self.url = _checked(url, folder)
        self.folder = folder
        self.path = Path(self.url.database or "") if self.is_sqlite else None
        self.engine = _engine(self.url, writable)
        self._writes = self.engine.execution_options(writes=True)
        self._one_writer = threading.Lock()

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    def __str__(self) -> str:
        return repr(str(self.path)) if self.path else self.url.render_as_string(hide_password=True)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection whose statements all see the same state."""
        with self._said(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a transaction that is durable once the block has ended without an error."""
        with self.turn() as engine, engine.begin() as connection:
            yield connection

    @contextmanager
    def turn(self) -> Iterator[Engine]:
        """The engine of those who write, for the one whose turn it is."""
        with self._said(), self._one_writer:
            yield self._writes

    def close(self) -> None:
        """Let go of all connections. SQLite's write-ahead log goes into the file with the last of them."""
        self.engine.dispose()

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            raise self._explained(error) from error
        except exc.TimeoutError as error:
            raise RunError(f"the database {self} is too busy: {described(error)}. Try again.") from error

    def _explained(self, error: exc.DBAPIError) -> AnomalyError:
        words = " ".join(str(error.orig).split())
        where = f"the database {self}"
        if isinstance(error, exc.IntegrityError):
            return DataError(f"{where} refuses what contradicts its other rows: {words}.")
        if "malformed" in words or "not a database" in words:
            return RunError(f"{where} is damaged or is none: {words}. {self.rescue()}")
        if "is full" in words or "No space left" in words:
            return RunError(f"{where} cannot grow: {words}. Free some space; the service goes on by itself.")
        if "is locked" in words:
            return RunError(f"{where} is in use by another program: {words}. Close that, and try again.")
        if "readonly" in words or "unable to open" in words:
            return RunError(
                f"{where} cannot be opened or written: {words}. Check that the folder exists and who may write there."
            )
        advice = "Look at the disk." if self.is_sqlite else "Check the address after --database and that the server runs."
        return RunError(f"{where} failed: {words.rstrip('.?')}. {advice}")

    def rescue(self) -> str:
        """The next step when the database is damaged."""
        from anomaly_core import quoted

        if not self.is_sqlite:
            return "Restore it from a dump of pg_dump."
        backups = sorted((self.folder / BACKUPS).glob("*.db"), key=lambda path: path.stat().st_mtime)
        if backups:
            elsewhere = "" if self.path == self.folder / DATABASE else f" --database {quoted(self.url.render_as_string())}"
            return f"Restore the last backup: anomaly history restore {quoted(self.folder)} {quoted(backups[-1])}{elsewhere}"
        return f"There is no backup in {str(self.folder / BACKUPS)!r}: move the file away to begin with an empty history."


class Inserter:
    """Inserts rows into a table, many in a transaction, with little work around it: the line waits for it.

    SQLite's connection stays with it, for the one thread that calls it. PostgreSQL's is tested each time: its server may have
    been started anew.
    """

    def __init__(self, database: Database, table: Table) -> None:
        self._database = database
        names = [column.name for column in table.columns]
        quote = database.engine.dialect.identifier_preparer.quote
        places = [f":{name}" if database.is_sqlite else f"%({name})s" for name in names]
        self._sql = f"INSERT INTO {table.name} ({', '.join(map(quote, names))}) VALUES ({', '.join(places)})"
        self._connection: Connection | None = None

    def __call__(self, rows: list[dict[str, Any]]) -> None:
        """Durable when it returns; after an error, none of them is there."""
        with self._database.turn() as engine:
            try:
                connection = self._connection = self._connection or engine.connect()
                with connection.begin():
                    connection.exec_driver_sql(self._sql, rows)
            except BaseException:
                self.close()
                raise
            if not self._database.is_sqlite:
                self.close()

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def _checked(url: str | None, folder: Path) -> URL:
    if url is None:
        return URL.create("sqlite", database=str(folder / DATABASE))
    try:
        parsed = make_url(url)
    except exc.ArgumentError:  # which repeats the address, and with it the password
        raise ConfigError("--database is no address: expected postgresql://USER@HOST/NAME or sqlite:///FILE.") from None
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise ConfigError(
            f"--database {parsed.render_as_string(hide_password=True)!r}: the history is kept in a file of SQLite "
            "(sqlite:///FILE) or in PostgreSQL (postgresql://USER@HOST/NAME). Give one of these, or leave it out."
        )
    return parsed.set(drivername="sqlite")


def _engine(url: URL, writable: bool) -> Engine:
    if url.get_backend_name() != "sqlite":
        try:
            return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})
        except ModuleNotFoundError as error:
            raise MissingLibrary("PostgreSQL needs psycopg: pip install 'anomaly-serve[postgresql]'") from error
    # more threads than these wait for a connection: the page's readers are few
    engine = create_engine(url, connect_args={"timeout": PATIENCE / 1000}, pool_size=8, max_overflow=24)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction behind our back
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"journal_size_limit={WAL_SIZE}"):
            if writable:
                connection.execute(f"PRAGMA {pragma}").close()
        for pragma in (f"busy_timeout={PATIENCE}", "foreign_keys=ON", f"query_only={'OFF' if writable else 'ON'}"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # a transaction that reads first and then writes could not wait for another writer
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
