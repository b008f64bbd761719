"""Products, their versions and the settings of each. Numbers count up without gaps, whoever else writes at that moment."""

from __future__ import annotations

import re
import time
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from anomaly_core import Calibration, DataError, RunError
from anomaly_serve.faults import Conflict, FilesRemoved
from anomaly_serve.records import Settings, Version
from anomaly_serve.store.database import Database
from anomaly_serve.store.diary import get_state, put_state
from anomaly_serve.store.diary import note as note_change
from anomaly_serve.store.rows import from_json, plain_text, to_json
from anomaly_serve.store.tables import changes, products, settings, versions

_NAME = re.compile(r"(?!\s)[^\x00-\x1f\x7f-\x9f/\\?#%\ud800-\udfff]{1,100}(?<!\s)")


class Catalogue:
    """The part of the store that knows what can judge, and how."""

    _database: Database

    def products(self) -> list[str]:
        """The names, sorted."""
        with self._database.reading() as connection:
            return sorted(connection.execute(select(products.c.name)).scalars())

    def add_product(self, name: str, who: str) -> None:
        """DataError if the name is taken, or cannot stand in an address."""
        if not _NAME.fullmatch(name):
            raise DataError(
                f"a product cannot be called {name!r}: expected 1 to 100 letters, without / \\ ? # %, without control "
                "characters, and without spaces at the ends."
            )
        with self._database.writing() as connection:
            if connection.execute(select(products.c.name).where(products.c.name == name)).scalar() is not None:
                raise DataError(f"there is a product {name!r} already. Add a version to it, or choose another name.")
            connection.execute(insert(products).values(name=name, created=time.time(), who=plain_text(who)))
            note_change(connection, name, "add product", {}, who)

    def versions(self, product: str) -> list[Version]:
        """The versions of a product, newest last."""
        with self._database.reading() as connection:
            active = _product(connection, product).active
            query = select(versions).where(versions.c.product == product).order_by(versions.c.number)
            return [_version(row, active) for row in connection.execute(query)]

    def version(self, product: str, number: int) -> Version | None:
        """One version; None if there is none with this number. DataError without the product, as for what follows."""
        with self._database.reading() as connection:
            active = _product(connection, product).active
            row = connection.execute(_query(product, number)).one_or_none()
        return None if row is None else _version(row, active)

    def active(self, product: str) -> Version | None:
        """The version that judges."""
        with self._database.reading() as connection:
            number = _product(connection, product).active
            return None if number is None else _version(_row(connection, product, number), number)

    def add_version(
        self,
        product: str,
        path: str,
        *,
        calibration: Calibration,
        least_area: float | None = None,
        parent: int | None = None,
        who: str,
        note: str = "",
        taught: dict[str, Any] | None = None,
    ) -> Version:
        """Add a version with its first settings; it does not judge yet.

        Args:
            path: the run's folder or the exported file, absolute.
            calibration, least_area: of the first settings.
            parent: the version that it was taught on from.
            who, note: who added it, in what words.
            taught: how it was taught here, as a dict of JSON: noted with it, whatever happens next.
        """
        now = time.time()
        with self._database.writing() as connection:
            active = _product(connection, product, lock=True).active
            if parent is not None:
                _row(connection, product, parent)
            count = select(func.coalesce(func.max(versions.c.number), 0)).where(versions.c.product == product)
            number = connection.execute(count).scalar_one() + 1
            words = {"who": plain_text(who), "note": plain_text(note)}
            values = {"product": product, "number": number, "path": path, "parent": parent, "created": now, **words}
            connection.execute(insert(versions).values(values))
            _insert_settings(connection, product, number, Settings(1, calibration, least_area, now, who, note))
            if taught is not None:
                put_state(connection, _taught(product, number), taught)
            note_change(connection, product, "add version", {"version": number, "parent": parent, "note": words["note"]}, who)
            return _version(_row(connection, product, number), active)

    def taught(self, product: str, number: int) -> dict[str, Any] | None:
        """How a version was taught here; None for one that somebody gave."""
        with self._database.reading() as connection:
            return get_state(connection, _taught(product, number))

    def activate(self, product: str, number: int | None, who: str) -> None:
        """Let a version judge in the place of the one that does; None: none.

        Raises:
            DataError: there is none with this number.
            FilesRemoved: it has no files any more.
        """
        with self._database.writing() as connection:
            before = _product(connection, product, lock=True).active
            if number is not None and (found := _version(_row(connection, product, number), before)).removal:
                raise FilesRemoved(found)
            if number != before:
                connection.execute(update(products).where(products.c.name == product).values(active=number))
                note_change(connection, product, "activate", {"version": number, "from": before}, who)

    def judged_before(self, product: str) -> int | None:
        """The version that judged until another one was put in its place; None if there was none."""
        with self._database.reading() as connection:
            return _judged_before(connection, product)

    def remove_files(self, product: str, number: int, who: str, why: str = "") -> Version:
        """Note that the files of a version are removed, which is done after this; once noted, nothing more happens.

        Args:
            why: to what end, such as ``to keep the last 10``; empty where a person wants it.

        Raises:
            DataError: there is none with this number.
            Conflict: it judges, or it judged until the one that does was put in its place.
        """
        with self._database.writing() as connection:
            active = _product(connection, product, lock=True).active
            version = _version(_row(connection, product, number), active)
            if version.files_removed is not None:
                return version
            if number in (active, _judged_before(connection, product)):
                raise Conflict(f"version {number} of {product!r} judges, or did before the one that does: it keeps its files.")
            here = (versions.c.product == product, versions.c.number == number)
            values = {"files_removed": time.time(), "files_removed_why": plain_text(why or f"by {who}")}
            connection.execute(update(versions).where(*here).values(values))
            note_change(connection, product, "remove files", {"version": number, "why": why}, who)
            return _version(_row(connection, product, number), active)

    def settings(self, product: str, version: int) -> list[Settings]:
        """The settings of a version, newest last: those hold. Empty without the version."""
        here = (settings.c.product == product, settings.c.version == version)
        with self._database.reading() as connection:
            return [_settings(row) for row in connection.execute(select(settings).where(*here).order_by(settings.c.number))]

    def add_settings(
        self, product: str, version: int, calibration: Calibration, least_area: float | None, who: str, why: str
    ) -> Settings:
        """Judge otherwise from now on: new settings follow the others."""
        with self._database.writing() as connection:
            _product(connection, product, lock=True)
            _row(connection, product, version)
            here = (settings.c.product == product, settings.c.version == version)
            last = connection.execute(select(settings).where(*here).order_by(settings.c.number.desc()).limit(1)).one()
            added = Settings(last.number + 1, calibration, least_area, time.time(), plain_text(who), plain_text(why))
            _insert_settings(connection, product, version, added)
            before = _settings(last)
            facts = {
                "version": version,
                "number": added.number,
                "threshold": [before.calibration.threshold, calibration.threshold],
                "least_area": [before.least_area, least_area],
                "why": added.why,
            }
            note_change(connection, product, "settings", facts, who)
        return added


def _taught(product: str, number: int) -> str:
    """The key of what is kept of how a version was taught."""
    return f"taught/{product}/{number}"


def _product(connection: Connection, name: str, *, lock: bool = False) -> Row[Any]:
    """Its row; ``lock``: another service that numbers waits. SQLite has one writer anyway."""
    query = select(products).where(products.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise DataError(f"there is no product {name!r}.")
    return row


def _query(product: str, number: int) -> Select[Any]:
    return select(versions).where(versions.c.product == product, versions.c.number == number)


def _row(connection: Connection, product: str, number: int) -> Row[Any]:
    row = connection.execute(_query(product, number)).one_or_none()
    if row is None:
        raise DataError(f"product {product!r} has no version {number}.")
    return row


def _version(row: Row[Any], active: int | None) -> Version:
    removed = row.files_removed, row.files_removed_why or ""
    return Version(
        row.product, row.number, row.path, row.parent, row.created, row.who, row.note, row.number == active, *removed
    )


def _judged_before(connection: Connection, product: str) -> int | None:
    query = select(changes.c.facts).where(changes.c.product == product, changes.c.action == "activate")
    facts = connection.execute(query.order_by(changes.c.id.desc()).limit(1)).scalar()
    number: int | None = None if facts is None else from_json(facts)["from"]
    return number


def _insert_settings(connection: Connection, product: str, version: int, added: Settings) -> None:
    values = {
        "product": product,
        "version": version,
        "number": added.number,
        "calibration": to_json(added.calibration.to_dict()),
        "least_area": added.least_area,
        "time": added.time,
        "who": plain_text(added.who),
        "why": plain_text(added.why),
    }
    connection.execute(insert(settings).values(values))


def _settings(row: Row[Any]) -> Settings:
    try:
        calibration = Calibration.from_dict(from_json(row.calibration))
    except ValueError as error:
        raise RunError(
            f"settings {row.number} of {row.product!r} version {row.version} are damaged: {error}. "
            "Restore a backup: `anomaly history restore`."
        ) from error
    return Settings(row.number, calibration, row.least_area, row.time, row.who, row.why)
