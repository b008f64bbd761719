"""Who changed what; alarms of drift; jobs; and what other parts of the service want to find again."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from anomaly_core import DataError
from anomaly_serve.records import Alarm, Change, Job
from anomaly_serve.store.database import Database
from anomaly_serve.store.rows import from_json, plain_text, to_json
from anomaly_serve.store.tables import alarms, changes, jobs, states


class Diary:
    """The part of the store that keeps what is no verdict and no version."""

    _database: Database

    def changes(self, product: str, limit: int = 50, before: float | None = None, subject: str | None = None) -> list[Change]:
        """Changes of a product, newest first.

        Args:
            before: the time of the last one of the page before.
            subject: only those of the verdict with this id, its marks.
        """
        query = select(changes).where(changes.c.product == product)
        if subject is not None:
            query = query.where(changes.c.subject == subject)
        if before is not None:
            query = query.where(changes.c.time < before)
        query = query.order_by(changes.c.time.desc(), changes.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return [Change(r.time, r.who, r.product, r.action, from_json(r.facts)) for r in connection.execute(query)]

    def add_change(self, product: str, action: str, facts: dict[str, Any], who: str) -> None:
        """Note a change that the store does not know of by itself."""
        with self._database.writing() as connection:
            note(connection, product, action, facts, who)

    def add_alarm(
        self, product: str, version: int, text: str, facts: dict[str, Any], *, since: float, moment: float | None = None
    ) -> Alarm:
        """Keep an alarm, with ``since``, the first image that the change is seen in, and ``moment``, now by default."""
        values = {
            "product": product,
            "version": version,
            "time": time.time() if moment is None else moment,
            "since": since,
            "text": plain_text(text),
            "facts": to_json(facts),
        }
        with self._database.writing() as connection:
            number = connection.execute(insert(alarms).values(values).returning(alarms.c.id)).scalar_one()
            return _alarm(connection.execute(select(alarms).where(alarms.c.id == number)).one())

    def alarms(self, product: str, open_only: bool = False, limit: int = 100) -> list[Alarm]:
        """Alarms of a product, newest first; ``open_only``: those that nobody has acknowledged."""
        query = select(alarms).where(alarms.c.product == product)
        if open_only:
            query = query.where(alarms.c.acknowledged.is_(None))
        with self._database.reading() as connection:
            return [
                _alarm(r) for r in connection.execute(query.order_by(alarms.c.time.desc(), alarms.c.id.desc()).limit(limit))
            ]

    def acknowledge(self, number: int, who: str) -> Alarm:
        """Note that somebody knows of an alarm; the first time counts. DataError if there is none with this number."""
        with self._database.writing() as connection:
            row = connection.execute(select(alarms).where(alarms.c.id == number).with_for_update()).one_or_none()
            if row is None:
                raise DataError(f"there is no alarm {number}.")
            if row.acknowledged is None:
                connection.execute(update(alarms).where(alarms.c.id == number).values(acknowledged=time.time()))
                note(connection, row.product, "acknowledge", {"alarm": number, "text": row.text}, who)
            return _alarm(connection.execute(select(alarms).where(alarms.c.id == number)).one())

    def save_job(self, job: Job) -> None:
        """Keep a job as it is now, in the place of what was kept under its id."""
        values = {
            "id": job.id,
            "product": job.product,
            "state": job.state,
            "created": job.created,
            "updated": job.updated,
            "who": job.who,
            "progress": job.progress,
            "message": plain_text(job.message),
            "facts": to_json(job.facts),
        }
        with self._database.writing() as connection:
            if not connection.execute(update(jobs).where(jobs.c.id == job.id).values(values)).rowcount:
                connection.execute(insert(jobs).values(values))

    def jobs(self, product: str, limit: int = 100) -> list[Job]:
        """Jobs of a product, newest first."""
        query = select(jobs).where(jobs.c.product == product).order_by(jobs.c.created.desc(), jobs.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return [_job(row) for row in connection.execute(query)]

    def job(self, identity: str) -> Job | None:
        """One job; None if there is none with this id."""
        with self._database.reading() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == identity)).one_or_none()
        return None if row is None else _job(row)

    def keep_state(self, key: str, value: dict[str, Any]) -> None:
        """Keep a dict of JSON under a key, in the place of what was kept there."""
        with self._database.writing() as connection:
            put_state(connection, key, value)

    def state(self, key: str) -> dict[str, Any] | None:
        """What was kept under a key; None without."""
        with self._database.reading() as connection:
            return get_state(connection, key)


def note(
    connection: Connection, product: str, action: str, facts: dict[str, Any], who: str, subject: str | None = None
) -> None:
    """Write a change, in the transaction that makes it; ``subject``: the id of the verdict that it is about."""
    values = {"time": time.time(), "who": plain_text(who), "product": product, "action": action, "facts": to_json(facts)}
    connection.execute(insert(changes).values(subject=subject, **values))


def put_state(connection: Connection, key: str, value: dict[str, Any] | None) -> None:
    """Keep a value under a key; None removes it."""
    if value is None:
        connection.execute(delete(states).where(states.c.key == key))
    elif not connection.execute(update(states).where(states.c.key == key).values(value=to_json(value))).rowcount:
        connection.execute(insert(states).values(key=key, value=to_json(value)))


def get_state(connection: Connection, key: str) -> dict[str, Any] | None:
    """What was kept under a key; None without."""
    text = connection.execute(select(states.c.value).where(states.c.key == key)).scalar()
    return None if text is None else dict(from_json(text))


def _alarm(row: Row[Any]) -> Alarm:
    return Alarm(row.id, row.product, row.version, row.time, row.since, row.text, from_json(row.facts), row.acknowledged)


def _job(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        product=row.product,
        state=row.state,
        created=row.created,
        updated=row.updated,
        who=row.who,
        progress=row.progress,
        message=row.message,
        facts=from_json(row.facts),
    )
